import { gzipSync, zstdCompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../lib/base/hash.ts';
import { openStore, type SendOptions, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

const json = { 'content-type': 'application/json' };
const patch = { 'content-type': 'application/json-patch+json' };
const mergePatch = { 'content-type': 'application/merge-patch+json' };
const text = { 'content-type': 'text/plain' };
const deep = (levels: number) => `{"content":${'['.repeat(levels)}${']'.repeat(levels)}}`;
const put = (raw: string | Uint8Array, headers: Record<string, string> = json): [string, string, SendOptions] => [
  'PUT',
  '/v1/contexts/target',
  { raw, headers },
];
const post = (path: string, body: unknown): [string, string, SendOptions] => ['POST', path, { body }];

const patchOf = (operations: unknown, id: string): [string, string, SendOptions] => [
  'PATCH',
  `/v1/contexts/${id}`,
  { raw: JSON.stringify(operations), headers: { 'content-type': 'application/json-patch+json' } },
];

/** Each copies the whole document to its deepest place, and so doubles its depth. */
function nestingCopies() {
  const operations = [];
  for (let path = '', step = 0; step < 12; step++) {
    operations.push({ op: 'copy', from: '', path: `${path}/c` });
    path += `${path}/c`;
  }
  return operations;
}

function nestingMoves() {
  const makes = Array.from({ length: 500 }, (_, at) => ({ op: 'add', path: `/m${at}`, value: {} }));
  const moves = Array.from({ length: 499 }, (_, at) => ({ op: 'move', from: `/m${at}`, path: `/m${at + 1}/in` }));
  return [...makes, ...moves];
}

/** What is sent, the status it gets, and the code. */
const cases: [
  name: string,
  request: [method: string, path: string, options?: SendOptions],
  status: number,
  code: string,
][] = [
  // Bodies that are no JSON, or none that can be kept.
  ['no body', ['PUT', '/v1/contexts/target', { raw: '', headers: json }], 400, 'invalid_request'],
  ['malformed JSON', put('{"content":'), 400, 'invalid_request'],
  ['trailing comma', put('{"content":1,}'), 400, 'invalid_request'],
  ['single quotes', put("{'content':1}"), 400, 'invalid_request'],
  ['NaN', put('{"content":NaN}'), 400, 'invalid_request'],
  ['leading zero', put('{"content":01}'), 400, 'invalid_request'],
  ['two documents', put('{"content":1}{"content":2}'), 400, 'invalid_request'],
  ['a control character in a string', put('{"content":"\u0001"}'), 400, 'invalid_request'],
  ['a bad escape', put('{"content":"\\x"}'), 400, 'invalid_request'],
  ['an array for a body', put('[1]'), 400, 'invalid_request'],
  ['null for a body', put('null'), 400, 'invalid_request'],
  ['nested 10,000 deep', put(deep(10_000)), 422, 'unprocessable'],
  ['nested 201 deep', put(deep(201)), 422, 'unprocessable'],
  ['a duplicate key in the content', put('{"content":{"a":1,"a":2}}'), 422, 'unprocessable'],
  ['a duplicate member of the body', put('{"content":1,"content":2}'), 422, 'unprocessable'],
  ['a lone surrogate', put('{"content":"\\ud800"}'), 422, 'unprocessable'],
  ['a lone surrogate in a key', put('{"metadata":{"\\udfff":1},"content":1}'), 422, 'unprocessable'],
  ['bytes that are no UTF-8', put(Buffer.from([0x7b, 0xff, 0x7d])), 422, 'unprocessable'],
  ['UTF-16', put(Buffer.from('{"content":1}', 'utf16le')), 400, 'invalid_request'],
  [
    'another charset',
    put('{"content":1}', { 'content-type': 'application/json; charset=latin1' }),
    415,
    'unsupported_media_type',
  ],
  ['no media type', put('{"content":1}', { 'content-type': '' }), 415, 'unsupported_media_type'],
  ['a form', put('content=1', { 'content-type': 'application/x-www-form-urlencoded' }), 415, 'unsupported_media_type'],
  [
    'XML for a content',
    ['PUT', '/v1/contexts/target/content', { raw: '<a/>', headers: { 'content-type': 'application/xml' } }],
    415,
    'unsupported_media_type',
  ],
  [
    'an image for a content',
    ['PUT', '/v1/contexts/target/content', { raw: 'GIF', headers: { 'content-type': 'image/gif' } }],
    415,
    'unsupported_media_type',
  ],
  [
    'raw JSON with duplicate keys',
    ['PUT', '/v1/contexts/target/content', { raw: '{"a":1,"a":1}', headers: json }],
    422,
    'unprocessable',
  ],
  [
    'raw text with U+0000',
    ['PUT', '/v1/contexts/target/content', { raw: 'a\u0000b', headers: text }],
    422,
    'unprocessable',
  ],
  [
    'raw text that is no UTF-8',
    ['PUT', '/v1/contexts/target/content', { raw: Buffer.from([0xc3, 0x28]), headers: text }],
    422,
    'unprocessable',
  ],
  // Encodings.
  ['gzip that is none', put('{"content":1}', { ...json, 'content-encoding': 'gzip' }), 400, 'invalid_request'],
  [
    'half a gzip',
    put(gzipSync('{"content":1}').subarray(0, 12), { ...json, 'content-encoding': 'gzip' }),
    400,
    'invalid_request',
  ],
  [
    'a gzip bomb',
    put(gzipSync(Buffer.alloc(100_000_000)), { ...json, 'content-encoding': 'gzip' }),
    413,
    'context_too_large',
  ],
  [
    'a zstd bomb',
    put(zstdCompressSync(Buffer.alloc(100_000_000)), { ...json, 'content-encoding': 'zstd' }),
    413,
    'context_too_large',
  ],
  ['an unknown encoding', put('{"content":1}', { ...json, 'content-encoding': 'lzma' }), 415, 'unsupported_media_type'],
  ['a body over 4 MiB', put(`{"content":"${'x'.repeat(4_194_304)}"}`), 413, 'context_too_large'],
  // Members of a put.
  ['an unknown member', put('{"content":1,"contnet":2}'), 400, 'invalid_request'],
  ['a hostile member', put('{"content":1,"__proto__":{"admin":true}}'), 400, 'invalid_request'],
  ['an actor', put('{"content":1,"actor":{"kind":"system","id":"x"}}'), 400, 'invalid_request'],
  ['a version', put('{"content":1,"version":7}'), 400, 'invalid_request'],
  ['no content for a new context', put('{"kind":"note"}'), 400, 'invalid_request'],
  ['a kind in capitals', put('{"content":1,"kind":"Note"}'), 400, 'invalid_request'],
  ['a kind of 65 characters', put(`{"content":1,"kind":"${'k'.repeat(65)}"}`), 400, 'invalid_request'],
  ['a number for a kind', put('{"content":1,"kind":5}'), 400, 'invalid_request'],
  ['a number for a text', put('{"content":5,"contentType":"text/plain"}'), 400, 'invalid_request'],
  ['U+0000 in a text', put('{"content":"a\\u0000","contentType":"text/plain"}'), 422, 'unprocessable'],
  ['a content type alone', put('{"contentType":"text/plain"}'), 400, 'invalid_request'],
  ['an unknown content type', put('{"content":"a","contentType":"image/png"}'), 400, 'invalid_request'],
  ['metadata that is a list', put('{"content":1,"metadata":[1]}'), 400, 'invalid_request'],
  ['metadata over 64 KiB', put(`{"content":1,"metadata":{"a":"${'x'.repeat(65_536)}"}}`), 400, 'invalid_request'],
  ['U+0000 in metadata', put('{"content":1,"metadata":{"a":["\\u0000"]}}'), 422, 'unprocessable'],
  ['U+0000 in a metadata key', put('{"content":1,"metadata":{"\\u0000":1}}'), 422, 'unprocessable'],
  ['a number of a million digits in metadata', put('{"content":1,"metadata":{"a":1e1000000}}'), 422, 'unprocessable'],
  ['65 tags', put(JSON.stringify({ content: 1, metadata: { tags: Array(65).fill('t') } })), 400, 'invalid_request'],
  [
    'a tag of 129 characters',
    put(JSON.stringify({ content: 1, metadata: { tags: ['t'.repeat(129)] } })),
    400,
    'invalid_request',
  ],
  ['two expiries', put('{"content":1,"ttlSeconds":5,"expiresAt":"2100-01-01T00:00:00Z"}'), 400, 'invalid_request'],
  ['a negative time to live', put('{"content":1,"ttlSeconds":-1}'), 400, 'invalid_request'],
  ['an endless time to live', put('{"content":1,"ttlSeconds":1e300}'), 400, 'invalid_request'],
  ['a day that is none', put('{"content":1,"expiresAt":"2100-02-30T00:00:00Z"}'), 400, 'invalid_request'],
  ['a time without a zone', put('{"content":1,"expiresAt":"2100-02-03T00:00:00"}'), 400, 'invalid_request'],
  ['an expiry in the past', put('{"content":1,"expiresAt":"2001-01-01T00:00:00Z"}'), 422, 'unprocessable'],
  ['a parent that is no id', put('{"content":1,"parentId":"a b"}'), 400, 'invalid_request'],
  ['a parent that does not exist', put('{"content":1,"parentId":"nowhere"}'), 422, 'parent_not_found'],
  ['itself as parent', put('{"content":1,"parentId":"target"}'), 409, 'parent_cycle'],
  // Ids and paths.
  ['an id with a space', ['GET', '/v1/contexts/a%20b'], 400, 'invalid_request'],
  ['an id with a slash', ['GET', '/v1/contexts/a%2Fb'], 400, 'invalid_request'],
  ['an id with U+0000', ['GET', '/v1/contexts/a%00b'], 400, 'invalid_request'],
  ['an id that begins with a dot', ['GET', '/v1/contexts/.hidden'], 400, 'invalid_request'],
  ['an id of 201 characters', ['GET', `/v1/contexts/${'a'.repeat(201)}`], 400, 'invalid_request'],
  ['an id in another script', ['GET', '/v1/contexts/%D0%BA%D0%BB%D1%8E%D1%87'], 400, 'invalid_request'],
  ['an escape that is none', ['GET', '/v1/contexts/%E0%A4%A'], 400, 'invalid_request'],
  ['an id in SQL', ['GET', `/v1/contexts/${encodeURIComponent("x'; drop table context;--")}`], 400, 'invalid_request'],
  ['a path that leads nowhere', ['GET', '/v1/nothing'], 404, 'not_found'],
  ['a method that is not there', ['PATCH', '/v1/contexts'], 405, 'method_not_allowed'],
  ['another method that is not there', ['DELETE', '/v1/changes'], 405, 'method_not_allowed'],
  // Queries.
  ['an unknown query', ['GET', '/v1/contexts/target?verison=1'], 400, 'invalid_request'],
  ['a query twice', ['GET', '/v1/contexts?limit=1&limit=2'], 400, 'invalid_request'],
  ['a limit of 0', ['GET', '/v1/contexts?limit=0'], 400, 'invalid_request'],
  ['a limit of 201', ['GET', '/v1/contexts?limit=201'], 400, 'invalid_request'],
  ['a limit in words', ['GET', '/v1/contexts?limit=ten'], 400, 'invalid_request'],
  ['a cursor of nobody', ['GET', '/v1/contexts?cursor=eyJhIjoxfQ'], 400, 'invalid_request'],
  ['a cursor that is no text', ['GET', '/v1/contexts?cursor=%00%ff'], 400, 'invalid_request'],
  ['an unknown order', ['GET', '/v1/contexts?order=size'], 400, 'invalid_request'],
  ['a metadata path without a name', ['GET', '/v1/contexts?metadata.=1'], 400, 'invalid_request'],
  ['a metadata filter with U+0000', ['GET', '/v1/contexts?metadata.a=%00'], 400, 'invalid_request'],
  ['a parent filter that is no id', ['GET', '/v1/contexts?parentId=a%20b'], 400, 'invalid_request'],
  ['version 0', ['GET', '/v1/contexts/target?version=0'], 400, 'invalid_request'],
  ['a version in words', ['GET', '/v1/contexts/target?version=one'], 400, 'invalid_request'],
  ['a version and a time', ['GET', '/v1/contexts/target?version=1&at=2026-01-01T00:00:00Z'], 400, 'invalid_request'],
  ['a version resolved', ['GET', '/v1/contexts/target?version=1&resolve=ancestors'], 400, 'invalid_request'],
  ['a time that is none', ['GET', '/v1/contexts/target?at=yesterday'], 400, 'invalid_request'],
  ['an unknown way with children', ['DELETE', '/v1/contexts/target?children=eat'], 400, 'invalid_request'],
  [
    'an unknown strategy',
    ['PUT', '/v1/contexts/target?onConflict=guess', { body: { content: 1 } }],
    400,
    'invalid_request',
  ],
  ['a tree 33 deep', ['GET', '/v1/contexts/target/tree?depth=33'], 400, 'invalid_request'],
  ['a cursor above the clock', ['GET', '/v1/changes?since=999999999'], 400, 'invalid_request'],
  ['a cursor in words', ['GET', '/v1/changes?since=now'], 400, 'invalid_request'],
  ['a wait of 21 seconds', ['GET', '/v1/changes?waitSeconds=21'], 400, 'invalid_request'],
  // Headers.
  [
    'a tag without quotes',
    ['PUT', '/v1/contexts/target', { body: { content: 1 }, headers: { 'if-match': '3' } }],
    400,
    'invalid_request',
  ],
  [
    'a list of tags',
    ['PUT', '/v1/contexts/target', { body: { content: 1 }, headers: { 'if-match': '"1", "2"' } }],
    400,
    'invalid_request',
  ],
  [
    'both preconditions',
    ['PUT', '/v1/contexts/target', { body: { content: 1 }, headers: { 'if-match': '*', 'if-none-match': '*' } }],
    400,
    'invalid_request',
  ],
  [
    'a tag not to match on a write',
    ['PUT', '/v1/contexts/target', { body: { content: 1 }, headers: { 'if-none-match': '"1"' } }],
    400,
    'invalid_request',
  ],
  ['a seq in words', ['GET', '/v1/contexts', { headers: { 'context-seq': 'new' } }], 400, 'invalid_request'],
  [
    'a seq never given out',
    ['GET', '/v1/contexts', { headers: { 'context-seq': '99999999' } }],
    400,
    'invalid_request',
  ],
  [
    'an idempotency key of 256 characters',
    ['PUT', '/v1/contexts/target', { body: { content: 1 }, headers: { 'idempotency-key': 'k'.repeat(256) } }],
    400,
    'invalid_request',
  ],
  [
    'headers over 10 KB',
    ['GET', '/v1/contexts', { headers: { 'x-large': 'x'.repeat(10_241) } }],
    400,
    'invalid_request',
  ],
  ['a token of 10,000 characters', ['GET', '/v1/contexts', { token: 'x'.repeat(9000) }], 401, 'unauthenticated'],
  // Patches.
  [
    'a patch that is no list',
    ['PATCH', '/v1/contexts/fixed', { raw: '{"op":"add"}', headers: patch }],
    400,
    'invalid_request',
  ],
  [
    'a patch with an unknown operation',
    ['PATCH', '/v1/contexts/fixed', { raw: '[{"op":"swap","path":"/a"}]', headers: patch }],
    400,
    'invalid_request',
  ],
  [
    'a patch with a failed test',
    ['PATCH', '/v1/contexts/fixed', { raw: '[{"op":"test","path":"/a","value":2}]', headers: patch }],
    422,
    'unprocessable',
  ],
  [
    'a patch into nothing',
    ['PATCH', '/v1/contexts/fixed', { raw: '[{"op":"add","path":"/b/c","value":1}]', headers: patch }],
    422,
    'unprocessable',
  ],
  [
    'a patch that ends deeper than 200',
    ['PATCH', '/v1/contexts/fixed', { raw: `{"a":${'['.repeat(200)}${']'.repeat(200)}}`, headers: mergePatch }],
    422,
    'unprocessable',
  ],
  [
    'a patch in malformed JSON',
    ['PATCH', '/v1/contexts/fixed', { raw: '{', headers: mergePatch }],
    400,
    'invalid_request',
  ],
  ['a patch on a text', ['PATCH', '/v1/contexts/words', { raw: '{}', headers: mergePatch }], 422, 'unprocessable'],
  [
    'a patch of nothing',
    ['PATCH', '/v1/contexts/target', { raw: '{}', headers: mergePatch }],
    404,
    'context_not_found',
  ],
  // Batches, merges, keys.
  ['a batch of none', post('/v1/batch/write', { operations: [] }), 400, 'invalid_request'],
  [
    'a batch with an unknown operation',
    post('/v1/batch/write', { operations: [{ op: 'move', id: 'a' }] }),
    400,
    'invalid_request',
  ],
  [
    'a batch that names an id twice',
    post('/v1/batch/write', {
      operations: [
        { op: 'delete', id: 'a' },
        { op: 'delete', id: 'a' },
      ],
    }),
    400,
    'invalid_request',
  ],
  ['a batch read of 101', post('/v1/batch/get', { ids: Array(101).fill('a') }), 400, 'invalid_request'],
  ['a merge of one', post('/v1/merge', { strategy: 'union', sources: [{ content: 1 }] }), 400, 'invalid_request'],
  [
    'a merge of 17',
    post('/v1/merge', { strategy: 'union', sources: Array(17).fill({ content: 1 }) }),
    400,
    'invalid_request',
  ],
  [
    'a merge by an unknown strategy',
    post('/v1/merge', { strategy: 'best', sources: [{ content: 1 }, { content: 2 }] }),
    400,
    'invalid_request',
  ],
  [
    'a merge of a source that is both',
    post('/v1/merge', { strategy: 'union', sources: [{ id: 'fixed', content: 1 }, { content: 2 }] }),
    400,
    'invalid_request',
  ],
  ['a key without scopes', post('/v1/keys', { name: 'x', scopes: [] }), 400, 'invalid_request'],
  ['a key with an unknown scope', post('/v1/keys', { name: 'x', scopes: ['root'] }), 400, 'invalid_request'],
  ['a key with a line break in its name', post('/v1/keys', { name: 'a\nb', scopes: ['read'] }), 400, 'invalid_request'],
  ['a key that is not there', ['DELETE', '/v1/keys/000000000000'], 404, 'not_found'],
  ['an unknown task', post('/v1/maintenance/run', { task: 'dance' }), 400, 'invalid_request'],
  ['a pin that says neither', post('/v1/contexts/fixed/versions/1/pin', {}), 400, 'invalid_request'],
  [
    'a pin of a version that never was',
    post('/v1/contexts/fixed/versions/9/pin', { pinned: true }),
    404,
    'version_not_found',
  ],
  ['a time beyond all years', put('{"content":1,"expiresAt":"9999-12-31T23:59:59-12:00"}'), 400, 'invalid_request'],
  [
    'a time before all years',
    post('/v1/keys', { name: 'x', scopes: ['read'], expiresAt: '0000-01-01T00:00:00Z' }),
    400,
    'invalid_request',
  ],
  [
    'a time with 300 digits',
    put(`{"content":1,"expiresAt":"2030-01-01T00:00:00.${'0'.repeat(300)}Z"}`),
    400,
    'invalid_request',
  ],
  [
    'a key that has expired already',
    post('/v1/keys', { name: 'x', scopes: ['read'], expiresAt: '2020-01-01T00:00:00Z' }),
    422,
    'unprocessable',
  ],
  ['a query that every object has', ['GET', '/v1/contexts?toString=1'], 400, 'invalid_request'],
  ['a query named __proto__', ['GET', '/v1/contexts?__proto__=1'], 400, 'invalid_request'],
  [
    'an encoding that every object has',
    put('{"content":1}', { ...json, 'content-encoding': 'constructor' }),
    415,
    'unsupported_media_type',
  ],
  [
    'two charsets',
    put('{"content":1}', { 'content-type': 'application/json; charset=utf-8; charset=latin1' }),
    415,
    'unsupported_media_type',
  ],
  [
    'a charset with spaces around',
    put('{"content":1}', { 'content-type': 'application/json; charset = latin1' }),
    415,
    'unsupported_media_type',
  ],
  [
    'metadata whose numbers grow',
    put(`{"content":1,"metadata":{"n":[${Array(8000).fill('1e1000').join()}]}}`),
    400,
    'invalid_request',
  ],
  ['a diff of nothing', ['GET', '/v1/contexts/nothing/diff?from=1&to=2'], 404, 'context_not_found'],
  [
    'a merge of a version of nothing',
    post('/v1/merge', { strategy: 'latest', sources: [{ id: 'nothing', version: 2 }, { content: 1 }] }),
    404,
    'context_not_found',
  ],
  [
    'copies of copies',
    patchOf(
      Array.from({ length: 9000 }, (_, at) => ({ op: 'copy', from: '/a', path: `/b${at}` })),
      'large',
    ),
    422,
    'unprocessable',
  ],
  ['copies nested in copies', patchOf(nestingCopies(), 'fixed'), 422, 'unprocessable'],
  ['moves nested in moves', patchOf(nestingMoves(), 'fixed'), 422, 'unprocessable'],
];

describe.each(engines)('bad input on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
    await store.send('PUT', '/v1/contexts/fixed', { body: { content: { a: 1 } } });
    await store.send('PUT', '/v1/contexts/large', { body: { content: { a: 'x'.repeat(1_000_000) } } });
    await store.send('PUT', '/v1/contexts/words', { body: { content: 'a', contentType: 'text/plain' } });
  });

  test(`there are more than sixty of them (${cases.length})`, () => {
    expect(cases.length).toBeGreaterThan(60);
  });

  test.each(cases)('%s', async (_name, [method, path, options], status, code) => {
    const before = (await store.send('GET', '/v1/changes?since=latest')).json.nextCursor;
    const answer = await store.send(method, path, options);
    expect([answer.status, answer.json?.code]).toEqual([status, code]);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.json.requestId).toBe(answer.headers.get('x-request-id'));
    expect(answer.text).not.toMatch(/select |insert |at .*\.ts|\/node_modules\//);
    const after = (await store.send('GET', '/v1/changes?since=latest')).json.nextCursor;
    expect(after).toBe(before);
  });

  test('a cursor that nobody gave out is refused, whatever it looks like', async () => {
    const forged = async (list: string, query: unknown, place: unknown[]) => {
      const binding = sha256(JSON.stringify(query)).slice(0, 12);
      const cursor = Buffer.from(JSON.stringify([binding, ...place])).toString('base64url');
      return (await store.send('GET', `${list}${list.includes('?') ? '&' : '?'}cursor=${cursor}`)).json.code;
    };
    const listed = (order: string) => ({ filter: { metadata: [] }, order });
    const versions = { versionsOf: 'fixed' };
    for (const [list, query, place] of [
      ['/v1/contexts?order=updated', listed('updated'), ['x']],
      ['/v1/contexts?order=updated', listed('updated'), ['x', -9e15]],
      ['/v1/contexts', listed('id'), ['a\u0000', 1]],
      ['/v1/contexts/fixed/versions', versions, ['abc']],
      ['/v1/contexts/fixed/versions', versions, [9e15]],
      ['/v1/keys', 'keys', ['a\u0000']],
      ['/v1/audit', 'audit', [1]],
    ] as const) {
      expect([list, place, await forged(list, query, [...place])]).toEqual([list, place, 'invalid_request']);
    }
    // A place that fits is taken, so what was refused above was refused for its place.
    expect(await forged('/v1/contexts/fixed/versions', versions, [5])).toBeUndefined();
  });

  test('as many mistakes as a body can hold are answered with a hundred', async () => {
    const body = Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [`k${at}`, 1]));
    expect((await store.send('PUT', '/v1/contexts/fixed', { body })).json.errors).toHaveLength(100);
  });
});
