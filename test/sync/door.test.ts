import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';

describe('peers at the door', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(pgliteEngine);
  });
  const url = 'http://127.0.0.1:9/mcp';
  const put = (body: unknown, name = newId('p'), options = {}) =>
    store.send('PUT', `/v1/peers/${name}`, { body, ...options });
  const keyOf = async (scope: string) =>
    (await store.send('POST', '/v1/keys', { body: { name: scope, scopes: [scope] } })).json.token as string;

  test('bad definitions are named', async () => {
    for (const [body, path] of [
      [{}, '/type'],
      [{ type: 'mcp-memory' }, '/transport'],
      [{ type: 'other', transport: { url } }, '/type'],
      [{ type: 'mcp-memory', transport: { url: 'ftp://x' } }, '/transport'],
      [{ type: 'mcp-memory', transport: { url: 'http://user:secret@x/' } }, '/transport'],
      [{ type: 'mcp-memory', transport: { url, headers: { a: 'line\nbreak' } } }, '/transport'],
      [{ type: 'lamina', transport: { command: 'x' } }, '/transport'],
      [{ type: 'mcp-memory', transport: { url }, strategy: 'mine' }, '/strategy'],
      [{ type: 'mcp-memory', transport: { url }, direction: 'up' }, '/direction'],
      [{ type: 'mcp-memory', transport: { url }, intervalSeconds: 0 }, '/intervalSeconds'],
      [{ type: 'mcp-memory', transport: { url }, subtree: 'a b' }, '/subtree'],
    ] as const) {
      const { status, json } = await put(body);
      expect([status, json.errors?.[0]?.path.split('/').slice(0, 2).join('/')]).toEqual([400, path]);
      expect(JSON.stringify(json)).not.toContain('secret');
    }
    expect(
      (await store.send('PUT', '/v1/peers/No_Name', { body: { type: 'lamina', transport: { url } } })).status,
    ).toBe(400);
  });

  test('a command is refused where the server may not start any', async () => {
    const { status, json } = await put({ type: 'mcp-memory', transport: { command: 'touch', args: ['/tmp/never'] } });
    expect([status, json.code]).toEqual([403, 'forbidden']);
    expect(json.detail).toContain('LAMINA_ALLOW_COMMANDS');
  });

  test('secrets go in and never come out', async () => {
    const name = newId('p');
    const secret = 'Bearer very-secret-token';
    const made = await put({ type: 'mcp-memory', transport: { url, headers: { Authorization: secret } } }, name);
    expect([made.status, made.json.transport]).toEqual([201, { url, headers: { Authorization: null } }]);
    const failed = await store.send('POST', `/v1/peers/${name}/sync`);
    expect(failed.status).toBe(503);
    for (const path of [
      `/v1/peers/${name}`,
      '/v1/peers',
      `/v1/peers/${name}/runs`,
      '/v1/audit',
      '/v1/stats',
      '/metrics',
    ])
      expect((await store.send('GET', path)).text).not.toContain('very-secret');
    expect(failed.text).not.toContain('very-secret');
    expect((await store.send('GET', '/v1/audit')).json.items[0]).toMatchObject({ action: 'peer.put', target: name });
  });

  test('the scopes: admin names peers, sync runs them and settles conflicts, write does neither', async () => {
    const name = newId('p');
    await put({ type: 'mcp-memory', transport: { url } }, name);
    const [sync, write] = [await keyOf('sync'), await keyOf('write')];
    const statuses = async (token: string) => [
      (await put({ type: 'mcp-memory', transport: { url } }, name, { token })).status,
      (await store.send('GET', `/v1/peers/${name}`, { token })).status,
      (await store.send('POST', `/v1/peers/${name}/sync`, { token })).status,
      (await store.send('GET', `/v1/peers/${name}/runs`, { token })).status,
      (await store.send('GET', '/v1/conflicts', { token })).status,
    ];
    expect(await statuses(sync)).toEqual([403, 403, 503, 200, 200]);
    expect(await statuses(write)).toEqual([403, 403, 403, 403, 403]);
  });

  test('the same key names a peer once, and pages go on where they ended', async () => {
    const headers = { 'idempotency-key': newId('key') };
    const name = newId('p');
    const body = { type: 'mcp-memory', transport: { url } };
    expect((await put(body, name, { headers })).status).toBe(201);
    expect((await put(body, name, { headers })).status).toBe(201);
    expect((await put({ ...body, direction: 'pull' }, name, { headers })).json.code).toBe('idempotency_mismatch');
    const all = (await store.send('GET', '/v1/peers')).json.items.map((one: { name: string }) => one.name);
    const paged: string[] = [];
    for (let cursor = ''; ; ) {
      const page = (await store.send('GET', `/v1/peers?limit=1${cursor && `&cursor=${cursor}`}`)).json;
      paged.push(...page.items.map((one: { name: string }) => one.name));
      if (page.nextCursor === null) break;
      cursor = page.nextCursor;
    }
    expect(paged).toEqual(all);
    expect((await store.send('DELETE', `/v1/peers/${name}`)).json).toEqual({ name, removed: true });
    expect((await store.send('DELETE', `/v1/peers/${name}`)).status).toBe(404);
  });

  test("another space sees none of it, and a conflict's id must be one", async () => {
    const name = newId('p');
    await put({ type: 'mcp-memory', transport: { url } }, name);
    const other = await openStore(pgliteEngine);
    expect((await other.send('GET', `/v1/peers/${name}`)).status).toBe(404);
    expect((await other.send('POST', `/v1/peers/${name}/sync`)).status).toBe(404);
    expect((await store.send('GET', '/v1/conflicts/x')).status).toBe(400);
    expect((await store.send('GET', `/v1/conflicts/${'0'.repeat(26)}`)).status).toBe(404);
    expect(
      (await store.send('POST', `/v1/conflicts/${'0'.repeat(26)}/resolve`, { body: { choose: 'ours' } })).status,
    ).toBe(404);
    expect(
      (await store.send('POST', `/v1/conflicts/${'0'.repeat(26)}/resolve`, { body: { choose: 'all' } })).status,
    ).toBe(400);
  });
});
