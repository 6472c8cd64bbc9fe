import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadRoutes } from '../../lib/http/route.ts';
import { routes } from '../../lib/http/routes.ts';
import { createUpstashRedis } from '../../lib/redis/upstash.ts';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { newId, openStore, type SendOptions, type TestStore } from '../support/client.ts';
import { hasPostgres, neonEngine, pgliteEngine, realPostgres, redisProgram } from '../support/engines.ts';

const windowMs = 300;

describe.skipIf(redisProgram === undefined || !hasPostgres)('a key on several instances', () => {
  let redis: RedisServer;
  let endpoint: RedisEndpoint;
  let one: TestStore;
  let two: TestStore;

  beforeAll(async () => {
    redis = await startRedis(redisProgram as string);
    endpoint = await startRedisEndpoint(redis.port);
    const options: Parameters<typeof openStore>[1] = {
      database: await neonEngine.open(),
      // A machine that is busy is no Redis that is away.
      settings: {
        cache: {
          windowMs,
          repairMs: 60_000,
          softDeadlineMs: 2000,
          deadlineMs: 2000,
          breakerOpenMs: 500,
          breakerFailures: 1,
        },
      },
      redis: (bounds) => createUpstashRedis({ url: endpoint.url, token: endpoint.token, bounds }),
    };
    one = await openStore(neonEngine, options);
    two = await openStore(neonEngine, { ...options, isBare: true });
    Object.assign(two, { token: one.token, space: one.space });
    for (const store of [one, two]) await store.send('PUT', '/v1/contexts/first', { body: { content: store === one } });
  });
  afterAll(async () => {
    endpoint?.fail(undefined);
    await endpoint?.stop();
    await redis?.stop();
  });

  const makeKey = async () =>
    (await one.send('POST', '/v1/keys', { body: { name: 'k', scopes: ['write'] } })).json as {
      id: string;
      token: string;
    };
  async function trips(store: TestStore, method: string, path: string, options: SendOptions) {
    const { endpoint: postgres } = await realPostgres();
    const before = [endpoint.requests(), postgres.requests()] as const;
    const { status } = await store.send(method, path, options);
    return [status, `${endpoint.requests() - before[0]}/${postgres.requests() - before[1]}`];
  }

  test('costs a warm instance nothing: what it asks for anyway confirms the key', async () => {
    const { token } = await makeKey();
    const [id, other] = [newId(), newId()];
    for (const of of [id, other]) await one.send('PUT', `/v1/contexts/${of}`, { body: { content: 1 } });
    for (let use = 0; use < 2; use++) await two.send('GET', `/v1/contexts/${id}`, { token });
    expect(await trips(two, 'GET', `/v1/contexts/${id}`, { token })).toEqual([200, '0/0']);
    await sleep(windowMs + 20);
    expect(await trips(two, 'GET', `/v1/contexts/${id}`, { token })).toEqual([200, '1/0']);
    await sleep(windowMs + 20);
    expect(await trips(two, 'GET', `/v1/contexts/${other}`, { token })).toEqual([200, '1/0']);
    await sleep(windowMs + 20);
    expect(await trips(two, 'PUT', `/v1/contexts/${id}`, { token, body: { content: 2 } })).toEqual([200, '1/1']);
    await sleep(windowMs + 20);
    expect(await trips(two, 'GET', `/v1/contexts/${newId()}`, { token })).toEqual([404, '2/1']);
    await sleep(windowMs + 20);
    expect(await trips(two, 'GET', `/v1/contexts/${id}/versions`, { token })).toEqual([200, '0/1']);
    await sleep(windowMs + 20);
    // What reads nothing of the space asks for the key itself; the rest is its own look at each engine.
    expect(await trips(two, 'GET', '/readyz', { token })).toEqual([200, '2/1']);
  });

  test('is refused everywhere after the window when it was revoked, by Redis or, without it, by PostgreSQL', async () => {
    for (const failure of [undefined, 'drop'] as const) {
      const { id, token } = await makeKey();
      const context = newId();
      await one.send('PUT', `/v1/contexts/${context}`, { body: { content: 1 } });
      for (let use = 0; use < 2; use++)
        expect((await two.send('GET', `/v1/contexts/${context}`, { token })).status).toBe(200);
      expect((await one.send('DELETE', `/v1/keys/${id}`)).status).toBe(200);
      // On the instance that revoked it, at once.
      expect((await one.send('GET', `/v1/contexts/${context}`, { token })).json.code).toBe('unauthenticated');
      endpoint.fail(failure);
      await sleep(windowMs + 20);
      expect((await two.send('GET', `/v1/contexts/${context}`, { token })).json.code).toBe('unauthenticated');
      const written = await two.send('PUT', `/v1/contexts/${context}`, { token, body: { content: 'no' } });
      expect([failure, written.json.code]).toEqual([failure, 'unauthenticated']);
      expect((await one.send('GET', `/v1/contexts/${context}`)).json.content).toBe(1);
      endpoint.fail(undefined);
      await sleep(520);
    }
  });

  test('that was revoked elsewhere is refused by every route, before anything is done', async () => {
    const context = newId();
    await one.send('PUT', `/v1/contexts/${context}`, { body: { content: { a: 1 } } });
    const clock = async () => (await one.send('GET', '/v1/changes?since=latest')).json.nextCursor;
    const before = await clock();
    const bodies: Record<string, unknown> = {
      search: { query: 'a' },
      createContext: { content: 1 },
      putContext: { content: 2 },
      patchContext: { a: 2 },
      putContent: { b: 1 },
      batchGet: { ids: [context] },
      beginUpload: { sizeBytes: 10, contentType: 'text/plain' },
      batchWrite: { operations: [{ op: 'put', id: context, content: 5 }] },
      restoreVersion: { version: 1 },
      pinVersion: { pinned: true },
      mergeContexts: { sources: [{ content: 1 }, { content: 2 }], strategy: 'latest' },
      invalidateCache: { all: true },
      warmCache: {},
      createKey: { name: 'x', scopes: ['read'] },
      runMaintenance: { task: 'cleanup' },
      receiveHookEvent: { hook_event_name: 'Stop', session_id: 's' },
    };
    const asked = (await loadRoutes(routes)).filter(({ scope }) => scope !== null && scope !== 'owner');
    expect(asked.length).toBeGreaterThan(25);
    for (const route of asked) {
      const path = route.path
        .replace('{id}', context)
        .replace(/\{\w+\}/g, '1')
        .concat(
          route.operationId === 'diffVersions'
            ? '?from=1&to=1'
            : route.operationId === 'explainCache'
              ? `?id=${context}`
              : '',
        );
      const body = bodies[route.operationId];
      const types: Record<string, string> = { patchContext: 'application/merge-patch+json' };
      // Every use in a window of its own, so that no earlier one has told the instance.
      const fresh = (await one.send('POST', '/v1/keys', { body: { name: 'f', scopes: ['admin'] } })).json;
      for (let use = 0; use < 2; use++) await two.send('GET', `/v1/contexts/${context}`, { token: fresh.token });
      await one.send('DELETE', `/v1/keys/${fresh.id}`);
      await sleep(windowMs + 10);
      const answer = await two.send(route.method.toUpperCase(), path, {
        token: fresh.token,
        ...(body === undefined
          ? {}
          : { body, headers: { 'content-type': types[route.operationId] ?? 'application/json' } }),
      });
      expect([route.operationId, answer.json?.code]).toEqual([route.operationId, 'unauthenticated']);
    }
    // Nothing but the keys made here has moved the clock.
    const changes = (await one.send('GET', `/v1/changes?since=${before}`)).json.changes;
    expect(changes).toEqual([]);
  }, 60_000);
});

