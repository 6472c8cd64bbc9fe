import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { databaseUnavailable } from '../../lib/postgres/database.ts';
import { createInProcessRedis, type InProcessRedis } from '../../lib/redis/in-process.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { intercept } from '../support/intercept.ts';

const graceMs = 60_000;

describe('with PostgreSQL away', () => {
  let isAway = false;
  let isRedisAway = false;
  let calls = 0;
  let nowMs = 0;
  let one: TestStore;
  let two: TestStore;
  let shared: InProcessRedis | undefined;

  beforeEach(async () => {
    isAway = false;
    isRedisAway = false;
    nowMs = Date.now();
    shared = undefined;
    const database = await pgliteEngine.open();
    const flaky = intercept(database, async (run) => {
      calls++;
      if (isAway) throw databaseUnavailable(new Error('away'));
      return run();
    });
    const options: Parameters<typeof openStore>[1] = {
      database: flaky,
      clock: () => nowMs,
      settings: { cache: { windowMs: 1000, repairMs: 10_000, graceMs, breakerFailures: 3, leaseMs: 0 } },
      redis(bounds) {
        shared ??= createInProcessRedis({ bounds, clock: () => nowMs });
        const redis = shared;
        const unless = <Value>(run: () => Promise<Value>) => (isRedisAway ? Promise.reject(new Error('away')) : run());
        return {
          get: (...call) => unless(() => redis.get(...call)),
          store: (...call) => unless(() => redis.store(...call)),
          purge: (...call) => unless(() => redis.purge(...call)),
          ping: (...call) => unless(() => redis.ping(...call)),
        };
      },
    };
    one = await openStore(pgliteEngine, options);
    two = Object.assign(await openStore(pgliteEngine, { ...options, isBare: true }), {
      token: one.token,
      space: one.space,
    });
  });

  const read = async (store: TestStore, path: string, headers: Record<string, string> = {}) => {
    const answer = await store.send('GET', path, { headers });
    return [answer.status, answer.json.content ?? answer.json.code, answer.headers.get('cache-status')];
  };

  test('reads are answered from the layers, marked stale and with their age, until the grace is over', async () => {
    const id = newId();
    const path = `/v1/contexts/${id}`;
    await one.send('PUT', path, { body: { content: 'kept' } });
    for (const store of [one, two]) for (let use = 0; use < 2; use++) await store.send('GET', path);
    isAway = true;
    nowMs += 5000;
    // Within the repair time layer 2 vouches; beyond, nobody does.
    expect(await read(two, path)).toEqual([200, 'kept', expect.stringMatching(/^l1; hit$/)]);
    nowMs += 20_000;
    const stale = await one.send('GET', path);
    expect([stale.status, stale.json.content]).toEqual([200, 'kept']);
    expect(stale.headers.get('cache-status')).toBe('l1; hit; detail=stale');
    expect(Number(stale.headers.get('age'))).toBeGreaterThanOrEqual(25);
    expect(Number(stale.headers.get('age'))).toBeLessThan(40);
    // Who names a tick, or asks past the caches, is not fobbed off; nor are writes.
    const seq = stale.headers.get('context-seq') as string;
    expect((await read(one, path, { 'context-seq': seq })).slice(0, 2)).toEqual([503, 'unavailable']);
    expect((await read(one, path, { 'cache-control': 'no-cache' })).slice(0, 2)).toEqual([503, 'unavailable']);
    expect((await one.send('PUT', path, { body: { content: 'no' } })).status).toBe(503);
    // What no layer holds is not made up, and neither is a list that was never read.
    expect((await read(one, `/v1/contexts/${newId()}`)).slice(0, 2)).toEqual([503, 'unavailable']);
    expect((await one.send('GET', '/v1/contexts?kind=other')).status).toBe(503);
    nowMs += graceMs;
    expect((await read(one, path)).slice(0, 2)).toEqual([503, 'unavailable']);
    isAway = false;
    // The breaker lets one request try.
    expect((await read(one, path)).slice(0, 2)).toEqual([200, 'kept']);
  });

  test('what another layer has is as good, and both away leave layer 1', async () => {
    const id = newId();
    const path = `/v1/contexts/${id}`;
    const { headers } = await one.send('PUT', path, { body: { content: 'far' } });
    await two.send('GET', `/v1/contexts/${newId()}`, {
      headers: { 'context-seq': headers.get('context-seq') as string },
    });
    isAway = true;
    nowMs += 20_000;
    // This instance has never read it: layer 2 has.
    expect(await read(two, path)).toEqual([200, 'far', expect.stringMatching(/^l2; hit; ttl=-\d+; detail=stale/)]);
    isRedisAway = true;
    expect(await read(one, path)).toEqual([200, 'far', 'l1; hit; detail=stale']);
    expect((await read(two, path)).slice(0, 2)).toEqual([503, 'unavailable']);
  });

  test('nothing older than an own write or a known change is served', async () => {
    const id = newId();
    const path = `/v1/contexts/${id}`;
    await one.send('PUT', path, { body: { content: 1 } });
    for (const store of [one, two]) await store.send('GET', path);
    // Layer 2 does not hear of this one.
    isRedisAway = true;
    await one.send('PUT', path, { body: { content: 2 } });
    isRedisAway = false;
    isAway = true;
    nowMs += 20_000;
    // Its own writer knows better than layer 2, and has nothing newer to show.
    expect((await read(one, path)).slice(0, 2)).toEqual([503, 'unavailable']);
    // The other instance cannot know: beyond the bounds, and marked so.
    expect(await read(two, path)).toEqual([200, 1, 'l1; hit; detail=stale']);
    isAway = false;
    nowMs += 6000;
    expect((await read(two, path)).slice(0, 2)).toEqual([200, 2]);
    // Invalidated means gone, with PostgreSQL or without.
    await two.send('POST', '/v1/cache/invalidate', { body: { ids: [id] } });
    isAway = true;
    nowMs += 20_000;
    expect((await read(two, path)).slice(0, 2)).toEqual([503, 'unavailable']);
  });

  test('a key works on within the grace, unless it is known to be revoked', async () => {
    const path = `/v1/contexts/${newId()}`;
    await one.send('PUT', path, { body: { content: 'x' } });
    const { token, id } = (await one.send('POST', '/v1/keys', { body: { name: 'k', scopes: ['read'] } })).json;
    for (let use = 0; use < 2; use++) expect((await one.send('GET', path, { token })).status).toBe(200);
    isAway = true;
    nowMs += 20_000;
    expect((await one.send('GET', path, { token })).status).toBe(200);
    isAway = false;
    nowMs += 6000;
    await one.send('DELETE', `/v1/keys/${id}`);
    isAway = true;
    nowMs += 20_000;
    expect([401, 503]).toContain((await one.send('GET', path, { token })).status);
  });

  test('PostgreSQL is soon not even asked where the layers have the answer, and asked again after a while', async () => {
    const path = `/v1/contexts/${newId()}`;
    await one.send('PUT', path, { body: { content: 'x' } });
    for (let use = 0; use < 2; use++) await one.send('GET', path);
    isAway = true;
    nowMs += 20_000;
    for (let use = 0; use < 5; use++) {
      expect((await one.send('GET', path)).status).toBe(200);
      nowMs += 10;
    }
    const before = calls;
    for (let use = 0; use < 5; use++) expect((await one.send('GET', path)).status).toBe(200);
    expect(calls).toBe(before);
    isAway = false;
    nowMs += 6000;
    expect((await read(one, path)).slice(0, 2)).toEqual([200, 'x']);
    expect(calls).toBeGreaterThan(before);
    const { kinds } = (await one.send('GET', '/v1/cache')).json;
    expect(kinds.head.stale).toBeGreaterThan(5);
    await sleep(0);
  });

  test('no grace is no stale answer', async () => {
    const path = `/v1/contexts/${newId()}`;
    const database = await pgliteEngine.open();
    const strict = await openStore(pgliteEngine, {
      database: {
        ...database,
        in: (visitor) =>
          isAway ? { run: () => Promise.reject(databaseUnavailable(new Error('away'))) } : database.in(visitor),
      },
      clock: () => nowMs,
      settings: { cache: { graceMs: 0 } },
    });
    await strict.send('PUT', path, { body: { content: 'x' } });
    for (let use = 0; use < 2; use++) await strict.send('GET', path);
    isAway = true;
    nowMs += 20_000;
    expect((await strict.send('GET', path)).status).toBe(503);
  });
});
