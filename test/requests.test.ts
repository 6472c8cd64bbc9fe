import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type SendOptions, type TestStore } from './support/client.ts';
import { engines, hasPostgres, neonEngine, realPostgres } from './support/engines.ts';

describe.each(engines)('requests to PostgreSQL on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { cache: { windowMs: 60_000, repairMs: 120_000 } } });
    await store.send('GET', '/v1/contexts');
  });
  const count = async (method: string, path: string, options?: SendOptions) => {
    const { value, requests } = await store.counting(() => store.send(method, path, options));
    expect(value.status).toBeLessThan(500);
    return requests;
  };

  test('one for each read, whatever it reads', async () => {
    const [root, id] = [newId(), newId()];
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: {} } });
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: {}, parentId: root } });
    const paths = [
      `/v1/contexts/${id}`,
      `/v1/contexts/${id}?version=1`,
      `/v1/contexts/${id}?at=2100-01-01T00:00:00Z`,
      `/v1/contexts/${id}?resolve=ancestors`,
      `/v1/contexts/${id}/content`,
      `/v1/contexts/${id}/versions`,
      `/v1/contexts/${id}/diff?from=1&to=1`,
      `/v1/contexts/${root}/children`,
      `/v1/contexts/${id}/ancestors`,
      `/v1/contexts/${root}/tree`,
      `/v1/contexts?subtreeOf=${root}&metadata.a=1`,
      '/v1/changes',
      '/v1/contexts/none',
    ];
    // Past the caches, whose own round trips are counted in test/cache/round-trips.test.ts.
    const headers = { 'cache-control': 'no-cache' };
    for (const path of paths) expect([path, await count('GET', path, { headers })]).toEqual([path, 1]);
    expect(await count('POST', '/v1/batch/get', { body: { ids: [root, id, 'none'] }, headers })).toBe(1);
  });

  test('one for each write, refused or not, in the tree or not, however many contexts', async () => {
    const [root, id] = [newId(), newId()];
    const put = (of: string, body: unknown, headers = {}) => count('PUT', `/v1/contexts/${of}`, { body, headers });
    expect(await put(root, { content: 1 })).toBe(1);
    expect(await put(id, { content: 1, parentId: root })).toBe(1);
    expect(await put(id, { content: 1 })).toBe(1);
    expect(await put(id, { metadata: { a: 1 } })).toBe(1);
    expect(await put(id, { content: 2 }, { 'if-match': '"1"' })).toBe(1);
    expect(await put(id, { content: 2 }, { 'idempotency-key': id })).toBe(1);
    expect(await count('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } })).toBe(1);
    expect(await count('POST', `/v1/contexts/${id}/versions/1/pin`, { body: { pinned: true } })).toBe(1);
    const operations = Array.from({ length: 100 }, () => ({ op: 'put', id: newId(), content: 1, parentId: root }));
    expect(await count('POST', '/v1/batch/write', { body: { operations, atomic: true } })).toBe(1);
    expect(await count('DELETE', `/v1/contexts/${root}?children=delete`)).toBe(1);
    expect(await count('DELETE', `/v1/contexts/${root}?erase=true`)).toBe(1);
  });

  test('one more for a replay, a patch, a merge, and for each race that is lost', async () => {
    const id = newId();
    const patch = (raw: string, headers = {}) =>
      count('PATCH', `/v1/contexts/${id}`, {
        raw,
        headers: { 'content-type': 'application/merge-patch+json', ...headers },
      });
    const put = (body: unknown, headers = {}, query = '') =>
      count('PUT', `/v1/contexts/${id}${query}`, { body, headers });
    const key = { 'idempotency-key': `replay-${id}` };
    expect(await put({ content: { a: 1 } }, key)).toBe(1);
    expect(await put({ content: { a: 1 } }, key)).toBe(2);
    expect(await patch('{"b":1}')).toBe(2);
    const patchKey = { 'idempotency-key': `patch-${id}` };
    expect(await patch('{"c":1}', patchKey)).toBe(2);
    expect(await patch('{"c":1}', patchKey)).toBe(2);
    expect(await put({ content: { z: 1 } }, { 'if-match': '"1"' }, '?onConflict=union')).toBe(3);
    expect(await count('POST', '/v1/merge', { body: { strategy: 'union', sources: [{ id }, { content: {} }] } })).toBe(
      1,
    );
    expect(
      await count('POST', '/v1/merge', {
        body: { strategy: 'union', sources: [{ id }, { content: { y: 1 } }], target: { id } },
      }),
    ).toBe(2);

    // Another writer comes between the patch's read and its write, once: the patch reads and writes again.
    const { contexts } = store.manager;
    const original = contexts.write;
    let races = 1;
    contexts.write = async (request, operations, options) => {
      if (races-- > 0) {
        await original(
          request,
          [{ op: 'put', id, content: { bytes: Buffer.from(`{"race":${races}}`), contentType: 'application/json' } }],
          { atomic: true },
        );
      }
      return original(request, operations, options);
    };
    try {
      // Two for each of the two attempts, and one for the other writer.
      expect(await patch('{"late":true}')).toBe(5);
    } finally {
      contexts.write = original;
    }
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.content).toEqual({ race: 0, late: true });
  });

  test('one more for a key that this instance has not seen', async () => {
    const { token } = (await store.send('POST', '/v1/keys', { body: { name: 'new', scopes: ['read'] } })).json;
    const headers = { 'cache-control': 'no-cache' };
    expect(await count('GET', '/v1/contexts', { token, headers })).toBe(2);
    expect(await count('GET', '/v1/contexts', { token, headers })).toBe(1);
  });
});

describe.skipIf(!hasPostgres)("requests on Neon's wire", () => {
  test('are one HTTP request for each call, role, space and row-level security included', async () => {
    const store = await openStore(neonEngine, { settings: { cache: { windowMs: 60_000, repairMs: 120_000 } } });
    const { endpoint } = await realPostgres();
    await store.send('GET', '/v1/contexts');
    const before = endpoint.requests();
    await store.send('PUT', '/v1/contexts/a', { body: { content: 1 } });
    await store.send('PUT', '/v1/contexts/b', { body: { content: 1, parentId: 'a' } });
    await store.send('GET', '/v1/contexts/b', { headers: { 'cache-control': 'no-cache' } });
    expect(endpoint.requests() - before).toBe(3);
  });
});
