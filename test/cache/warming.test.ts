import { beforeAll, describe, expect, test } from 'vitest';
import { runOne } from '../../lib/postgres/database.ts';
import { createInProcessRedis, type InProcessRedis } from '../../lib/redis/in-process.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';

describe.each(engines)('warming on $name', (engine) => {
  let nowMs = Date.now();
  let redis: InProcessRedis | undefined;
  let isRedisAway = false;
  let one: TestStore;
  const path = (id: string) => `/v1/contexts/${id}`;

  beforeAll(async () => {
    redis = undefined;
    one = await openStore(engine, {
      clock: () => nowMs,
      settings: {
        cache: { windowMs: 60_000, repairMs: 120_000, reportSeconds: 60, breakerOpenMs: 100, layer3Bytes: 100 },
      },
      redis(bounds) {
        redis = createInProcessRedis({ bounds, clock: () => nowMs });
        const own = redis;
        const unless = <Value>(run: () => Promise<Value>) => (isRedisAway ? Promise.reject(new Error('away')) : run());
        return {
          get: (...call) => unless(() => own.get(...call)),
          store: (...call) => unless(() => own.store(...call)),
          purge: (...call) => unless(() => own.purge(...call)),
          ping: (...call) => unless(() => own.ping(...call)),
        };
      },
    });
  });
  const cold = () => redis?.lose(one.ref.slot, { entries: true });
  const held = (id: string, kind = 'head') => redis?.inspect(one.ref.slot).entry(`${kind}:${id}`) !== undefined;
  const warm = async (body: unknown) => (await one.send('POST', '/v1/cache/warm', { body })).json;
  const rows = (text: string) => runOne(one.database.in({ space: one.space }), { text, params: [] });

  test('fills layer 2 by ids, kind, subtree, or with what is worth most, and counts what was there', async () => {
    const [root, leaf, note] = [newId(), newId(), newId()];
    await one.send('PUT', path(root), { body: { content: 1, kind: 'project' } });
    await one.send('PUT', path(leaf), { body: { content: 2, parentId: root } });
    await one.send('PUT', path(note), { body: { content: 3 } });
    cold();
    expect(await warm({ ids: [root, 'never-was'] })).toMatchObject({ warmed: 2, skipped: 0 });
    expect([held(root), held(leaf)]).toEqual([true, false]);
    expect(await warm({ ids: [root, leaf] })).toMatchObject({ warmed: 1, skipped: 1 });
    cold();
    expect(await warm({ kind: 'project' })).toMatchObject({ warmed: 1 });
    expect([held(root), held(leaf), held(note)]).toEqual([true, false, false]);
    cold();
    expect(await warm({ subtreeOf: root })).toMatchObject({ warmed: 1 });
    expect([held(root), held(leaf), held(note)]).toEqual([false, true, false]);
    cold();
    // Without reports, what was changed last.
    expect(await warm({ top: 2 })).toMatchObject({ warmed: 2 });
    expect([held(root), held(leaf), held(note)]).toEqual([false, true, true]);
    // Three requests for any fifty, and none of them to PostgreSQL once they are there.
    cold();
    // The state lost, the next request has its key looked at again.
    await one.send('GET', path(root));
    expect((await one.counting(() => warm({}))).requests).toBe(2);
    expect((await one.counting(() => warm({ ids: [root, leaf, note] }))).requests).toBe(0);
  });

  test('goes by what all instances read, as the writes brought it along', async () => {
    const [often, seldom, derived] = [newId(), newId(), newId()];
    for (const id of [often, seldom]) await one.send('PUT', path(id), { body: { content: id } });
    await one.send('PUT', path(derived), { body: { content: { x: 'y'.repeat(200) }, parentId: often } });
    for (let read = 0; read < 9; read++) await one.send('GET', path(often));
    for (let read = 0; read < 5; read++) await one.send('GET', `${path(derived)}?resolve=ancestors`);
    await one.send('GET', path(seldom));
    const before = (await rows('select count(*) as n from cache_report'))[0]?.['n'];
    nowMs += 61_000;
    // The report is in the write's own transaction: one request, and there at once.
    const { requests } = await one.counting(() => one.send('PUT', path(newId()), { body: { content: 1 } }));
    expect(requests).toBe(1);
    const [report] = await rows(
      'select kinds::text as kinds, accesses::text as accesses from cache_report order by at desc limit 1',
    );
    expect((await rows('select count(*) as n from cache_report'))[0]?.['n']).toBe(String(Number(before) + 1));
    const accesses = JSON.parse(report?.['accesses'] ?? '{}');
    expect([accesses[`head:${often}`], accesses[`effective:${derived}`], accesses[`head:${seldom}`]]).toEqual([
      9, 5, 1,
    ]);
    expect(JSON.parse(report?.['kinds'] ?? '{}').head.l1Hits).toBeGreaterThan(8);
    const [statistics] = await rows("select hit_rate, l1_hits from cache_statistics where kind = 'head'");
    expect(Number(statistics?.['hit_rate'])).toBeGreaterThan(0.5);
    cold();
    expect(await warm({ top: 2 })).toMatchObject({ warmed: 2 });
    expect([held(often), held(derived, 'effective'), held(seldom)]).toEqual([true, true, false]);
    // Nothing is reported twice, and nothing without a write.
    nowMs += 61_000;
    await one.send('GET', path(often));
    expect((await rows('select count(*) as n from cache_report'))[0]?.['n']).toBe(String(Number(before) + 1));
  });

  test('ends at its budget, and with a layer 2 that is away it does nothing and breaks nothing', async () => {
    const ids = Array.from({ length: 120 }, () => newId());
    const operations = (of: string[]) => of.map((id) => ({ op: 'put', id, content: 1 }));
    for (const part of [ids.slice(0, 60), ids.slice(60)])
      await one.send('POST', '/v1/batch/write', { body: { operations: operations(part) } });
    cold();
    const { warmed, skipped } = await one.manager.caching.warm(one.ref, { ids, budgetMs: 1000 });
    expect([warmed, skipped]).toEqual([120, 0]);
    cold();
    const cut = await one.manager.caching.warm(one.ref, { ids, budgetMs: 0 });
    expect(cut).toMatchObject({ warmed: 0, skipped: 120 });
    isRedisAway = true;
    expect(await warm({ ids })).toMatchObject({ warmed: 0, skipped: 120 });
    isRedisAway = false;
    nowMs += 10_000;
  });

  test('skips what cannot be given and goes on', async () => {
    const store = await openStore(engine, { settings: { cache: { reportSeconds: 0 } } });
    const [root, leaf, other] = [newId(), newId(), newId()];
    const half = 'x'.repeat(2_200_000);
    await store.send('PUT', path(root), { body: { content: half, contentType: 'text/plain' } });
    await store.send('PUT', path(leaf), { body: { content: half, contentType: 'text/plain', parentId: root } });
    await store.send('PUT', path(other), { body: { content: 1 } });
    expect((await store.send('GET', `${path(leaf)}?resolve=ancestors`)).json.code).toBe('context_too_large');
    await runOne(store.database.in({ space: store.space }), {
      text: "insert into cache_report (space_id, id, kinds, accesses) values (current_setting('lamina.space'), 'r', '{}', $1::jsonb) returning id",
      params: [JSON.stringify({ [`effective:${leaf}`]: 100, [`head:${other}`]: 1 })],
    });
    const answer = (await store.send('POST', '/v1/cache/warm', { body: {} })).json;
    expect(answer.skipped).toBeGreaterThan(0);
    expect(answer).not.toHaveProperty('code');
  });

  test('what is no plan is refused', async () => {
    for (const body of [{ ids: [] }, { ids: ['a'], kind: 'note' }, { top: 0 }, { budgetMs: 1 }, { what: 1 }])
      expect([body, (await warm(body)).code]).toEqual([body, 'invalid_request']);
  });

  test('tasks of the schedule run on demand', async () => {
    const run = async (task: string) => (await one.send('POST', '/v1/maintenance/run', { body: { task } })).json;
    expect(await run('warm')).toMatchObject({ task: 'warm' });
    expect(await run('reconcile')).toMatchObject({ task: 'reconcile', unfinished: false });
    expect(await run('cleanup')).toMatchObject({ task: 'cleanup', unfinished: false });
    expect(await run('else')).toMatchObject({ code: 'invalid_request' });
  });

  test('reconciliation removes the bytes of what was erased while layer 2 was away, and brings its watermark up', async () => {
    const [id, parent] = [newId(), newId()];
    await one.send('PUT', path(parent), { body: { content: { canary: 'bytes to go' } } });
    await one.send('PUT', path(id), { body: { content: { b: 1 }, parentId: parent } });
    await one.send('GET', `${path(id)}?resolve=ancestors`);
    await one.send('GET', '/v1/contexts?include=content&limit=200');
    expect([held(parent), held(id, 'effective')]).toEqual([true, true]);
    isRedisAway = true;
    expect((await one.send('DELETE', `${path(parent)}?erase=true&children=orphan`)).status).toBe(200);
    isRedisAway = false;
    nowMs += 10_000;
    expect([held(parent), held(id, 'effective')]).toEqual([true, true]);
    const { changes } = (await one.send('POST', '/v1/maintenance/run', { body: { task: 'reconcile' } })).json;
    expect(changes).toBeGreaterThan(0);
    expect([held(parent), held(id, 'effective')]).toEqual([false, false]);
    expect(JSON.stringify([...(redis?.snapshot().entries ?? [])])).not.toContain('bytes to go');
    const clock = Number((await one.send('GET', '/v1/changes?since=latest')).json.nextCursor);
    expect(redis?.inspect(one.ref.slot).state?.applied).toBe(clock);
    // Away, it fails and its cursor stays: the next run does what is left.
    await one.send('DELETE', `${path(id)}?erase=true`);
    isRedisAway = true;
    await expect(one.manager.reconcile({ only: one.ref, budgetMs: 1000 })).rejects.toThrow();
    isRedisAway = false;
    nowMs += 10_000;
    expect((await one.manager.reconcile({ only: one.ref, budgetMs: 1000 }))[one.space]?.changes).toBeGreaterThan(0);
  });

  test('a reconciliation that comes after the feed was pruned removes everything once, and follows from there', async () => {
    const store = await openStore(engine, { settings: { cache: { windowMs: 0 } } });
    for (let at = 0; at < 5; at++) await store.send('PUT', path(newId()), { body: { content: at } });
    await store.database.in({ space: store.space }).run([
      { text: 'delete from change where tick <= 3', params: [] },
      { text: 'update space set feed_floor = 3', params: [] },
    ]);
    const run = async () => (await store.send('POST', '/v1/maintenance/run', { body: { task: 'reconcile' } })).json;
    expect(await run()).toMatchObject({ task: 'reconcile', unfinished: false, changes: 3 });
    expect(await run()).toMatchObject({ task: 'reconcile', changes: 0 });
  });

  test('cleanup removes old reports and entries whose time is over', async () => {
    await rows(
      "insert into cache_report (space_id, id, at, kinds, accesses) values (current_setting('lamina.space'), 'old', now() - interval '8 days', '{}', '{}') returning id",
    );
    await rows(
      "insert into cache_entry (space_id, kind, key, at, deps, body, expires_at) values (current_setting('lamina.space'), 'test', 'old', 1, '{}', 'x', now() - interval '1 second') returning key",
    );
    const { cacheReports, cacheEntries } = (
      await one.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } })
    ).json;
    expect([cacheReports, cacheEntries]).toEqual([1, 1]);
  });
});