describe('the name of a removed space', () => {
  test('belongs to a new one at once, and nobody reaches it by what the old one had', async () => {
    const store = await openStore(pgliteEngine, { settings: { cache: { windowMs: 60_000, repairMs: 120_000 } } });
    // Another process over the same database, with a layer 2 of its own: it hears of nothing.
    const deaf = await openStore(pgliteEngine, {
      database: store.database,
      isBare: true,
      settings: { cache: { windowMs: 60_000, repairMs: 120_000 } },
    });
    const owner = { token: store.ownerToken };
    const name = `again-${process.pid}`;
    const make = async () =>
      (await store.send('POST', '/v1/spaces', { body: { name }, ...owner })).json.key.token as string;
    const old = await make();
    await store.send('PUT', '/v1/contexts/a', { token: old, body: { content: 'old' } });
    for (let use = 0; use < 3; use++) await deaf.send('GET', '/v1/contexts/a', { token: old });
    expect((await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner)).status).toBe(200);
    const token = await make();
    await store.send('PUT', '/v1/contexts/b', { token, body: { content: 'new' } });
    // It may still remember what it had read, but the database lets nobody of the old one in.
    for (const path of ['/v1/contexts/b', '/v1/contexts', '/v1/contexts/b/versions', '/v1/changes']) {
      const answer = await deaf.send('GET', path, { token: old });
      expect([path, answer.json.code]).toEqual([path, 'unauthenticated']);
    }
    const written = await deaf.send('PUT', '/v1/contexts/b', { token: old, body: { content: 'mine' } });
    expect(written.json.code).toBe('unauthenticated');
    expect((await deaf.send('GET', '/v1/contexts/b', { token })).json.content).toBe('new');
    expect((await deaf.send('GET', '/v1/contexts/a', { token })).json.code).toBe('context_not_found');
    expect((await store.send('GET', '/v1/contexts/b', { token: old })).json.code).toBe('unauthenticated');
    await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner);
  });
});
