import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { type ProblemCode, problemTable } from '../lib/base/problem.ts';
import { databaseUnavailable } from '../lib/postgres/database.ts';
import { newId, openStore, type Reply, type TestStore } from './support/client.ts';
import { pgliteEngine } from './support/engines.ts';

let store: TestStore;
beforeAll(async () => {
  store = await openStore(pgliteEngine, { settings: { feed: { retainedDays: 0.000_000_1 } } });
});

const put = (id: string, body: unknown, headers = {}, query = '') =>
  store.send('PUT', `/v1/contexts/${id}${query}`, { body, headers });

/** How each code of the table is met, through the front door. */
const ways: Record<ProblemCode, () => Promise<Reply>> = {
  invalid_request: () => put('a b', { content: 1 }),
  unauthenticated: () => store.send('GET', '/v1/contexts', { token: 'nobody' }),
  forbidden: () => store.send('GET', '/v1/spaces'),
  context_not_found: () => store.send('GET', `/v1/contexts/${newId()}`),
  version_not_found: async () => {
    const id = newId();
    await put(id, { content: 1 });
    return store.send('GET', `/v1/contexts/${id}?version=7`);
  },
  not_found: () => store.send('GET', '/nowhere'),
  method_not_allowed: () => store.send('PUT', '/v1/merge'),
  already_exists: async () => {
    const body = { id: newId(), content: 1 };
    await store.send('POST', '/v1/contexts', { body });
    return store.send('POST', '/v1/contexts', { body });
  },
  merge_conflict: () =>
    store.send('POST', '/v1/merge', {
      body: { strategy: 'three-way', base: { content: 1 }, sources: [{ content: 2 }, { content: 3 }] },
    }),
  has_children: async () => {
    const [parent, child] = [newId(), newId()];
    await put(parent, { content: 1 });
    await put(child, { content: 1, parentId: parent });
    return store.send('DELETE', `/v1/contexts/${parent}`);
  },
  parent_cycle: async () => {
    const id = newId();
    await put(id, { content: 1 });
    return put(id, { parentId: id });
  },
  idempotency_mismatch: async () => {
    const headers = { 'idempotency-key': newId() };
    await put(newId(), { content: 1 }, headers);
    return put(newId(), { content: 1 }, headers);
  },
  rate_limited: async () => {
    const few = await openStore(pgliteEngine, { settings: { limits: { uploads: 1 } } });
    const begin = () => few.send('POST', '/v1/uploads', { body: { sizeBytes: 1, contentType: 'text/plain' } });
    await begin();
    return begin();
  },
  sync_running: async () => {
    // A peer that does not answer holds its run.
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const transport = { url: `http://127.0.0.1:${port}` };
    await store.send('PUT', '/v1/peers/silent', { body: { type: 'lamina', transport } });
    const run = store.send('POST', '/v1/peers/silent/sync');
    while ((await store.send('GET', '/v1/peers/silent')).json.running === null) await sleep(10);
    const second = await store.send('POST', '/v1/peers/silent/sync');
    silent.closeAllConnections();
    silent.close();
    await run;
    return second;
  },
  gone: async () => {
    const id = newId();
    await put(id, { content: 1 });
    await store.send('DELETE', `/v1/contexts/${id}`);
    return store.send('GET', `/v1/contexts/${id}`);
  },
  cursor_expired: async () => {
    await put(newId(), { content: 1 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await store.manager.cleanup({ only: store.ref, budgetMs: 1000 });
    return store.send('GET', '/v1/changes?since=0');
  },
  version_conflict: () => put(newId(), { content: 1 }, { 'if-match': '"1"' }),
  context_too_large: () => put(newId(), { content: 'x'.repeat(4_200_000) }),
  unsupported_media_type: () => put(newId(), { content: 1 }, { 'content-type': 'text/csv' }),
  range_not_satisfiable: async () => {
    const id = newId();
    await put(id, { content: 1 });
    return store.send('GET', `/v1/contexts/${id}/content`, { headers: { range: 'bytes=9-' } });
  },
  unprocessable: () => put(newId(), { content: 'a\u0000', contentType: 'text/plain' }),
  parent_not_found: () => put(newId(), { content: 1, parentId: newId() }),
  internal: async () => {
    const database = { ...store.database, in: () => ({ run: () => Promise.reject(new TypeError('a bug')) }) };
    return (await borrowed(database)).send('GET', '/v1/contexts/x', { token: store.ownerToken });
  },
  unavailable: async () => {
    const database = { ...store.database, in: () => ({ run: () => Promise.reject(databaseUnavailable('away')) }) };
    return (await borrowed(database)).send('GET', '/v1/contexts/x', { token: store.ownerToken });
  },
};

/** A store over a database that only the owner's door of still works. */
function borrowed(database: TestStore['database']): Promise<TestStore> {
  return openStore(pgliteEngine, { database, isBare: true });
}

test.each(Object.keys(problemTable) as ProblemCode[])(
  '%s is met at the front door and told as RFC 9457 asks',
  async (code) => {
    const answer = await ways[code]();
    const { status, title } = problemTable[code];
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.json).toMatchObject({
      code,
      status,
      title,
      type: expect.stringMatching(new RegExp(`/${code}$`)),
      detail: expect.any(String),
      requestId: expect.any(String),
    });
  },
);
