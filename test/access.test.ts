import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('access on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { cache: { windowMs: 150 } } });
  });
  const makeKey = async (scopes: string[], more = {}) =>
    (await store.send('POST', '/v1/keys', { body: { name: 'test', scopes, ...more } })).json;

  test('without a valid token it is 401 with a challenge', async () => {
    const tokens = [
      '',
      'nonsense',
      'lam_default_000000000000_0000000000000000000000000000000000000000',
      `${store.token}x`,
      store.token.slice(0, -1),
    ];
    for (const token of tokens) {
      const refused = await store.send('GET', '/v1/contexts', { token });
      expect([refused.status, refused.json.code, refused.headers.get('www-authenticate')]).toEqual([
        401,
        'unauthenticated',
        'Bearer',
      ]);
    }
    expect((await store.send('GET', '/healthz', { token: '' })).status).toBe(200);
    for (const path of ['/openapi.json', '/docs'])
      expect((await store.send('GET', path, { token: '' })).status).toBe(200);
  });

  test('scopes nest, and each door asks for its own', async () => {
    const id = newId();
    const needs: [string, string, string, unknown?][] = [
      ['read', 'GET', '/v1/contexts'],
      ['read', 'POST', '/v1/merge', { strategy: 'latest', sources: [{ content: 1 }, { content: 2 }] }],
      ['write', 'POST', '/v1/merge', { strategy: 'latest', sources: [{ content: 1 }, { content: 2 }], target: { id } }],
      ['write', 'PUT', `/v1/contexts/${id}`, { content: 1 }],
      ['write', 'DELETE', `/v1/contexts/${id}`],
      ['admin', 'GET', '/v1/keys'],
      ['admin', 'GET', '/v1/audit'],
      ['admin', 'POST', '/v1/maintenance/run', { task: 'cleanup' }],
      ['admin', 'DELETE', `/v1/contexts/${newId()}?erase=true`],
      ['owner', 'GET', '/v1/spaces'],
    ];
    const order = ['read', 'write', 'sync', 'admin', 'owner'];
    for (const scope of ['read', 'write', 'sync', 'admin']) {
      const { token } = await makeKey([scope]);
      for (const [needed, method, path, body] of needs) {
        const answer = await store.send(method, path, { token, body });
        const isEnough = order.indexOf(scope) >= order.indexOf(needed);
        expect([scope, method, path, answer.status === 403]).toEqual([scope, method, path, !isEnough]);
      }
    }
  });

  test('a key is told once, is kept as a hash, stamps what it writes, and ends when it is revoked', async () => {
    const made = await makeKey(['write']);
    expect(made.token).toMatch(new RegExp(`^lam_${store.space}_${made.id}_[a-z0-9]{40}$`));
    const secret = made.token.split('_').at(-1);
    const dump = await store.database.owner.run([{ text: 'select k::text as line from api_key k', params: [] }]);
    expect(JSON.stringify(dump)).not.toContain(secret);
    const written = await store.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 1 }, token: made.token });
    expect(written.json.actor).toEqual({ kind: 'api', id: `key_${made.id}` });
    const listed = (await store.send('GET', '/v1/keys?limit=200')).json.items;
    expect(JSON.stringify(listed)).not.toContain(secret);
    expect((await store.send('DELETE', `/v1/keys/${made.id}`)).json.revokedAt).not.toBeNull();
    expect((await store.send('GET', '/v1/contexts', { token: made.token })).status).toBe(401);
    expect((await store.send('DELETE', `/v1/keys/${made.id}`)).json.code).toBe('not_found');
  });

  test('a key revoked on one instance ends on another within the window', async () => {
    const other = await openStore(engine, { database: store.database, settings: { cache: { windowMs: 150 } } });
    const { id, token } = await makeKey(['read']);
    expect((await other.send('GET', '/v1/contexts', { token })).status).toBe(200);
    await store.send('DELETE', `/v1/keys/${id}`);
    await sleep(200);
    expect((await other.send('GET', '/v1/contexts', { token })).status).toBe(401);
  });

  test('a key ends when it expires, also inside the window', async () => {
    const { token } = await makeKey(['read'], { expiresAt: new Date(Date.now() + 80).toISOString() });
    expect((await store.send('GET', '/v1/contexts', { token })).status).toBe(200);
    await sleep(100);
    expect((await store.send('GET', '/v1/contexts', { token })).status).toBe(401);
  });

  test('what another space holds is as if it were not there', async () => {
    const other = await openStore(engine, { database: store.database });
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 'secret' } });
    const probes: [string, string, unknown?][] = [
      ['GET', `/v1/contexts/${id}`],
      ['GET', `/v1/contexts/${id}/content`],
      ['GET', `/v1/contexts/${id}/versions`],
      ['GET', `/v1/contexts/${id}/diff?from=1&to=1`],
      ['GET', `/v1/contexts/${id}/children`],
      ['DELETE', `/v1/contexts/${id}`],
      ['DELETE', `/v1/contexts/${id}?erase=true`],
      ['POST', `/v1/contexts/${id}/restore`, { version: 1 }],
      ['POST', '/v1/merge', { strategy: 'latest', sources: [{ id }, { content: 1 }] }],
    ];
    for (const [method, path, body] of probes) {
      const answer = await other.send(method, path, { body });
      expect([path, answer.status >= 400, answer.text.includes('secret')]).toEqual([path, true, false]);
    }
    expect((await other.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 1, parentId: id } })).json.code).toBe(
      'parent_not_found',
    );
    expect((await other.send('GET', '/v1/changes')).json.changes).toEqual([]);
    expect((await other.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } })).json.version).toBe(1);
  });

  test('the removal of a space that is sent again leaves a later space of the name alone', async () => {
    const owner = { token: store.ownerToken };
    const name = `phoenix-${process.pid}`;
    const make = async () =>
      (await store.send('POST', '/v1/spaces', { body: { name }, ...owner })).json.key.token as string;
    const remove = (headers: Record<string, string> = {}) =>
      store.send('DELETE', `/v1/spaces/${name}?erase=true`, { ...owner, headers });
    await make();
    const key = { 'idempotency-key': `remove-${name}` };
    const first = await remove(key);
    expect(first.status).toBe(200);
    const token = await make();
    await store.send('PUT', '/v1/contexts/mine', { token, body: { content: 'kept' } });
    const again = await remove(key);
    expect([again.status, again.json]).toEqual([200, first.json]);
    expect((await store.send('GET', '/v1/contexts/mine', { token })).json.content).toBe('kept');
    // Two at once: one removes it, and the other finds nothing.
    const both = await Promise.all([remove(), remove()]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 404]);
    expect((await store.send('GET', '/v1/contexts/mine', { token })).json.code).toBe('unauthenticated');
    expect((await remove()).json.code).toBe('not_found');
  });

  test('a key that is revoked while a request waits is not answered', async () => {
    const { token, id } = (await store.send('POST', '/v1/keys', { body: { name: 'w', scopes: ['read'] } })).json;
    const since = (await store.send('GET', '/v1/changes?since=latest', { token })).json.nextCursor;
    const waiting = store.send('GET', `/v1/changes?since=${since}&waitSeconds=5`, { token });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await store.send('DELETE', `/v1/keys/${id}`);
    await store.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 'not for you' } });
    expect((await waiting).json.code).toBe('unauthenticated');
  });

  test('a space is made with its first key, listed, and deleted with everything in it', async () => {
    const name = `made-${process.pid}-${newId()}`;
    const owner = { token: store.ownerToken };
    const made = await store.send('POST', '/v1/spaces', { body: { name }, ...owner });
    expect(made.status).toBe(201);
    const { token } = made.json.key;
    await store.send('PUT', '/v1/contexts/inside', { body: { content: 1 }, token });
    expect((await store.send('POST', '/v1/spaces', { body: { name }, ...owner })).json.code).toBe('already_exists');
    expect((await store.send('POST', '/v1/spaces', { body: { name: 'default' }, ...owner })).json.code).toBe(
      'already_exists',
    );
    expect(JSON.stringify((await store.send('GET', '/v1/spaces?limit=200', owner)).json)).toContain(name);
    expect((await store.send('DELETE', `/v1/spaces/${name}`, owner)).json.code).toBe('unprocessable');
    expect((await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner)).status).toBe(200);
    await sleep(200);
    expect((await store.send('GET', '/v1/contexts/inside', { token })).status).toBe(401);
    expect((await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner)).json.code).toBe('not_found');
    expect((await store.send('DELETE', '/v1/spaces/default?erase=true', owner)).json.code).toBe('unprocessable');
  });

  test('what an administrator does is in the audit', async () => {
    const { id } = await makeKey(['read']);
    await store.send('DELETE', `/v1/keys/${id}`);
    const lines = (await store.send('GET', '/v1/audit?limit=2')).json.items;
    expect(lines.map((one: { action: string; target: string }) => [one.action, one.target])).toEqual([
      ['key.revoke', id],
      ['key.create', id],
    ]);
  });

  test('an erased context leaves no trace but its number, one change and one audit line', async () => {
    const [id, twin, child] = [newId(), newId(), newId()];
    const canary = `canary-${id}`;
    const put = (of: string, body: unknown, headers = {}) => store.send('PUT', `/v1/contexts/${of}`, { body, headers });
    await put(id, { content: canary, contentType: 'text/plain', metadata: { canary } }, { 'idempotency-key': canary });
    await put(id, { content: 'shared words', contentType: 'text/plain', metadata: { canary } });
    await put(twin, { content: 'shared words', contentType: 'text/plain' });
    await put(child, { content: 1, parentId: id });
    expect((await store.send('DELETE', `/v1/contexts/${id}?erase=true`)).json.code).toBe('has_children');
    const erased = await store.send('DELETE', `/v1/contexts/${id}?erase=true&children=orphan`);
    expect(erased.json).toEqual({
      erased: { versions: 2, cacheEntries: 0, vectors: 0 },
      pendingPeers: [],
      pendingEngines: [],
    });
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.code).toBe('context_not_found');
    expect((await store.send('GET', `/v1/contexts/${id}?version=1`)).json.code).toBe('context_not_found');
    expect((await store.send('GET', `/v1/contexts/${id}/versions`)).json.code).toBe('context_not_found');
    expect((await store.send('GET', `/v1/contexts/${child}`)).json.parentId).toBeNull();
    expect((await store.send('GET', `/v1/contexts/${twin}`)).json.content).toBe('shared words');
    const about = (await store.send('GET', '/v1/changes?limit=200')).json.changes.filter(
      (one: { id: string }) => one.id === id,
    );
    expect(about).toMatchObject([{ operation: 'erase', version: 2, hash: null }]);
    const tables = ['context', 'context_version', 'content', 'change', 'idempotency', 'cache_entry', 'cache_report'];
    const dump = await store.database.in({ space: store.space }).run(
      tables.map((table) => ({
        text:
          table === 'content'
            ? `select convert_from(bytes, 'UTF8') as line from content where encoding = 'raw'`
            : `select t::text as line from ${table} t`,
        params: [],
      })),
    );
    expect(JSON.stringify(dump)).not.toContain(canary);
    expect((await put(id, { content: 'again', contentType: 'text/plain' })).json).toMatchObject({ version: 3 });
    expect((await store.send('DELETE', `/v1/contexts/${newId()}?erase=true`)).json.code).toBe('context_not_found');
  });
});
