import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { newId } from '../support/client.ts';
import { createDatabase, hasPostgres, realPostgres, redisProgram } from '../support/engines.ts';
import { kill, type Served, startServing, stopServing } from '../support/serving.ts';

const windowMs = 300;
const repairMs = 3000;
const readsWithSeq = 30_000;

describe.skipIf(redisProgram === undefined || !hasPostgres)('three processes over one PostgreSQL and one Redis', () => {
  let redis: RedisServer;
  let endpoint: RedisEndpoint;
  let instances: Served[];
  let variables: Record<string, string>;

  beforeAll(async () => {
    const { server, endpoint: neon } = await realPostgres();
    redis = await startRedis(redisProgram as string);
    endpoint = await startRedisEndpoint(redis.port);
    const config = join(await mkdtemp(join(tmpdir(), 'lamina-config-')), 'context.yaml');
    // Requests are counted here, and the search index and what looks each minute for something to do make some of their own.
    const quiet = 'search: { delayMs: 60000 }\nschedules: { indexMinutes: 0, syncMinutes: 0, factoryMinutes: 0 }';
    await writeFile(config, `cache: { windowMs: ${windowMs}, repairMs: ${repairMs} }\n${quiet}\n`);
    variables = {
      DATABASE_URL: server.url(await createDatabase()),
      LAMINA_NEON_ENDPOINT: neon.url,
      UPSTASH_REDIS_REST_URL: endpoint.url,
      UPSTASH_REDIS_REST_TOKEN: endpoint.token,
      LAMINA_CONFIG: config,
    };
    instances = await Promise.all([startServing(variables), startServing(variables), startServing(variables)]);
  });
  afterAll(async () => {
    await stopServing();
    await endpoint?.stop();
    await redis?.stop();
  });

  const any = () => instances[Math.floor(Math.random() * instances.length)] as Served;
  /** The version that is told; 0 where there is none, undefined where nobody answers in time. */
  const versionOf = async (instance: Served, id: string, headers: Record<string, string> = {}) => {
    const { status, json } = await instance.send('GET', `/v1/contexts/${id}`, undefined, headers);
    return status === 503 ? undefined : Number(json['version'] ?? 0);
  };

  test('random readers and writers: nothing stale with a seq in 30,000 reads, nothing beyond the window without', async () => {
    const ids = Array.from({ length: 30 }, () => newId());
    const acknowledged = new Map(ids.map((id) => [id, [] as { version: number; seq: string; atMs: number }[]]));
    const counts = { withSeq: 0, without: 0, writes: 0, stale: 0, beyondWindow: 0, unanswered: 0 };
    const until = Date.now() + 150_000;
    async function worker(): Promise<void> {
      while (counts.withSeq < readsWithSeq && Date.now() < until) {
        const id = ids[Math.floor(Math.random() * ids.length)] as string;
        const known = acknowledged.get(id) as { version: number; seq: string; atMs: number }[];
        if (Math.random() < 0.03) {
          const { status, json, headers } = await any().send('PUT', `/v1/contexts/${id}`, { content: Math.random() });
          if (status >= 300) continue;
          known.push({ version: Number(json['version']), seq: headers.get('context-seq') as string, atMs: Date.now() });
          known.sort((left, right) => left.version - right.version);
          counts.writes++;
        } else if (Math.random() < 0.85) {
          const last = known.at(-1);
          const version = await versionOf(any(), id, last ? { 'context-seq': last.seq } : {});
          if (version === undefined) counts.unanswered++;
          else if (version < (last?.version ?? 0)) counts.stale++;
          counts.withSeq += version === undefined ? 0 : 1;
        } else {
          const beganMs = Date.now();
          const seen = known.filter(({ atMs }) => atMs < beganMs - windowMs).at(-1);
          const version = await versionOf(any(), id);
          if (version === undefined) counts.unanswered++;
          else if (version < (seen?.version ?? 0)) counts.beyondWindow++;
          counts.without += version === undefined ? 0 : 1;
        }
      }
    }
    await Promise.all(Array.from({ length: 16 }, worker));
    expect(counts).toMatchObject({ stale: 0, beyondWindow: 0 });
    // Only a machine that is busy with something else leaves any without an answer.
    expect(counts.unanswered).toBeLessThan(readsWithSeq / 100);
    expect(counts.withSeq).toBeGreaterThanOrEqual(readsWithSeq);
    expect(counts.writes).toBeGreaterThan(300);
    await sleep(windowMs + 50);
    for (const id of ids) {
      const truth = await versionOf(any(), id, { 'cache-control': 'no-cache' });
      const seen = await Promise.all(instances.map((instance) => versionOf(instance, id)));
      expect([id, ...seen]).toEqual([id, truth, truth, truth]);
    }
  }, 200_000);

  test('one cold context asked for everywhere at once is loaded once', async () => {
    const { endpoint: neon } = await realPostgres();
    for (let round = 0; round < 3; round++) {
      const id = newId();
      await any().send('PUT', `/v1/contexts/${id}`, { content: round });
      for (const key of (await redis.command('KEYS', `*:e:head:${id}`)) as string[]) await redis.command('DEL', key);
      await sleep(windowMs + 50);
      // Who still has it (as a rule the one that wrote it) need not load it; the window is over, so all ask layer 2.
      const others = await Promise.all(
        instances.map(async (instance) => ((await explain(instance, id)).held ? [] : [instance])),
      );
      const cold = others.flat();
      expect(cold.length).toBeGreaterThanOrEqual(2);
      const before = neon.requests();
      const answers = await Promise.all(
        Array.from({ length: 60 }, (_, at) => (cold[at % cold.length] as Served).send('GET', `/v1/contexts/${id}`)),
      );
      expect(answers.every(({ json }) => json['content'] === round)).toBe(true);
      expect(neon.requests() - before).toBe(1);
    }
  });

  async function explain(instance: Served, id: string): Promise<{ held: boolean }> {
    return (await instance.send('GET', `/v1/cache/explain?id=${id}`)).json['l1'] as { held: boolean };
  }

  test('an invalidation during loads is never lost', async () => {
    for (let round = 0; round < 15; round++) {
      const id = `lost:${newId()}`;
      await any().send('PUT', `/v1/contexts/${id}`, { content: round, metadata: { tags: ['lost'] } });
      const what = [{ ids: [id] }, { tags: ['lost'] }, { pattern: 'lost:*' }, { all: true }][round % 4];
      const loading = Array.from({ length: 12 }, (_, at) =>
        (instances[at % 3] as Served).send('GET', `/v1/contexts/${id}`),
      );
      const invalidated = await any().send('POST', '/v1/cache/invalidate', what);
      await Promise.all(loading);
      const seq = String(invalidated.json['seq']);
      for (const instance of instances) {
        const read = await instance.send('GET', `/v1/contexts/${id}`, undefined, { 'context-seq': seq });
        expect(Number(read.headers.get('context-seq'))).toBeGreaterThanOrEqual(Number(seq));
        const story = (await instance.send('GET', `/v1/cache/explain?id=${id}`)).json as {
          l1: { at: number | null; why: string };
        };
        // Nothing that was loaded before the invalidation is served.
        if (story.l1.why === 'served') expect(story.l1.at).toBeGreaterThanOrEqual(Number(seq));
      }
    }
  });

  test('a writer killed between its commit and layer 2 is healed within the repair time, and never seen by who has its seq', async () => {
    const id = newId();
    const [doomed, ...others] = [await startServing(variables), ...instances];
    const first = await doomed.send('PUT', `/v1/contexts/${id}`, { content: 1 });
    expect(first.status).toBe(201);
    for (const instance of others) expect(await versionOf(instance, id)).toBe(1);
    // Its next write commits, layer 2 never hears of it, and then it dies.
    endpoint.fail('hang');
    const dying = doomed.send('PUT', `/v1/contexts/${id}`, { content: 2 }).catch(() => undefined);
    const committed = async () => versionOf(any(), id, { 'cache-control': 'no-cache' });
    const deadline = Date.now() + 5000;
    while (((await committed()) ?? 0) < 2 && Date.now() < deadline) await sleep(5);
    await kill(doomed.child);
    await dying;
    endpoint.fail(undefined);
    const changes = (await any().send('GET', '/v1/changes?since=latest')).json['nextCursor'] as string;
    for (const instance of others) expect(await versionOf(instance, id, { 'context-seq': changes })).toBe(2);
    await sleep(repairMs);
    for (const instance of others) expect(await versionOf(instance, id)).toBe(2);
  });
});
