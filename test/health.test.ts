import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../lib/postgres/database.ts';
import { createInProcessRedis } from '../lib/redis/in-process.ts';
import { createUpstashRedis } from '../lib/redis/upstash.ts';
import { createWeaviate } from '../lib/search/engines/weaviate.ts';
import type { VectorEngine } from '../lib/search/vector-engine.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from './servers/redis.ts';
import { startWeaviate, type WeaviateServer } from './servers/weaviate.ts';
import { openStore } from './support/client.ts';
import { pgliteEngine, redisProgram } from './support/engines.ts';

type Failure = 'refuse' | 'hang' | undefined;
const never = new Promise<never>(() => {});
const fail = (how: Failure) => (how === 'hang' ? never : Promise.reject(new Error('secret.host refuses')));
const settings = { cache: { originMs: 500, deadlineMs: 500 }, search: { engineMs: 500 } };

describe('/readyz', () => {
  let server: WeaviateServer;
  let engine: VectorEngine;
  let database: Database;
  let failing: { postgres: Failure; layer2: Failure };
  beforeAll(async () => {
    server = await startWeaviate();
    const { url, grpcUrl, apiKey } = server;
    const address = { url, grpcUrl, apiKey };
    engine = createWeaviate({ address, k1: 0.9, b: 0.4, queryMs: 2000, writeMs: 2000, telemetry: noTelemetry });
    const opened = await pgliteEngine.open();
    const { owner } = opened;
    database = {
      ...opened,
      owner: { run: (...call) => (failing.postgres === undefined ? owner.run(...call) : fail(failing.postgres)) },
    };
    failing = { postgres: undefined, layer2: undefined };
  });
  afterEach(() => {
    failing = { postgres: undefined, layer2: undefined };
    server.fail(undefined);
  });
  afterAll(async () => {
    await engine.close();
    await server.stop();
  });

  async function open() {
    const store = await openStore(pgliteEngine, {
      database,
      settings,
      engine,
      redis(bounds) {
        const redis = createInProcessRedis({ bounds, clock: Date.now });
        return { ...redis, ping: () => (failing.layer2 === undefined ? redis.ping() : fail(failing.layer2)) };
      },
    });
    return () => store.send('GET', '/readyz', { token: store.ownerToken });
  }

  test('tells of each engine that it answers, and how fast, and who the embedder is', async () => {
    const ask = await open();
    const { status, json } = await ask();
    const latencyMs = expect.any(Number);
    expect([status, json]).toEqual([
      200,
      {
        status: 'ready',
        engines: {
          postgres: { status: 'ready', latencyMs, slow: false },
          layer2: { kind: 'redis', status: 'ready', latencyMs },
          weaviate: { status: 'ready', latencyMs },
        },
        embedder: { id: 'static:glove-6b-30k:100:1', kind: 'built-in' },
      },
    ]);
  });

  test('names no engine that is not there', async () => {
    const store = await openStore(pgliteEngine);
    const { engines } = (await store.send('GET', '/readyz')).json;
    expect(Object.keys(engines)).toEqual(['postgres', 'layer2']);
    expect(engines.layer2).toMatchObject({ kind: 'in-process', status: 'ready' });
  });

  for (const how of ['refuse', 'hang'] as const) {
    test(`is 200 without layer 2 and without Weaviate (${how}), and says which is away`, async () => {
      const ask = await open();
      await ask();
      failing.layer2 = how;
      server.fail(how);
      const started = performance.now();
      const { status, json, text } = await ask();
      // All at once, each until its own deadline.
      expect(performance.now() - started).toBeLessThan(950);
      expect([status, json.engines]).toMatchObject([
        200,
        { postgres: { status: 'ready' }, layer2: { status: 'away' }, weaviate: { status: 'away' } },
      ]);
      expect(text).not.toMatch(/secret|127\.0\.0\.1|refuses/);
    });

    test(`is 503 without PostgreSQL (${how}) alone, and still tells of the others`, async () => {
      const ask = await open();
      await ask();
      failing.postgres = how;
      const { status, json, text, headers } = await ask();
      expect([status, json.code, json.engines]).toMatchObject([
        503,
        'unavailable',
        { postgres: { status: 'away' }, layer2: { status: 'ready' }, weaviate: { status: 'ready' } },
      ]);
      expect(headers.get('retry-after')).not.toBeNull();
      expect(text).not.toContain('secret');
    });
  }
});

describe.skipIf(redisProgram === undefined)('/readyz with a real Redis', () => {
  let redis: RedisServer;
  let endpoint: RedisEndpoint;
  beforeAll(async () => {
    redis = await startRedis(redisProgram as string);
    endpoint = await startRedisEndpoint(redis.port);
  });
  afterAll(async () => {
    await endpoint?.stop();
    await redis?.stop();
  });

  test('asks it once, leaves nothing in it, and tells when it is away', async () => {
    const { url, token } = endpoint;
    const store = await openStore(pgliteEngine, { redis: (bounds) => createUpstashRedis({ url, token, bounds }) });
    const ask = () => store.send('GET', '/readyz', { token: store.ownerToken });
    const [keys, requests] = [await redis.command('DBSIZE'), endpoint.requests()];
    expect((await ask()).json.engines.layer2).toMatchObject({ kind: 'redis', status: 'ready' });
    expect([await redis.command('DBSIZE'), endpoint.requests() - requests]).toEqual([keys, 1]);
    for (const how of ['hang', 'drop', '500'] as const) {
      endpoint.fail(how);
      expect((await ask()).json).toMatchObject({ status: 'ready', engines: { layer2: { status: 'away' } } });
    }
    endpoint.fail(undefined);
  });
});
