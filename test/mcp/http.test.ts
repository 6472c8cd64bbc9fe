import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMcpEndpoint } from '../../lib/mcp/endpoint.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines, pgliteEngine } from '../support/engines.ts';
import { callTool, carrierOf, connectLegacy } from '../support/mcp.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers of every shape are looked into
type Structure = any;

describe('MCP over HTTP', () => {
  let store: TestStore;
  let client: Client;
  const closing: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    store = await openStore(pgliteEngine);
    client = await connectLegacy(store);
    closing.push(client);
  });
  afterAll(async () => {
    for (const one of closing) await one.close();
  });
  async function connectModern(token?: string): Promise<ModernClient> {
    const { url, ...carrier } = carrierOf(store, token);
    const modern = new ModernClient({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    await modern.connect(new ModernTransport(url, carrier));
    closing.push(modern);
    return modern;
  }
  const call = async (name: string, args?: unknown, of = client) => {
    const answer = await callTool(of, name, args);
    const [first] = answer.content;
    const text = first?.type === 'text' ? first.text : '';
    return { ...answer, text, structured: answer.structuredContent as Structure };
  };
  const post = (body: unknown, headers: Record<string, string> = {}, url = 'http://lamina.test/mcp') =>
    store.fetch(
      new Request(url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${store.token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...headers,
        },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    );
  const list = { jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} };

  describe('protocol', () => {
    test('clients of every revision: 2026-07-28 and those of 2025', async () => {
      const modern = await connectModern();
      expect(modern.getNegotiatedProtocolVersion()).toBe('2026-07-28');
      expect((await modern.listTools()).tools.map(({ name }) => name)).toEqual(
        (await client.listTools()).tools.map(({ name }) => name),
      );
      for (const protocolVersion of ['2025-11-25', '2025-06-18', '2025-03-26']) {
        const params = { protocolVersion, capabilities: {}, clientInfo: { name: 't', version: '1' } };
        const answer = await post({ jsonrpc: '2.0', id: 1, method: 'initialize', params });
        expect(await answer.text()).toContain(`"protocolVersion":"${protocolVersion}"`);
        const listed = await post(list, { 'mcp-protocol-version': protocolVersion });
        expect([listed.status, (await listed.text()).includes('"context_get"')]).toEqual([200, true]);
      }
    });

    test('starting and listing tools, prompts and templates asks no engine anything', async () => {
      await call('read_graph');
      const { requests } = await store.counting(async () => {
        const fresh = await connectLegacy(store);
        await fresh.listTools();
        await fresh.listPrompts();
        await fresh.listResourceTemplates();
        await fresh.close();
      });
      expect(requests).toBe(0);
    });

    test('without a token that is good: 401, and where to read what is needed', async () => {
      for (const authorization of ['', 'Bearer nonsense', `Bearer ${store.token.slice(0, -1)}x`]) {
        const answer = await post(list, { authorization });
        expect(answer.status).toBe(401);
        const challenge = answer.headers.get('www-authenticate') ?? '';
        const [, metadata = ''] = /^Bearer resource_metadata="(.+)"$/.exec(challenge) ?? [];
        expect(metadata).toBe('http://lamina.test/.well-known/oauth-protected-resource/mcp');
        const document = await store.fetch(new Request(metadata));
        expect(await document.json()).toEqual({
          resource: 'http://lamina.test/mcp',
          resource_name: 'Lamina',
          bearer_methods_supported: ['header'],
          scopes_supported: ['read', 'write', 'sync', 'admin'],
        });
      }
    });

    test('only POST, only JSON, only what it can take', async () => {
      for (const method of ['GET', 'DELETE', 'PUT']) {
        const headers = { authorization: `Bearer ${store.token}` };
        const answer = await store.fetch(new Request('http://lamina.test/mcp', { method, headers }));
        expect([method, answer.status]).toEqual([method, 405]);
      }
      expect((await post(list, { 'content-type': 'text/plain' })).status).toBe(415);
      expect((await post('{"jsonrpc"')).status).toBe(400);
      expect((await post({ jsonrpc: '2.0', id: 1, method: 'no/such' })).status).toBeLessThan(500);
      const large = { ...list, params: { pad: 'x'.repeat(16_777_216) } };
      expect((await post(large)).status).toBe(413);
    });

    test('a server of this machine alone refuses other names and foreign pages', async () => {
      const of = { manager: store.manager, telemetry: noTelemetry, version: '1' };
      const local = createMcpEndpoint({ ...of, publicUrl: undefined, isLocal: true });
      const named = createMcpEndpoint({ ...of, publicUrl: 'https://memory.example', isLocal: false });
      const open = createMcpEndpoint({ ...of, publicUrl: undefined, isLocal: false });
      const bound = createMcpEndpoint({ ...of, publicUrl: 'https://memory.example', isLocal: false, host: '10.0.0.7' });
      const status = async (endpoint: typeof local, host: string, origin?: string) => {
        const headers = {
          host,
          authorization: `Bearer ${store.token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(origin === undefined ? {} : { origin }),
        };
        const body = JSON.stringify(list);
        return (await endpoint.fetch(new Request(`http://${host}/mcp`, { method: 'POST', headers, body }))).status;
      };
      expect(await status(local, 'localhost:8787')).toBe(200);
      expect(await status(local, '127.0.0.1:8787', 'http://localhost:6274')).toBe(200);
      expect(await status(local, 'evil.example')).toBe(403);
      expect(await status(local, 'localhost:8787', 'https://evil.example')).toBe(403);
      expect(await status(local, 'localhost:8787', 'null')).toBe(403);
      expect(await status(named, 'memory.example')).toBe(200);
      expect(await status(named, 'memory.example', 'https://memory.example')).toBe(200);
      expect(await status(named, 'evil.example')).toBe(403);
      expect(await status(named, 'memory.example', 'https://evil.example')).toBe(403);
      expect(await status(open, 'any.example')).toBe(200);
      expect(await status(bound, '10.0.0.7:8787')).toBe(200);
      expect(await status(bound, '10.0.0.8:8787')).toBe(403);
      expect(await status(open, 'any.example', 'https://evil.example')).toBe(403);
    });

    test('a key does what its scope says and sees its own space alone', async () => {
      const { token } = (await store.send('POST', '/v1/keys', { body: { name: 'r', scopes: ['read'] } })).json;
      const reader = await connectLegacy(store, token);
      const id = newId();
      expect((await call('context_put', { id, content: 1 }, reader)).text).toMatch(/^forbidden: /);
      expect((await call('create_entities', { entities: [] }, reader)).isError).toBe(true);
      const merge = { strategy: 'union', sources: [{ content: 1 }, { content: 1 }] };
      expect((await call('context_merge', merge, reader)).structured.content).toBe(1);
      expect((await call('context_merge', { ...merge, target: { id } }, reader)).text).toMatch(/^forbidden: /);
      await call('context_put', { id, content: 'secret of one space' });
      await call('create_entities', { entities: [{ name: id, entityType: 't', observations: ['secret'] }] });
      const other = (await store.send('POST', '/v1/spaces', { body: { name: newId('mcp') }, token: store.ownerToken }))
        .json;
      const stranger = await connectLegacy(store, other.key.token);
      expect((await call('context_get', { id }, stranger)).text).toMatch(/^context_not_found: /);
      expect((await call('search_nodes', { query: '' }, stranger)).structured).toEqual({ entities: [], relations: [] });
      expect((await call('context_list', {}, stranger)).structured.items).toEqual([]);
      await Promise.all([reader.close(), stranger.close()]);
    });

    test('100 calls at once on one connection are all answered', async () => {
      const ids = Array.from({ length: 100 }, () => newId());
      const answers = await Promise.all(ids.map((id) => call('context_put', { id, content: { id } })));
      expect(answers.filter(({ isError }) => isError)).toEqual([]);
      const read = await Promise.all(ids.map((id) => call('context_get', { id })));
      expect(read.map(({ structured }) => structured.content.id)).toEqual(ids);
    });

    test('who leaves in the middle of a write does not undo it', async () => {
      const id = newId();
      const leaving = new AbortController();
      const writing = client.callTool({ name: 'context_put', arguments: { id, content: 1 } }, undefined, {
        signal: leaving.signal,
      });
      leaving.abort();
      await writing.catch(() => {});
      await expect.poll(async () => (await call('context_get', { id })).structured?.content).toBe(1);
    });
  });

  describe('context tools', () => {
    test('write, read, list, history, diff, restore, delete', async () => {
      const id = newId();
      const first = await call('context_put', { id, content: { a: 1 }, metadata: { team: 'x' }, message: 'first' });
      expect(first.structured).toMatchObject({ id, version: 1, created: true, actor: { kind: 'mcp' } });
      expect(JSON.parse(first.text)).toEqual(first.structured);
      expect((await call('context_put', { id, content: { a: 1 } })).structured.unchanged).toBe(true);
      await call('context_put', { id, content: { a: 2 }, expectedVersion: 1 });
      expect((await call('context_get', { id })).structured).toMatchObject({ version: 2, content: { a: 2 } });
      expect((await call('context_get', { id, version: 1 })).structured.content).toEqual({ a: 1 });
      expect((await call('context_get', { id, at: first.structured.updatedAt })).structured.version).toBe(1);
      const history = (await call('context_history', { id })).structured;
      expect(history.items.map((one: Structure) => [one.version, one.message])).toEqual([
        [2, undefined],
        [1, 'first'],
      ]);
      const diff = (await call('context_diff', { id, from: 1, to: 2 })).structured;
      expect(diff.patch).toEqual([{ op: 'replace', path: '/a', value: 2 }]);
      expect((await call('context_restore', { id, version: 1, expectedVersion: 2 })).structured.version).toBe(3);
      const listed = (await call('context_list', { metadata: { team: 'x' }, includeContent: true })).structured;
      expect(listed.items).toMatchObject([{ id, content: { a: 1 } }]);
      expect((await call('context_delete', { id, expectedVersion: 3 })).structured).toMatchObject({ deleted: true });
      expect((await call('context_get', { id })).text).toMatch(/^gone: .*context_restore/s);
      const made = (await call('context_put', { content: 'text', contentType: 'text/plain' })).structured;
      expect((await call('context_get', { id: made.id })).structured.content).toBe('text');
    });

    test('a stale write is refused with the current version, or merged', async () => {
      const id = newId();
      await call('context_put', { id, content: { a: 1, b: 1 } });
      await call('context_put', { id, content: { a: 2, b: 1 } });
      const stale = await call('context_put', { id, content: { a: 1, b: 2 }, expectedVersion: 1 });
      expect(stale).toMatchObject({ isError: true });
      expect(stale.text).toMatch(/^version_conflict: .*"currentVersion":2.*expectedVersion/s);
      expect((await call('context_delete', { id, expectedVersion: 1 })).text).toMatch(/^version_conflict/);
      expect((await call('context_restore', { id, version: 1, expectedVersion: 1 })).text).toMatch(/^version_conflict/);
      expect((await call('context_put', { id, content: 0, expectedVersion: 0 })).text).toMatch(/^version_conflict/);
      const merging = { id, content: { a: 1, b: 2 }, expectedVersion: 1, onConflict: 'three-way' };
      const merged = await call('context_put', merging);
      expect(merged.structured.merge).toEqual({ strategy: 'three-way', base: 1, head: 2, conflicts: [] });
      expect((await call('context_get', { id })).structured.content).toEqual({ a: 2, b: 2 });
      const collision = await call('context_put', {
        id,
        content: { a: 9, b: 2 },
        expectedVersion: 1,
        onConflict: 'three-way',
      });
      expect(collision.text).toMatch(
        /^merge_conflict: .*"conflicts":\[\{"path":"\/a","base":1,"ours":9,"theirs":2\}\]/s,
      );
      const early = await call('context_put', { id: newId(), content: 1, expectedVersion: 3 });
      expect(early.text).toMatch(/^version_conflict: .*does not exist.*"currentVersion":0.*Create it/is);
      const sources = [{ id, version: 1 }, { id }, { content: { c: 3 } }];
      const union = (await call('context_merge', { sources, strategy: 'union', target: { id: `${id}-u` } })).structured;
      expect(union).toMatchObject({ content: { a: 2, b: 2, c: 3 }, written: { version: 1, created: true } });
    });

    test('instructions of parents are folded in', async () => {
      const root = newId();
      await call('context_put', { id: root, content: 'Be brief.', contentType: 'text/plain' });
      await call('context_put', { id: `${root}-c`, parentId: root, content: 'Test first.', contentType: 'text/plain' });
      const folded = (await call('context_get', { id: `${root}-c`, resolve: 'ancestors' })).structured;
      expect(folded.content).toBe('Be brief.\n\nTest first.');
      expect(folded.resolvedFrom.map(({ id }: Structure) => id)).toEqual([root, `${root}-c`]);
    });

    test('a large content comes as a link and in parts, never whole in an answer', async () => {
      const id = newId();
      const text = 'ä🦊'.repeat(200_000);
      await store.send('PUT', `/v1/contexts/${id}/content`, { raw: text, headers: { 'content-type': 'text/plain' } });
      const whole = await call('context_get', { id });
      expect(JSON.stringify(whole).length).toBeLessThan(3000);
      expect(whole.structured).not.toHaveProperty('content');
      const link = whole.content.find(({ type }) => type === 'resource_link') as Structure;
      expect(link).toMatchObject({ name: id, mimeType: 'text/plain', size: 1_200_000 });
      const linked = (await client.readResource({ uri: link.uri })).contents[0] as Structure;
      expect(linked.text).toBe(text);
      let read = '';
      for (let start = 0; start < 1_200_000; ) {
        const part = (await call('context_get', { id, start, length: 100_001 })).structured;
        expect(part.content.length).toBeLessThan(100_001);
        read += part.content;
        start = part.range.end;
      }
      expect(read).toBe(text);
      expect((await call('context_get', { id, start: 1_200_000 })).text).toMatch(/^range_not_satisfiable: /);
      const listed = await call('context_list', { includeContent: true, limit: 200 });
      expect(JSON.stringify(listed).length).toBeLessThan(3_000_000);
      const merged = await call('context_merge', { sources: [{ id }, { id }], strategy: 'union' });
      expect(merged.text).toMatch(/^context_too_large: /);
    });

    test('pages hold everything once, also where items are large', async () => {
      const kind = `k${newId()}`.toLowerCase();
      const pad = 'x'.repeat(60_000);
      for (let at = 0; at < 45; at++)
        await call('context_put', { id: `${kind}-${at}`, kind, content: 1, metadata: { pad } });
      const found: string[] = [];
      let pages = 0;
      for (let cursor: string | null | undefined; cursor !== null; pages++) {
        const page = (await call('context_list', { kind, limit: 40, ...(cursor ? { cursor } : {}) })).structured;
        found.push(...page.items.map(({ id }: Structure) => id));
        cursor = page.nextCursor;
      }
      expect([...found].sort()).toEqual(Array.from({ length: 45 }, (_, at) => `${kind}-${at}`).sort());
      expect(pages).toBeGreaterThan(2);
    });

    test('arguments that do not fit are refused with the place, the code and a next step', async () => {
      let nested = '1';
      for (let depth = 0; depth < 250; depth++) nested = `[${nested}]`;
      const cases: [string, unknown, RegExp][] = [
        ['context_get', {}, /^invalid_request: .*at id/s],
        ['context_get', { id: '../x' }, /^invalid_request: /],
        ['context_get', { id: 'a', version: 1, at: '2026-01-01T00:00:00Z' }, /^invalid_request: .*exclude each other/s],
        ['context_get', { id: 'a', expected: 1 }, /^invalid_request: .*expected/s],
        ['context_put', { id: newId() }, /^invalid_request: .*content/s],
        ['context_put', { id: 'a', content: '\ud800' }, /^unprocessable: /],
        ['context_put', { id: 'a', content: JSON.parse(nested) }, /^unprocessable: /],
        ['context_put', { id: 'a', content: 1, contentType: 'text/plain' }, /^invalid_request: /],
        ['context_put', { id: 'a', content: 1, onConflict: 'union' }, /^invalid_request: .*expectedVersion/s],
        ['context_put', { content: 1, expectedVersion: 1 }, /^invalid_request: .*goes with an id/s],
        ['context_put', { content: 1, onConflict: 'union' }, /^invalid_request: .*goes with an id/s],
        ['context_put', { id: 'a', content: 1, parentId: 'nowhere' }, /^parent_not_found: /],
        ['context_put', { id: 'a', content: 1, metadata: { a: '\u0000' } }, /^unprocessable: /],
        [
          'context_put',
          { id: 'a', content: 1, ttlSeconds: 1, expiresAt: '2099-01-01T00:00:00Z' },
          /^invalid_request: /,
        ],
        ['context_list', { cursor: 'x' }, /^invalid_request: .*cursor/s],
        ['context_history', { id: 'nowhere' }, /^context_not_found: /],
        ['context_diff', { id: 'nowhere', from: 1, to: 2 }, /^context_not_found: /],
        ['context_merge', { strategy: 'union', sources: [{}, {}] }, /^invalid_request: .*sources/s],
        ['create_entities', { entities: [{ name: '\udc00', entityType: 't', observations: [] }] }, /lone surrogate/],
      ];
      for (const [name, args, text] of cases) {
        const answer = await call(name, args);
        expect([name, answer.isError, answer.text]).toEqual([name, true, expect.stringMatching(text)]);
        expect(answer.text).not.toMatch(/select|insert|at file:|node_modules/);
      }
    });
  });

  test('what is nested too deep is refused, not fallen over', async () => {
    for (const depth of [5000, 100_000, 1_000_000]) {
      const content = `${'['.repeat(depth)}${']'.repeat(depth)}`;
      for (const [name, member] of [
        ['context_put', `"id":"a","content":${content}`],
        ['create_entities', `"entities":[{"name":"x","entityType":"t","observations":${content}}]`],
        ['open_nodes', `"names":["x"],"more":${content}`],
      ]) {
        const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${name}","arguments":{${member}}}}`;
        const answer = await post(body);
        expect([depth, name, answer.status < 500, (await answer.text()).length < 10_000]).toEqual([
          depth,
          name,
          true,
          true,
        ]);
      }
    }
    expect((await call('context_get', { id: 'a' })).text).toMatch(/^context_not_found: /);
  });

  describe('resources', () => {
    test('are listed page by page, read by id in every spelling, by version and in parts', async () => {
      const ids = Array.from({ length: 130 }, (_, at) => `res:${String(at).padStart(3, '0')}:${newId()}`);
      await store.send('POST', '/v1/batch/write', {
        body: { operations: ids.slice(0, 100).map((id) => ({ op: 'put', id, content: id })) },
      });
      await store.send('POST', '/v1/batch/write', {
        body: { operations: ids.slice(100).map((id) => ({ op: 'put', id, content: id })) },
      });
      const found: string[] = [];
      for (let cursor: string | undefined, more = true; more; ) {
        const page = await client.listResources(cursor === undefined ? {} : { cursor });
        found.push(...page.resources.map(({ uri }) => uri));
        cursor = page.nextCursor;
        more = cursor !== undefined;
      }
      expect(new Set(found).size).toBe(found.length);
      for (const id of ids) expect(found).toContain(`context://${encodeURIComponent(id)}`);
      const [id] = ids as [string];
      for (const uri of [`context://${id}`, `context://${encodeURIComponent(id)}`, `context://${id}?version=1`]) {
        expect((await client.readResource({ uri })).contents).toEqual([
          { uri, mimeType: 'application/json', text: JSON.stringify(id) },
        ]);
      }
      const part = (await client.readResource({ uri: `context://${id}?start=1&length=3` })).contents[0] as Structure;
      expect(part.text).toBe('res');
      for (const uri of [
        'context://nowhere',
        `context://${id}?version=9`,
        'context://%',
        'other://x',
        `context://${id}?x=1`,
      ]) {
        await expect(client.readResource({ uri })).rejects.toMatchObject({ code: -32602, data: { uri } });
      }
      await expect(client.listResources({ cursor: 'x' })).rejects.toMatchObject({ code: -32602 });
    });
  });
});

describe.each(engines)('MCP on $name', (engine) => {
  test('a call is the requests that its verb makes, and no more', async () => {
    const store = await openStore(engine);
    const client = await connectLegacy(store);
    const id = newId();
    const requests = async (name: string, args: unknown) => {
      const counted = await store.counting(() => callTool(client, name, args));
      expect(counted.value.isError).toBeFalsy();
      return counted.requests;
    };
    await requests('context_list', {});
    expect(await requests('context_put', { id, content: 1 })).toBe(1);
    expect(await requests('context_get', { id })).toBe(0);
    expect(await requests('context_history', { id })).toBe(1);
    expect(await requests('context_put', { id, content: 2, expectedVersion: 1 })).toBe(1);
    expect(await requests('context_delete', { id })).toBe(1);
    expect(await requests('create_entities', { entities: [{ name: id, entityType: 't', observations: [] }] })).toBe(1);
    await client.close();
  });
});
