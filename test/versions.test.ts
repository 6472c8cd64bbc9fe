import { applyPatch } from 'diff';
import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('versions on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { versions: { retained: 5 } } });
  });
  const put = (id: string, body: unknown) => store.send('PUT', `/v1/contexts/${id}`, { body });
  const get = (id: string, path = '') => store.send('GET', `/v1/contexts/${id}${path}`);
  const kept = async (id: string) =>
    (await get(id, '/versions?limit=200')).json.items.map((one: { version: number }) => one.version);
  const write = async (id: string, count: number) => {
    for (let at = 1; at <= count; at++) await put(id, { content: { at, id } });
  };

  test('history comes newest first, in pages, without contents', async () => {
    const id = newId();
    await write(id, 4);
    await store.send('DELETE', `/v1/contexts/${id}`);
    const first = (await get(id, '/versions?limit=2')).json;
    expect(first.items.map((one: { version: number; operation: string }) => [one.version, one.operation])).toEqual([
      [5, 'delete'],
      [4, 'put'],
    ]);
    const second = (await get(id, `/versions?limit=200&cursor=${first.nextCursor}`)).json;
    expect(second.items.map((one: { version: number }) => one.version)).toEqual([3, 2, 1]);
    expect(second.nextCursor).toBeNull();
    expect(second.items[0]).not.toHaveProperty('content');
    expect((await get(newId(), '/versions')).json.code).toBe('context_not_found');
  });

  test('a version tells why it was made, where its writer said so, and a merge keeps what was said', async () => {
    const id = newId();
    const put = (content: unknown, message?: string, headers = {}, query = '') =>
      store.send('PUT', `/v1/contexts/${id}${query}`, { body: { content, message }, headers });
    await put({ a: 1 }, 'begun');
    await put({ a: 1, b: 1 });
    await put({ a: 2 }, 'from elsewhere', { 'if-match': '"1"' }, '?onConflict=three-way');
    const { json } = await store.send('GET', `/v1/contexts/${id}/versions`);
    expect(json.items.map((one: { message?: string }) => one.message)).toEqual(['from elsewhere', undefined, 'begun']);
  });

  test('beyond the retained number the oldest go with the write; the head and pins stay', async () => {
    const id = newId();
    await write(id, 3);
    const pin = (version: number, pinned: boolean) =>
      store.send('POST', `/v1/contexts/${id}/versions/${version}/pin`, { body: { pinned } });
    expect((await pin(2, true)).json).toMatchObject({ version: 2, pinned: true });
    for (let at = 4; at <= 12; at++) await put(id, { content: { at } });
    expect(await kept(id)).toEqual([12, 11, 10, 9, 8, 2]);
    expect((await get(id, '?version=3')).json.code).toBe('version_not_found');
    expect((await get(id, '?version=2')).json.content.at).toBe(2);
    await pin(2, false);
    await put(id, { content: 'last' });
    expect(await kept(id)).toEqual([13, 12, 11, 10, 9]);
    expect((await pin(3, true)).json.code).toBe('version_not_found');
  });

  test('?at= tells nothing of a time whose version is gone, though an older one is pinned', async () => {
    const id = newId();
    const times: string[] = [];
    for (let n = 1; n <= 12; n++) {
      times.push((await store.send('PUT', `/v1/contexts/${id}`, { body: { content: n } })).json.updatedAt);
      if (n === 1) await store.send('POST', `/v1/contexts/${id}/versions/1/pin`, { body: { pinned: true } });
    }
    const { items } = (await store.send('GET', `/v1/contexts/${id}/versions`)).json;
    const kept = new Set(items.map((one: { version: number }) => one.version));
    expect(kept.has(1) && !kept.has(2)).toBe(true);
    for (const [index, at] of times.entries()) {
      const version = index + 1;
      const read = await store.send('GET', `/v1/contexts/${id}?at=${at}`);
      // The pinned first was the head until a time that nobody knows any more.
      const isTold = kept.has(version) && version !== 1;
      expect([version, read.json.code ?? read.json.version]).toEqual([version, isTold ? version : 'version_not_found']);
    }
  });

  test('a content that other versions hold stays when one of them goes', async () => {
    const [a, b] = [newId(), newId()];
    await put(a, { content: 'shared', contentType: 'text/plain' });
    await put(b, { content: 'shared', contentType: 'text/plain' });
    await write(a, 6);
    expect(await kept(a)).toEqual([7, 6, 5, 4, 3]);
    expect((await get(b)).json.content).toBe('shared');
  });

  test('a restore is a new version with the old content, type, kind and metadata, in its present place', async () => {
    const [id, parent] = [newId(), newId()];
    await put(parent, { content: 0 });
    await put(id, { content: 'one', contentType: 'text/plain', kind: 'memo', metadata: { a: 1 } });
    await put(id, { content: { two: 2 }, kind: 'note', metadata: { b: 2 }, parentId: parent });
    const restore = (version: number) => store.send('POST', `/v1/contexts/${id}/restore`, { body: { version } });
    const restored = await restore(1);
    expect(restored.status).toBe(200);
    expect(restored.json).toMatchObject({
      version: 3,
      content: 'one',
      contentType: 'text/plain',
      kind: 'memo',
      metadata: { a: 1 },
      parentId: parent,
    });
    expect((await restore(1)).json).toMatchObject({ version: 3, unchanged: true });
    await store.send('DELETE', `/v1/contexts/${id}`);
    expect((await restore(4)).json.code).toBe('unprocessable');
    expect((await restore(2)).json).toMatchObject({ version: 5, content: { two: 2 }, parentId: null });
    expect((await restore(99)).json.code).toBe('version_not_found');
    expect((await store.send('POST', `/v1/contexts/${newId()}/restore`, { body: { version: 1 } })).json.code).toBe(
      'context_not_found',
    );
    expect((await get(id, '/versions')).json.items[0].operation).toBe('restore');
  });

  test('JSON versions differ by a JSON Patch that leads from one to the other, numbers as they were spelled', async () => {
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}`, { raw: '{"content":{"a":[1,2,3],"b":{"c":1},"gone":true}}' });
    await store.send('PUT', `/v1/contexts/${id}`, {
      raw: '{"content":{"a":[1,9,2,3],"b":{"c":1.50},"new/~":12345678901234567890}}',
    });
    const diff = await get(id, '/diff?from=1&to=2');
    expect(diff.text).toContain('12345678901234567890');
    expect(diff.text).toContain('1.50');
    const patch = diff.text.slice(diff.text.indexOf('['), diff.text.lastIndexOf(']') + 1);
    await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } });
    const patched = await store.send('PATCH', `/v1/contexts/${id}`, {
      raw: patch,
      headers: { 'content-type': 'application/json-patch+json' },
    });
    expect(patched.json.content).toEqual((await get(id, '?version=2')).json.content);
  });

  test('texts differ by a unified diff that other programs apply', async () => {
    const id = newId();
    const lines = Array.from({ length: 40 }, (_, at) => `line ${at}`);
    const from = lines.join('\n');
    const to = [...lines.slice(0, 5), 'new', ...lines.slice(6, 30), ...lines.slice(31), 'end', ''].join('\n');
    await put(id, { content: from, contentType: 'text/plain' });
    await put(id, { content: to, contentType: 'text/plain' });
    const { patch } = (await get(id, '/diff?from=1&to=2')).json;
    expect(applyPatch(from, patch)).toBe(to);
    expect((await get(id, '/diff?from=2&to=2')).json.patch).toBe('');
    expect((await get(id, '/diff?from=1&to=7')).json.code).toBe('version_not_found');
    expect((await get(id, '/diff?from=1')).json.code).toBe('invalid_request');
  });

  test('cleanup brings the history down to what a smaller setting keeps, and collects contents nobody holds', async () => {
    const id = newId();
    await write(id, 5);
    const frugal = await openStore(engine, { settings: { versions: { retained: 2 } }, database: store.database });
    const report = await frugal.manager.cleanup({ only: store.ref, budgetMs: 10_000 });
    expect(report[store.space]!.versions).toBeGreaterThanOrEqual(3);
    expect(await kept(id)).toEqual([5, 4]);
    expect((await get(id)).json.content).toEqual({ at: 5, id });
  });

  test('no version younger than the retained days goes', async () => {
    const young = await openStore(engine, {
      settings: { versions: { retained: 2, retainedDays: 1 } },
      database: store.database,
    });
    const id = newId();
    for (let at = 0; at < 6; at++) await young.send('PUT', `/v1/contexts/${id}`, { body: { content: at } });
    await young.manager.cleanup({ only: young.ref, budgetMs: 10_000 });
    expect((await young.send('GET', `/v1/contexts/${id}/versions`)).json.items).toHaveLength(6);
  });

  test('tombstones are forgotten after their days, and the feed after its own', async () => {
    const quick = await openStore(engine, {
      settings: { tombstones: { retainedDays: 0.000_000_1 }, feed: { retainedDays: 0.000_000_1 } },
      database: store.database,
    });
    const id = newId();
    await quick.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
    await quick.send('DELETE', `/v1/contexts/${id}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const report = await quick.manager.cleanup({ only: quick.ref, budgetMs: 10_000 });
    expect(report[quick.space]).toMatchObject({ tombstones: 1, isUnfinished: false });
    expect((await quick.send('GET', `/v1/contexts/${id}`)).json.code).toBe('context_not_found');
    const expired = (await quick.send('GET', '/v1/changes?since=0')).json;
    expect(expired.code).toBe('cursor_expired');
    expect((await quick.send('GET', `/v1/changes?since=${expired.resumeFrom}`)).json.changes).toEqual([]);
  });
});
