import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { startServing, stopServing } from '../support/serving.ts';

const numbers = '9007199254740993, 1e400, 1.0, -0, 10E-1, 0.1000';
const odd = `{ "b" : [${numbers}], "a":1,"2":2,"1":"\\u0041\\/ \\\\\\"", "__proto__": {"x":null},"jsonText":"7" }`;
const toLine = (name: string, args: string, id = 1) =>
  `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"${name}","arguments":${args}}}`;
const toPut = (id: string, content: string) =>
  toLine(
    'context_put',
    `{"metadata":{"n": [9007199254740993,1.0] },"id":"${id}","content": ${content} ,"contentType":"application/json"}`,
  );

describe('contents over HTTP', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(pgliteEngine);
  });
  async function post(body: string | Uint8Array, headers: Record<string, string> = {}) {
    const sent = { authorization: `Bearer ${store.token}`, 'content-type': 'application/json', ...headers };
    const accept = 'application/json, text/event-stream';
    const answer = await store.fetch(
      new Request('http://lamina.test/mcp', { method: 'POST', headers: { accept, ...sent }, body: body as string }),
    );
    return { status: answer.status, text: await answer.text() };
  }
  const read = async (id: string) => (await store.send('GET', `/v1/contexts/${id}/content`)).text;

  test('are kept byte for byte, and no number of metadata is rounded', async () => {
    const id = newId();
    expect((await post(toPut(id, odd))).text).toContain('"created');
    expect(await read(id)).toBe(odd);
    const got = (await post(toLine('context_get', `{"id":"${id}"}`))).text.replaceAll('\\"', '"');
    expect(got).toContain('"metadata":{"n": [9007199254740993, 1.0]}');
    await post(`[${toPut(`${id}-1`, odd)}, ${toPut(`${id}-2`, `[${odd}]`)}]`);
    expect([await read(`${id}-1`), await read(`${id}-2`)]).toEqual([odd, `[${odd}]`]);
    const sources = `[{"id":"${id}"},{"content":{"b":[12345678901234567890.0]}}]`;
    const args = `{"sources":${sources},"strategy":"union","target":{"id":"${id}-m"}}`;
    expect((await post(toLine('context_merge', args))).text).not.toContain('isError":true');
    expect(await read(`${id}-m`)).toContain('12345678901234567890.0');
  });

  test('are searched by the very numbers of their metadata', async () => {
    const id = newId();
    await post(
      toLine(
        'context_put',
        `{"id":"${id}","content":"A hoatzin.","contentType":"text/plain","metadata":{"n":9007199254740993}}`,
      ),
    );
    await store.manager.index({ only: store.ref, budgetMs: 10_000 });
    const search = async (metadata: string) =>
      (await post(toLine('context_search', `{"query":"hoatzin","metadata":${metadata}}`))).text;
    expect(await search('{"n":9007199254740993}')).toContain(id);
    expect(await search('{"n":9007199254740992}')).not.toContain(id);
    expect(await search('{"n":{"gt":9007199254740992.5,"lt":9007199254740993.5}}')).toContain(id);
    expect(await search('{"n":1e400}')).toContain('isError":true');
    expect(await search('{"__proto__":1}')).toContain('isError":true');
  });

  test('of any kind are kept as they were spelled', async () => {
    const spaced = fc
      .tuple(fc.json(), fc.constantFrom(0, 1, '\t'))
      .map(([json, by]) => JSON.stringify(JSON.parse(json), null, by));
    await fc.assert(
      fc.asyncProperty(spaced, async (content) => {
        const id = newId();
        await post(toPut(id, content));
        expect(await read(id)).toBe(content);
      }),
      { numRuns: 50 },
    );
  });

  test('that cannot be kept are refused with the reason', async () => {
    const refusals: [string, string][] = [
      ['{"a":1,"a":2}', 'the key appears twice'],
      ['"\\ud800"', 'a lone surrogate'],
    ];
    for (const [content, why] of refusals) expect((await post(toPut(newId(), content))).text).toContain(why);
    const latin = Buffer.from(toPut(newId(), '"ä"'), 'latin1');
    expect((await post(latin)).status).toBe(422);
  });

  test('may come compressed, within the same bounds', async () => {
    const id = newId();
    expect((await post(gzipSync(toPut(id, odd)), { 'content-encoding': 'gzip' })).text).toContain('"created');
    expect(await read(id)).toBe(odd);
    const bomb = gzipSync(Buffer.alloc(100_000_000, 32));
    expect((await post(bomb, { 'content-encoding': 'gzip' })).status).toBe(413);
    expect((await post('x', { 'content-encoding': 'nothing' })).status).toBe(415);
  });
});

describe('contents over stdio', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-verbatim-'));
  });
  afterEach(stopServing);
  afterAll(() => rm(folder, { recursive: true }));
  /** Sends all lines at once, and nothing more; answers with the texts of the answers by id. */
  async function converse(variables: Record<string, string>, lines: readonly (string | Uint8Array)[]) {
    const env = { ...process.env, ...variables };
    const child = spawn(process.execPath, ['functions/launch.js', 'functions/mcp.ts'], { cwd: home, env });
    const closed = once(child, 'close');
    const pieces: Buffer[] = [];
    child.stdout.on('data', (piece) => pieces.push(piece));
    child.stdin.end(Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from('\n')])));
    await closed;
    return Buffer.concat(pieces)
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  }

  test.each(['embedded', 'through a server'])(
    'are kept byte for byte: %s',
    async (how) => {
      const token = 'lam_test_owner_0123456789';
      const data = { LAMINA_DATA: join(folder, how.replaceAll(' ', '-')), LAMINA_TOKEN: token };
      const served = how === 'embedded' ? undefined : await startServing(data);
      const to = served === undefined ? data : { LAMINA_URL: served.origin, LAMINA_TOKEN: token };
      const lines = [toPut('kept', odd), '', 'no json', Buffer.from(toPut('lost', '"ä"'), 'latin1')];
      const answers = await converse(to, lines);
      // What was asked is answered, though the input ended before the store was open.
      expect(answers.filter(({ id }) => id === 1)).toMatchObject([
        { result: { structuredContent: { created: true } } },
      ]);
      expect(answers.filter(({ id }) => id === null)).toHaveLength(2);
      const [got] = await converse(to, [toLine('context_get', '{"id":"kept"}')]);
      expect(got.result.content[0].text).toContain(`"content":${odd},"metadata":{"n": [9007199254740993, 1.0]}`);
    },
    60_000,
  );
});
