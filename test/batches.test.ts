import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('batches on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const write = (operations: unknown[], atomic = false, headers = {}) =>
    store.send('POST', '/v1/batch/write', { body: { operations, atomic }, headers });
  const get = (id: string) => store.send('GET', `/v1/contexts/${id}`);

  test('a parent made earlier in the batch counts, one made later does not', async () => {
    const [parent, child, early] = [newId(), newId(), newId()];
    const done = await write([
      { op: 'put', id: early, content: 1, parentId: parent },
      { op: 'put', id: parent, content: 1 },
      { op: 'put', id: child, content: 1, parentId: parent },
    ]);
    expect(done.json.results.map((one: { status: number }) => one.status)).toEqual([422, 201, 201]);
    expect(done.json.results[0].problem.code).toBe('parent_not_found');
    expect((await get(early)).status).toBe(404);
  });

  test('without atomic each operation stands for itself', async () => {
    const [a, b] = [newId(), newId()];
    await write([{ op: 'put', id: a, content: 1 }]);
    const done = await write([
      { op: 'put', id: a, content: 2, ifVersion: 9 },
      { op: 'put', id: b, content: 1, ifVersion: 0 },
      { op: 'delete', id: newId() },
      { op: 'put', id: newId(), parentId: b, content: 1 },
    ]);
    expect(done.json.results.map((one: { status: number }) => one.status)).toEqual([412, 201, 404, 201]);
    expect(done.json.results[0].problem).toMatchObject({ code: 'version_conflict', currentVersion: 1 });
  });

  test('atomic is all or none, and names the operation that failed', async () => {
    const [a, b] = [newId(), newId()];
    const clock = async () => (await store.send('GET', '/v1/changes?since=latest')).json.nextCursor;
    const before = await clock();
    const refused = await write(
      [
        { op: 'put', id: a, content: 1 },
        { op: 'put', id: b, content: 1, ifVersion: 3 },
      ],
      true,
    );
    expect([refused.status, refused.json.code, refused.json.operation]).toEqual([412, 'version_conflict', 1]);
    expect((await get(a)).status).toBe(404);
    expect(await clock()).toBe(before);
    expect(
      (
        await write(
          [
            { op: 'put', id: a, content: 1 },
            { op: 'put', id: b, content: 1 },
          ],
          true,
        )
      ).status,
    ).toBe(200);
  });

  test('what one operation cannot be is its own problem; atomic names it', async () => {
    const [good, bad] = [newId(), newId()];
    const operations = [
      { op: 'put', id: bad, content: 'a\u0000', contentType: 'text/plain' },
      { op: 'put', id: good, content: 1 },
    ];
    const { json } = await store.send('POST', '/v1/batch/write', { body: { operations } });
    expect(json.results).toMatchObject([
      { index: 0, status: 422, problem: { code: 'unprocessable' } },
      { index: 1, status: 201, context: { id: good } },
    ]);
    const all = await store.send('POST', '/v1/batch/write', {
      body: { operations: operations.reverse(), atomic: true },
    });
    expect(all.json).toMatchObject({ code: 'unprocessable', operation: 1 });
    const single = { operations: [{ op: 'delete', id: 'nothing-here' }], atomic: true };
    expect((await store.send('POST', '/v1/batch/write', { body: single })).json).toMatchObject({
      code: 'context_not_found',
      operation: 0,
    });
    for (const wrong of [
      { op: 'put', id: good, content: 1, ttlSeconds: 5, expiresAt: '2100-01-01T00:00:00Z' },
      { op: 'put', id: good, contentType: 'text/plain' },
    ]) {
      const answer = await store.send('POST', '/v1/batch/write', { body: { operations: [wrong] } });
      expect(answer.json.code).toBe('invalid_request');
    }
  });

  test('the answer to a batch holds at most 4 MiB of contents', async () => {
    const ids = Array.from({ length: 3 }, () => newId());
    for (const id of ids) await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 'x'.repeat(3_000_000) } });
    const operations = ids.map((id) => ({ op: 'put', id, kind: 'memo' }));
    const answer = await store.send('POST', '/v1/batch/write', { body: { operations } });
    expect(answer.text.length).toBeLessThan(4_300_000);
    expect(answer.json.results.map((one: { context: { contentUrl?: string } }) => 'contentUrl' in one.context)).toEqual(
      [false, true, true],
    );
    const twice = await store.send('POST', '/v1/batch/get', { body: { ids: [ids[0], ids[0]] } });
    expect(twice.json.items.map((one: { content: string | null }) => one.content === null)).toEqual([false, true]);
  });

  test('each change has its own tick, in the order sent', async () => {
    const ids = [newId('z'), newId('a'), newId('m')];
    const since = (await store.send('GET', '/v1/changes?since=latest')).json.nextCursor;
    await write(
      ids.map((id) => ({ op: 'put', id, content: id })),
      true,
    );
    const { changes, nextCursor } = (await store.send('GET', `/v1/changes?since=${since}`)).json;
    expect(changes.map((one: { id: string }) => one.id)).toEqual(ids);
    expect(changes.map((one: { cursor: string }) => Number(one.cursor))).toEqual(
      [1, 2, 3].map((step) => Number(since) + step),
    );
    expect(nextCursor).toBe(String(Number(since) + 3));
  });

  test('an id may be named once, and there are at most 100', async () => {
    const id = newId();
    expect(
      (
        await write([
          { op: 'put', id, content: 1 },
          { op: 'delete', id },
        ])
      ).json.code,
    ).toBe('invalid_request');
    const many = Array.from({ length: 101 }, () => ({ op: 'put', id: newId(), content: 1 }));
    expect((await write(many)).json.code).toBe('invalid_request');
    expect((await write(many.slice(0, 100))).json.results).toHaveLength(100);
  });

  test('a batch read answers in the order asked, problems in their places', async () => {
    const [a, b, gone] = [newId(), newId(), newId()];
    await write([a, b, gone].map((id) => ({ op: 'put', id, content: { id } })));
    await write([{ op: 'delete', id: gone }]);
    const { items } = (await store.send('POST', '/v1/batch/get', { body: { ids: [b, 'nope', a, gone] } })).json;
    expect(items.map((one: { id?: string; code?: string }) => one.code ?? one.id)).toEqual([
      b,
      'context_not_found',
      a,
      'gone',
    ]);
    expect(items[0].content).toEqual({ id: b });
  });

  test('an answer holds at most 4 MiB of contents; what follows comes with its address', async () => {
    const ids = [newId('big'), newId('big'), newId('big')];
    const text = 'x'.repeat(1_500_000);
    for (const id of ids)
      await store.send('PUT', `/v1/contexts/${id}`, { body: { content: text, contentType: 'text/plain' } });
    const { items } = (await store.send('POST', '/v1/batch/get', { body: { ids } })).json;
    expect(items.map((one: { content: string | null }) => one.content?.length ?? null)).toEqual([
      1_500_000,
      1_500_000,
      null,
    ]);
    expect((await store.send('GET', items[2].contentUrl)).text).toBe(text);
    const listed = (await store.send('GET', `/v1/contexts?include=content&kind=note&order=updated&limit=3`)).json.items;
    expect(listed.map((one: { content: string | null }) => one.content === null)).toEqual([false, false, true]);
  });
});
