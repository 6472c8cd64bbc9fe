import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Change } from '../lib/contexts/context.ts';
import { readChanges } from '../lib/contexts/feed.sql.ts';
import { createFollower } from '../lib/contexts/follower.ts';
import { items } from '../lib/contexts/items.ts';
import { systemRequest } from '../lib/contexts/request.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('the feed on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const put = (id: string, body: unknown) => store.send('PUT', `/v1/contexts/${id}`, { body });
  const changes = async (query: string) => (await store.send('GET', `/v1/changes?${query}`)).json;

  test('every operation is told once, with what it was', async () => {
    const id = newId();
    const { nextCursor: since } = await changes('since=latest');
    await put(id, { content: 1 });
    await put(id, { content: 1 });
    await put(id, { content: 2 });
    await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } });
    await store.send('POST', '/v1/merge', {
      body: { strategy: 'latest', sources: [{ content: 8 }, { content: 9 }], target: { id } },
    });
    await store.send('DELETE', `/v1/contexts/${id}`);
    const told = await changes(`since=${since}`);
    expect(told.changes.map((one: { operation: string; version: number }) => [one.operation, one.version])).toEqual([
      ['put', 1],
      ['put', 2],
      ['restore', 3],
      ['merge', 4],
      ['delete', 5],
    ]);
    expect(told.nextCursor).toBe(told.changes.at(-1).cursor);
    expect((await changes(`since=${told.nextCursor}`)).changes).toEqual([]);
  });

  test('pages follow one another without a gap, and Context-Seq may be a since', async () => {
    const written = await put(newId(), { content: 1 });
    const since = written.headers.get('context-seq');
    for (let at = 0; at < 5; at++) await put(newId(), { content: at });
    const seen: string[] = [];
    for (let cursor = since; ; ) {
      const page = await changes(`since=${cursor}&limit=2`);
      if (page.changes.length === 0) break;
      seen.push(...page.changes.map((one: { cursor: string }) => one.cursor));
      cursor = page.nextCursor;
    }
    expect(seen).toEqual([1, 2, 3, 4, 5].map((step) => String(Number(since) + step)));
  });

  test('a waiting reader is answered early, and otherwise when its time is over', async () => {
    const { nextCursor } = await changes('since=latest');
    const waiting = changes(`since=${nextCursor}&waitSeconds=10`);
    await sleep(50);
    const id = newId();
    const started = performance.now();
    await put(id, { content: 1 });
    expect((await waiting).changes).toMatchObject([{ id }]);
    expect(performance.now() - started).toBeLessThan(5000);
    const idle = await changes(`since=${Number(nextCursor) + 1}&waitSeconds=1`);
    expect(idle).toEqual({ changes: [], nextCursor: String(Number(nextCursor) + 1) });
  });

  test('a change of another instance wakes a waiting reader too', async () => {
    const other = await openStore(engine, { database: store.database });
    const { nextCursor } = await changes('since=latest');
    const waiting = changes(`since=${nextCursor}&waitSeconds=10`);
    await sleep(50);
    await other.send('PUT', '/v1/contexts/from-elsewhere', { body: { content: 1 }, token: store.token });
    expect((await waiting).changes).toMatchObject([{ id: 'from-elsewhere' }]);
  });

  test('what a write says it touched is what a reader of the feed makes of it', async () => {
    const request = systemRequest(store.ref, 'test');
    const [parent, other, child] = [newId(), newId(), newId()];
    await put(parent, { content: 1 });
    await put(other, { content: 1 });
    const written: Change[] = [];
    const write = async (operation: Parameters<TestStore['manager']['contexts']['write']>[1][number]) => {
      const answer = await store.manager.contexts.write(request, [operation], { atomic: true });
      if (answer.outcome === 'done') written.push(...answer.changes);
      return answer.seq;
    };
    const content = { bytes: Buffer.from('1'), contentType: 'application/json' };
    const first = await write({ op: 'put', id: child, content, parentId: parent });
    await write({ op: 'put', id: child, parentId: other });
    await write({ op: 'delete', id: other, children: 'delete' });
    const read = await readChanges(store.database, request, { since: first - 1, limit: 50, isContextsOnly: false });
    expect(read.changes).toEqual(written);
    expect(read.changes.map(items)).toEqual([
      ['any', `c:${child}`, `p:${parent}`],
      ['any', `c:${child}`, `p:${parent}`, `p:${other}`],
      ['any', `c:${child}`, `p:${other}`],
      ['any', `c:${other}`],
    ]);
  });

  test('a follower takes each change once, its effect and its cursor together, whoever runs it and wherever it breaks', async () => {
    const other = await openStore(engine, { database: store.database });
    const { space } = other;
    for (let at = 0; at < 23; at++) await other.send('PUT', `/v1/contexts/f-${at}`, { body: { content: at } });
    let broken = 0;
    const follower = createFollower({
      database: store.database,
      name: 'audit-trail',
      batch: 5,
      effect: (batch) => {
        // Every third attempt dies between effect and commit, as a killed process would.
        const statements = batch.map((change) => ({
          text: `insert into audit (space_id, id, actor_kind, actor_id, action) values ($1, $2, 'system', 'follower', 'seen')`,
          params: [space, `seen-${String(change.tick).padStart(6, '0')}`],
        }));
        const failing = ++broken % 3 === 0 ? [{ text: 'select 1/0', params: [] }] : [];
        return { statements: [...statements, ...failing], taken: batch.length };
      },
    });
    const run = async () => {
      for (let rounds = 0; rounds < 40; rounds++) {
        const step = await follower.step(other.ref).catch(() => ({ taken: 0, hasMore: true }));
        if (!step.hasMore) break;
      }
    };
    await Promise.all([run(), run(), run()]);
    await run();
    const seen = (await other.send('GET', '/v1/audit?limit=200')).json.items.filter(
      (one: { action: string }) => one.action === 'seen',
    );
    const clock = Number((await other.send('GET', '/v1/changes?since=latest')).json.nextCursor);
    expect(seen.map((one: { id: string }) => Number(one.id.slice(5))).reverse()).toEqual(
      Array.from({ length: clock }, (_, at) => at + 1),
    );
  });
});
