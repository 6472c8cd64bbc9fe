import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../lib/base/hash.ts';
import { type Database, runOne } from '../lib/postgres/database.ts';
import { newId, openStore, type Reply, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';
import { createGate, intercept } from './support/intercept.ts';
import { cut, partBytes, putLarge, randomText, wholeBytes } from './support/upload.ts';

const hashOf = (bytes: Uint8Array | string) => `sha256:${sha256(bytes)}`;

/** A database in which what takes or begins an upload is done long before it is committed, so that others meet it. */
function lingering(database: Database): Database {
  return {
    ...database,
    in(visitor) {
      const door = database.in(visitor);
      return {
        async run(statements, options) {
          const isLong = statements.some(({ text }) => /begin_upload|write_contexts/.test(text));
          const pause = isLong ? [{ text: 'select pg_sleep(0.05)', params: [] }] : [];
          return (await door.run([...statements, ...pause], options)).slice(0, statements.length);
        },
      };
    },
  };
}

describe.each(engines)('uploads on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { limits: { uploads: 1000, uploadsBytes: 10_000_000_000 } } });
  });

  const begin = (content: Uint8Array | string, body: object = {}, headers = {}, of = store): Promise<Reply> =>
    of.send('POST', '/v1/uploads', {
      body: { sizeBytes: Buffer.byteLength(content), contentType: 'text/plain', hash: hashOf(content), ...body },
      headers,
    });
  const send = (uploadId: string, part: number | string, bytes: Uint8Array | string, headers = {}, of = store) =>
    of.send('PUT', `/v1/uploads/${uploadId}/parts/${part}`, {
      raw: bytes,
      headers: { 'content-type': 'application/octet-stream', ...headers },
    });
  const put = (id: string, body: unknown, headers = {}, query = '') =>
    store.send('PUT', `/v1/contexts/${id}${query}`, { body, headers });
  const look = (uploadId: string) => store.send('GET', `/v1/uploads/${uploadId}`);
  /** An upload with all its parts there. */
  async function upload(content: Uint8Array | string, body: object = {}): Promise<string> {
    const made = await begin(content, body);
    expect(made.status).toBe(201);
    for (let part = made.json.parts; part >= 1; part--)
      expect((await send(made.json.uploadId, part, cut(content, part))).status).toBe(200);
    return made.json.uploadId;
  }
  const contentOf = async (id: string, headers: Record<string, string> = {}) => {
    const request = new Request(`http://lamina.test/v1/contexts/${id}/content`, {
      headers: { authorization: `Bearer ${store.token}`, ...headers },
    });
    const response = await store.fetch(request);
    return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()), headers: response.headers };
  };
  const clock = async () => Number((await store.send('GET', '/v1/changes?since=latest')).json.nextCursor);
  test('10,485,760 bytes go in through parts of 4 MiB and come out, whole and ranged; one more is 413', async () => {
    const id = newId();
    const content = randomText(wholeBytes);
    const made = await begin(content);
    expect(made.json).toMatchObject({ partBytes, parts: 3, sizeBytes: wholeBytes, received: [], missing: [1, 2, 3] });
    expect(made.headers.get('location')).toBe(`/v1/uploads/${made.json.uploadId}`);
    const { uploadId } = made.json;
    for (const part of [3, 1, 2]) {
      const kept = await send(uploadId, part, cut(content, part));
      expect(kept.json).toEqual({ part, sizeBytes: cut(content, part).length, hash: hashOf(cut(content, part)) });
    }
    const written = await put(id, { upload: uploadId, metadata: { from: 'parts' } });
    expect(written.status).toBe(201);
    expect(written.json).toMatchObject({
      version: 1,
      sizeBytes: wholeBytes,
      contentType: 'text/plain',
      hash: hashOf(content),
      content: null,
      contentUrl: `/v1/contexts/${id}/content?version=1`,
      metadata: { from: 'parts' },
    });
    const read = await contentOf(id);
    expect([read.status, read.headers.get('content-length')]).toEqual([200, String(wholeBytes)]);
    expect(hashOf(read.bytes)).toBe(hashOf(content));
    const pieces = [
      [0, 9],
      [partBytes - 5, partBytes + 5],
      [2 * partBytes, 2 * partBytes],
      [wholeBytes - 3, wholeBytes - 1],
      [1, wholeBytes - 2],
    ] as const;
    for (const [first, last] of pieces) {
      const piece = await contentOf(id, { range: `bytes=${first}-${last}` });
      expect([piece.status, piece.headers.get('content-range')]).toEqual([206, `bytes ${first}-${last}/${wholeBytes}`]);
      expect(piece.bytes.equals(Buffer.from(content).subarray(first, last + 1))).toBe(true);
    }
    expect((await contentOf(id, { range: `bytes=${wholeBytes}-` })).status).toBe(416);
    const over = await begin('', { sizeBytes: wholeBytes + 1 });
    expect([over.status, over.json]).toMatchObject([
      413,
      { code: 'context_too_large', sizeBytes: wholeBytes + 1, limitBytes: wholeBytes },
    ]);
  });

  test('what is too large for one request is 413 and told of uploads', async () => {
    const large = 'x'.repeat(partBytes);
    const refused = [
      await put(newId(), { content: large }),
      await store.send('POST', '/v1/contexts', { body: { content: large } }),
      await store.send('PUT', `/v1/contexts/${newId()}/content`, {
        raw: `${large}x`,
        headers: { 'content-type': 'text/plain' },
      }),
    ];
    for (const { status, json } of refused)
      expect([status, json.detail]).toEqual([413, expect.stringContaining('POST /v1/uploads')]);
  });

  test('parts come in any order and as often as they like; what was sent last counts', async () => {
    const content = Buffer.from(randomText(2 * partBytes + 1000));
    const other = Buffer.alloc(partBytes, 'x');
    const steps = fc.array(fc.record({ part: fc.integer({ min: 1, max: 3 }), isRight: fc.boolean() }), {
      minLength: 1,
      maxLength: 7,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (sent) => {
        const { uploadId } = (await begin(content)).json;
        const held = new Map<number, boolean>();
        const bytesOf = (part: number, isRight: boolean) =>
          isRight ? cut(content, part) : other.subarray(0, cut(content, part).length);
        for (const { part, isRight } of sent) {
          expect((await send(uploadId, part, bytesOf(part, isRight))).status).toBe(200);
          held.set(part, isRight);
        }
        const { received, missing } = (await look(uploadId)).json;
        const parts = [...held].sort(([one], [two]) => one - two);
        expect(received.map((one: { part: number; hash: string }) => [one.part, one.hash])).toEqual(
          parts.map(([part, isRight]) => [part, hashOf(bytesOf(part, isRight))]),
        );
        expect(missing).toEqual([1, 2, 3].filter((part) => !held.has(part)));
        const id = newId();
        const written = await put(id, { upload: uploadId });
        if (missing.length > 0) expect([written.status, written.json.missing]).toEqual([422, missing]);
        else if (parts.some(([, isRight]) => !isRight))
          expect([written.status, written.json.announcedHash]).toEqual([422, hashOf(content)]);
        else expect([written.status, written.json.hash]).toEqual([201, hashOf(content)]);
        if (written.status === 422) expect((await store.send('GET', `/v1/contexts/${id}`)).status).toBe(404);
        await store.send('DELETE', `/v1/uploads/${uploadId}`);
      }),
      { numRuns: 12 },
    );
  });

  test('a missing part or a wrong hash writes nothing, and the upload can be mended', async () => {
    const id = newId();
    const content = `${'a'.repeat(partBytes)}b`;
    const { uploadId } = (await begin(content)).json;
    await send(uploadId, 1, cut(content, 1));
    const before = await clock();
    expect((await put(id, { upload: uploadId })).json).toMatchObject({ code: 'unprocessable', missing: [2] });
    await send(uploadId, 2, 'c');
    expect((await put(id, { upload: uploadId })).json).toMatchObject({
      code: 'unprocessable',
      announcedHash: hashOf(content),
      hash: hashOf(`${'a'.repeat(partBytes)}c`),
    });
    expect((await store.send('GET', `/v1/contexts/${id}`)).status).toBe(404);
    expect(await clock()).toBe(before);
    await send(uploadId, 2, 'b');
    expect((await put(id, { upload: uploadId })).status).toBe(201);
    expect(await clock()).toBe(before + 1);
  });

  test('without an announced hash what came is what is written', async () => {
    const id = newId();
    const uploadId = await upload('{"a": 1.0}', { hash: undefined, contentType: 'application/json' });
    const written = await put(id, { upload: uploadId });
    expect(written.json).toMatchObject({ hash: hashOf('{"a": 1.0}'), contentType: 'application/json' });
    expect(written.text).toContain('"content":{"a": 1.0}');
    expect((await contentOf(id)).bytes.toString()).toBe('{"a": 1.0}');
  });

  test('a content that could not be sent inline is refused from an upload, too', async () => {
    const json = { contentType: 'application/json' };
    const cases: [content: string | Uint8Array, body: object, status: number][] = [
      ['{"a":', json, 400],
      ['{"a":1,"a":2}', json, 422],
      ['["\\ud800"]', json, 422],
      [`${'['.repeat(201)}${']'.repeat(201)}`, json, 422],
      [`${' '.repeat(partBytes)}[1,]`, json, 400],
      [Buffer.from([0x22, 0xff, 0x22]), json, 422],
      ['a\u0000', {}, 422],
      [Buffer.from([0x61, 0xc3]), {}, 422],
    ];
    for (const [content, body, status] of cases) {
      const uploadId = await upload(content, body);
      expect([content.slice(0, 9), (await put(newId(), { upload: uploadId })).status]).toEqual([
        content.slice(0, 9),
        status,
      ]);
    }
    // A character may lie across two parts.
    const text = `${'x'.repeat(partBytes - 1)}é`;
    const id = newId();
    expect((await put(id, { upload: await upload(text) })).status).toBe(201);
    expect((await contentOf(id)).bytes.toString()).toBe(text);
  });

  test('a number, a length or an upload that is none is refused', async () => {
    const content = 'x'.repeat(partBytes + 10);
    const { uploadId } = (await begin(content)).json;
    const full = cut(content, 1);
    const statuses = [
      [await send(uploadId, 0, full), 400],
      [await send(uploadId, '-1', full), 400],
      [await send(uploadId, '1.5', full), 400],
      [await send(uploadId, '9'.repeat(30), full), 400],
      [await send(uploadId, 3, full), 422],
      [await send(uploadId, 999_999, full), 422],
      [await send(uploadId, 1, full.subarray(1)), 422],
      [await send(uploadId, 1, ''), 422],
      [await send(uploadId, 1, 'x'.repeat(partBytes + 1)), 413],
      [await send(uploadId, 2, 'x'.repeat(9)), 422],
      [await send(uploadId, 2, 'x'.repeat(11)), 422],
      [await send('unknown', 1, full), 404],
      [await send('UNKNOWN', 1, full), 400],
      [await look('unknown'), 404],
      [await store.send('DELETE', '/v1/uploads/unknown'), 404],
      [await put(newId(), { upload: 'unknown' }), 404],
      [await put(newId(), { upload: '' }), 400],
      [await put(newId(), { upload: 7 }), 400],
      [await put(newId(), { upload: uploadId, content: 1 }), 400],
      [await put(newId(), { upload: uploadId, contentType: 'text/plain' }), 400],
      [await store.send('POST', '/v1/contexts', { body: { upload: uploadId } }), 400],
      [
        await store.send('POST', '/v1/batch/write', {
          body: { operations: [{ op: 'put', id: newId(), upload: uploadId }] },
        }),
        400,
      ],
    ] as const;
    expect(statuses.map(([{ status }]) => status)).toEqual(statuses.map(([, status]) => status));
    const bodies = [
      {},
      { sizeBytes: 0 },
      { sizeBytes: -1 },
      { sizeBytes: 1.5 },
      { sizeBytes: '5' },
      { sizeBytes: 1e300 },
      { hash: sha256('x') },
      { hash: `sha256:${'A'.repeat(64)}` },
      { hash: `sha1:${'a'.repeat(40)}` },
      { contentType: 'image/png' },
      { contentType: 5 },
      { contentType: undefined },
      { parts: 3 },
    ];
    for (const body of bodies) {
      const sent = Object.keys(body).length === 0 ? {} : { sizeBytes: 5, contentType: 'text/plain', ...body };
      expect([body, (await store.send('POST', '/v1/uploads', { body: sent })).status]).toEqual([body, 400]);
    }
    expect((await look(uploadId)).json.received).toEqual([]);
  });

  test('an upload is used up by the write that names it, and who asks again is told by which', async () => {
    const id = newId();
    const uploadId = await upload('once');
    const first = await put(id, { upload: uploadId });
    expect(first.json).toMatchObject({ version: 1, content: 'once' });
    const used = (await look(uploadId)).json;
    expect(used).toMatchObject({ usedBy: { id, version: 1 }, received: [], missing: [], hash: hashOf('once') });
    // The same write again, as whoever has not heard of its answer would send it.
    const again = await put(id, { upload: uploadId });
    expect([again.status, again.json]).toMatchObject([200, { version: 1, unchanged: true }]);
    const elsewhere = await put(newId(), { upload: uploadId });
    expect([elsewhere.status, elsewhere.json]).toMatchObject([404, { code: 'not_found', usedBy: { id, version: 1 } }]);
    // Nor does a context have it that says the same.
    const same = newId();
    await put(same, { content: 'once', contentType: 'text/plain' });
    expect((await put(same, { upload: uploadId })).json).toMatchObject({
      code: 'not_found',
      usedBy: { id, version: 1 },
    });
    await put(id, { content: 'since', contentType: 'text/plain' });
    expect((await put(id, { upload: uploadId })).json).toMatchObject({ code: 'not_found', usedBy: { id, version: 1 } });
    expect((await send(uploadId, 1, 'once')).json).toMatchObject({ code: 'not_found', usedBy: { id, version: 1 } });
    expect((await store.send('DELETE', `/v1/uploads/${uploadId}`)).json.code).toBe('not_found');
    expect((await store.send('GET', `/v1/contexts/${id}`)).json).toMatchObject({ version: 2, content: 'since' });
  });

  test('the write that names it is its only one: no other change of the same context comes with it', async () => {
    const id = newId();
    const uploadId = await upload('once');
    await put(id, { upload: uploadId });
    const refused = [
      await put(id, { upload: uploadId, metadata: { x: 1 } }),
      await put(id, { upload: uploadId, kind: 'other' }, { 'if-match': '"1"' }),
      await put(id, { upload: uploadId, metadata: { x: 1 } }, { 'if-match': '"7"' }),
    ];
    for (const { status, json } of refused)
      expect([status, json]).toMatchObject([404, { code: 'not_found', upload: uploadId, usedBy: { id, version: 1 } }]);
    // Nor does it set back what has changed since.
    await put(id, { content: 'once', contentType: 'text/markdown' });
    expect((await put(id, { upload: uploadId })).json).toMatchObject({ usedBy: { id, version: 1 } });
    expect((await store.send('GET', `/v1/contexts/${id}`)).json).toMatchObject({
      version: 2,
      contentType: 'text/markdown',
      kind: 'note',
      metadata: {},
    });
  });

  test('a refused write leaves the upload to the next; one that changes nothing uses it up', async () => {
    const id = newId();
    await put(id, { content: 'one', contentType: 'text/plain' });
    const uploadId = await upload('two');
    expect((await put(id, { upload: uploadId }, { 'if-match': '"7"' })).status).toBe(412);
    expect((await put(id, { upload: uploadId }, { 'if-none-match': '*' })).status).toBe(412);
    expect((await put(id, { upload: uploadId, parentId: 'nobody' })).status).toBe(422);
    expect((await look(uploadId)).json).toMatchObject({ usedBy: null, missing: [] });
    expect((await put(id, { upload: uploadId }, { 'if-match': '"1"' })).json).toMatchObject({ version: 2 });
    const same = await upload('two');
    expect((await put(id, { upload: same })).json).toMatchObject({ version: 2, unchanged: true });
    expect((await look(same)).json.usedBy).toEqual({ id, version: 2 });
  });

  test('of many writes that name one upload at once one has it, and the others are told', async () => {
    const uploadId = await upload('for one');
    const ids = Array.from({ length: 8 }, () => newId());
    const slow = await openStore(engine, { database: lingering(store.database) });
    const replies = await Promise.all(
      ids.map((id) => slow.send('PUT', `/v1/contexts/${id}`, { body: { upload: uploadId }, token: store.token })),
    );
    expect(replies.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(404)]);
    const winner = replies.find(({ status }) => status === 201)?.json.id;
    for (const { status, json } of replies) if (status === 404) expect(json.usedBy).toEqual({ id: winner, version: 1 });

    const shared = newId();
    const other = await upload('for one context');
    const same = await Promise.all(Array.from({ length: 8 }, () => put(shared, { upload: other })));
    expect(same.map(({ status }) => status).sort()).toEqual([...Array(7).fill(200), 201]);
    expect((await store.send('GET', `/v1/contexts/${shared}/versions`)).json.items).toHaveLength(1);
  });

  test('under an Idempotency-Key every step is carried out once and answered the same again', async () => {
    const twice = async (work: (headers: Record<string, string>) => Promise<Reply>) => {
      const headers = { 'idempotency-key': newId('key') };
      const first = await work(headers);
      const second = await work(headers);
      expect([second.status, second.text]).toEqual([first.status, first.text]);
      return { first, headers };
    };
    const id = newId();
    const { first, headers } = await twice((key) => begin('keyed', {}, key));
    expect((await begin('other', {}, headers)).json.code).toBe('idempotency_mismatch');
    const { uploadId } = first.json;
    const part = await twice((key) => send(uploadId, 1, 'keyed', key));
    expect((await send(uploadId, 1, 'other', part.headers)).json.code).toBe('idempotency_mismatch');
    const written = await twice((key) => put(id, { upload: uploadId }, key));
    await put(id, { content: 'since' });
    const replayed = await put(id, { upload: uploadId }, written.headers);
    expect([replayed.status, replayed.text]).toEqual([201, written.first.text]);
    expect((await put(id, { upload: 'other' }, written.headers)).json.code).toBe('idempotency_mismatch');
    const dropped = (await begin('dropped')).json.uploadId;
    await twice((key) => store.send('DELETE', `/v1/uploads/${dropped}`, { headers: key }));
  });

  test('writes of one key at once are one write, also while the second looks at the parts', async () => {
    const id = newId();
    const uploadId = await upload('racing');
    const headers = { 'idempotency-key': newId('key') };
    const replies = await Promise.all(Array.from({ length: 6 }, () => put(id, { upload: uploadId }, headers)));
    expect(new Set(replies.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect((await store.send('GET', `/v1/contexts/${id}/versions`)).json.items).toHaveLength(1);

    const gate = createGate();
    let isHeld = true;
    const slow = await openStore(engine, {
      database: intercept(store.database, async (run, [statement]) => {
        if (isHeld && statement?.text.includes('from upload_part')) {
          isHeld = false;
          await gate.pass();
        }
        return run();
      }),
    });
    const slowly = (path: string, body: object) => slow.send('PUT', path, { body, headers: key, token: store.token });
    const key = { 'idempotency-key': newId('key') };
    const late = await upload('overtaken');
    const waiting = slowly(`/v1/contexts/${id}`, { upload: late });
    await gate.isReached;
    const overtaking = await put(id, { upload: late }, key);
    gate.release();
    expect((await waiting).text).toBe(overtaking.text);
  });

  test('a part that is replaced while a write looks at the whole is never half of what is written', async () => {
    const id = newId();
    const content = `${'a'.repeat(partBytes)}b`;
    const uploadId = await upload(content, { hash: undefined });
    const slow = await openStore(engine, {
      database: intercept(store.database, async (run, [statement]) => {
        const rows = await run();
        // Both parts were looked at; now the second becomes another.
        if (statement?.text.includes('from upload_part') && statement.params.includes(2)) await send(uploadId, 2, 'c');
        return rows;
      }),
    });
    const written = await slow.send('PUT', `/v1/contexts/${id}`, { body: { upload: uploadId }, token: store.token });
    expect([written.status, written.json.detail]).toEqual([422, expect.stringContaining('replaced')]);
    expect((await store.send('GET', `/v1/contexts/${id}`)).status).toBe(404);
    expect((await put(id, { upload: uploadId })).json.hash).toBe(hashOf(`${'a'.repeat(partBytes)}c`));
  });

  test('each step is one request to PostgreSQL; a write looks at each part and then writes', async () => {
    const count = async (work: () => Promise<Reply>) => (await store.counting(work)).requests;
    const id = newId();
    const content = randomText(partBytes + 1);
    let uploadId = '';
    expect(
      await count(async () => {
        const made = await begin(content);
        uploadId = made.json.uploadId;
        return made;
      }),
    ).toBe(1);
    for (const part of [1, 2]) expect(await count(() => send(uploadId, part, cut(content, part)))).toBe(1);
    expect(await count(() => look(uploadId))).toBe(1);
    const key = { 'idempotency-key': newId('key') };
    // The upload, its two parts, the write.
    expect(await count(() => put(id, { upload: uploadId }, key))).toBe(4);
    expect(await count(() => put(id, { upload: uploadId }, key))).toBe(2);
    expect(await count(() => put(id, { upload: uploadId }))).toBe(2);
    expect(await count(() => put(newId(), { upload: uploadId }))).toBe(2);
    expect(await count(() => put(newId(), { upload: 'unknown' }))).toBe(1);
    expect(await count(() => store.send('DELETE', '/v1/uploads/unknown'))).toBe(1);
    // The head is in layer 1: a request for each MiB that is stored, of the parts that are touched.
    expect(await count(() => store.send('GET', `/v1/contexts/${id}/content`))).toBe(5);
    const headers = { range: `bytes=${partBytes}-` };
    expect(await count(() => store.send('GET', `/v1/contexts/${id}/content`, { headers }))).toBe(1);
    // What is packed well comes with one request a part.
    const packed = newId();
    await putLarge(store, packed, 'x'.repeat(2 * partBytes));
    expect(await count(() => store.send('GET', `/v1/contexts/${packed}/content`))).toBe(2);
  });

  test('the bytes of an upload become the content without being sent to the database again', async () => {
    const content = randomText(2 * partBytes);
    const sent: number[] = [];
    const watched = await openStore(engine, {
      database: intercept(store.database, async (run, statements) => {
        sent.push(...statements.flatMap(({ params }) => params.map((param) => String(param).length)));
        return run();
      }),
    });
    const uploadId = await upload(content);
    sent.length = 0;
    await watched.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: uploadId }, token: store.token });
    expect(Math.max(...sent)).toBeLessThan(2000);
  });

  test('as many and as large uploads may be open as the settings say', async () => {
    const few = await openStore(engine, {
      settings: { limits: { uploads: 3, uploadsBytes: 20_971_520 } },
      database: lingering(store.database),
    });
    const sized = (sizeBytes: number) => begin('', { sizeBytes, hash: undefined }, {}, few);
    const large = (await sized(wholeBytes)).json.uploadId;
    expect((await sized(wholeBytes)).status).toBe(201);
    const over = await sized(1);
    expect([over.status, over.json]).toMatchObject([
      429,
      { code: 'rate_limited', uploads: 3, uploadsBytes: 20_971_520 },
    ]);
    const seconds = Number(over.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(500);
    expect(seconds).toBeLessThanOrEqual(600);
    await few.send('DELETE', `/v1/uploads/${large}`);
    const open = [await sized(3), await sized(3)];
    expect(open.map(({ status }) => status)).toEqual([201, 201]);
    expect((await sized(3)).status).toBe(429);
    // What is used up is open no more.
    await send(open[0]?.json.uploadId, 1, 'abc', {}, few);
    await few.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: open[0]?.json.uploadId } });
    const raced = await Promise.all(Array.from({ length: 5 }, () => sized(3)));
    expect(raced.map(({ status }) => status).sort()).toEqual([201, 429, 429, 429, 429]);
  });

  test('the open ones of a space are listed, in pages', async () => {
    const own = await openStore(engine);
    const ids: string[] = [];
    for (const content of ['one', 'two', 'three', 'four'])
      ids.push((await begin(content, {}, {}, own)).json.uploadId as string);
    await send(ids[1] as string, 1, 'two', {}, own);
    await send(ids[3] as string, 1, 'four', {}, own);
    await own.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: ids[3] } });
    const list = async (query: string) => (await own.send('GET', `/v1/uploads${query}`)).json;
    const first = await list('?limit=2');
    expect(first.items).toEqual([
      (await own.send('GET', `/v1/uploads/${ids[0]}`)).json,
      (await own.send('GET', `/v1/uploads/${ids[1]}`)).json,
    ]);
    expect(first.items[1]).toMatchObject({ sizeBytes: 3, received: [{ part: 1, hash: hashOf('two') }], missing: [] });
    const rest = await list(`?limit=2&cursor=${first.nextCursor}`);
    expect([rest.items.map((one: { uploadId: string }) => one.uploadId), rest.nextCursor]).toEqual([[ids[2]], null]);
    for (const id of ids.slice(0, 3)) await own.send('DELETE', `/v1/uploads/${id}`);
    expect(await list('')).toEqual({ items: [], nextCursor: null });
  });

  test('where there is no room, those give way of which no part has come in ten minutes, the oldest first', async () => {
    const few = await openStore(engine, { settings: { limits: { uploads: 4, uploadsBytes: 20_000_000 } } });
    const sized = (sizeBytes: number) => begin('', { sizeBytes, hash: undefined }, {}, few);
    const idsOf = async () =>
      (await few.send('GET', '/v1/uploads')).json.items.map((one: { uploadId: string }) => one.uploadId);
    const age = (id: string, minutes: number) =>
      few.database.in(few.ref).run([
        {
          text: 'update upload set created_at = clock_timestamp() - make_interval(mins => $2::integer) where id = $1',
          params: [id, minutes],
        },
      ]);
    const ids: string[] = [];
    for (const sizeBytes of [3, 9_000_000, 5_000_000, 5]) ids.push((await sized(sizeBytes)).json.uploadId as string);
    const [sent, oldest, older, fresh] = ids as [string, string, string, string];
    await send(sent, 1, 'abc', {}, few);
    const over = await sized(1);
    expect([over.status, over.json.detail]).toEqual([429, expect.stringContaining('GET /v1/uploads')]);
    // In ten minutes there may be room.
    expect(Number(over.headers.get('retry-after'))).toBeLessThanOrEqual(600);
    expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(500);
    await age(sent, 60);
    await age(oldest, 12);
    await age(older, 11);
    const next = (await sized(1)).json.uploadId;
    expect(await idsOf()).toEqual([sent, older, fresh, next]);
    // Not one is given up for nothing: all of them together would not do.
    expect((await sized(wholeBytes)).status).toBe(201);
    expect((await idsOf()).slice(0, 3)).toEqual([sent, fresh, next]);
    await age(fresh, 11);
    expect((await sized(wholeBytes)).status).toBe(429);
    expect(await idsOf()).toHaveLength(4);
    expect((await send(sent, 1, 'abc', {}, few)).status).toBe(200);
  });

  test('an upload that nobody finished is gone when its time is over, and is swept with its parts', async () => {
    const brief = await openStore(engine, { settings: { limits: { uploadHours: 2 } } });
    const begun = (await begin('late', {}, {}, brief)).json;
    const { uploadId } = begun;
    expect(Math.round((Date.parse(begun.expiresAt) - Date.parse(begun.createdAt)) / 60_000)).toBe(120);
    const end = () =>
      brief.database
        .in(brief.ref)
        .run([{ text: "update upload set expires_at = clock_timestamp() - interval '1 ms'", params: [] }]);
    await send(uploadId, 1, 'late', {}, brief);
    await end();
    const asked = [
      await brief.send('GET', `/v1/uploads/${uploadId}`),
      await send(uploadId, 1, 'late', {}, brief),
      await brief.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: uploadId } }),
      await brief.send('DELETE', `/v1/uploads/${uploadId}`),
    ];
    expect(asked.map(({ json }) => json.code)).toEqual(Array(4).fill('not_found'));
    for (let more = 0; more < 45; more++) await begin('late', {}, {}, brief);
    await end();
    const held = async (table: string) =>
      (await runOne(brief.database.in(brief.ref), { text: `select 1 from ${table}`, params: [] })).length;
    expect([await held('upload'), await held('upload_part')]).toEqual([46, 1]);
    const swept = await brief.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect(swept.json).toMatchObject({ uploads: 46, unfinished: false });
    expect([await held('upload'), await held('upload_part')]).toEqual([0, 0]);
  });

  test('the sweep leaves what is open, and forgets what was used up a day ago', async () => {
    const id = newId();
    const [open, used] = [await upload('open'), await upload('used')];
    await put(id, { upload: used });
    await store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect([(await look(open)).status, (await look(used)).status]).toEqual([200, 200]);
    await store.database
      .in(store.ref)
      .run([
        { text: "update upload set expires_at = clock_timestamp() - interval '1 ms' where id = $1", params: [used] },
      ]);
    await store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect([(await look(open)).status, (await look(used)).status]).toEqual([200, 404]);
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.content).toBe('used');
  });

  test('uploads are counted as contexts nowhere, and make no tick', async () => {
    const figures = async () => {
      const { contexts, contentBytes, versions } = (await store.send('GET', '/v1/stats')).json;
      return { contexts, contentBytes, versions };
    };
    const [before, tick] = [await figures(), await clock()];
    const uploadId = await upload(randomText(100_000));
    expect([await figures(), await clock()]).toEqual([before, tick]);
    await put(newId(), { upload: uploadId });
    expect((await figures()).contexts).toBe(before.contexts + 1);
    expect(await clock()).toBe(tick + 1);
  });

  test('a key that may only read begins, sends and sees none', async () => {
    const { token } = (await store.send('POST', '/v1/keys', { body: { name: 'reader', scopes: ['read'] } })).json;
    const uploadId = await upload('scoped');
    const asked = [
      await store.send('POST', '/v1/uploads', { body: { sizeBytes: 1, contentType: 'text/plain' }, token }),
      await store.send('GET', `/v1/uploads/${uploadId}`, { token }),
      await store.send('PUT', `/v1/uploads/${uploadId}/parts/1`, { raw: 'scoped', token }),
      await store.send('DELETE', `/v1/uploads/${uploadId}`, { token }),
      await store.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: uploadId }, token }),
    ];
    expect(asked.map(({ json }) => json.code)).toEqual(Array(5).fill('forbidden'));
  });

  test("another space's upload is none", async () => {
    const other = await openStore(engine, { database: store.database });
    const uploadId = await upload('mine');
    const asked = [
      await other.send('GET', `/v1/uploads/${uploadId}`),
      await send(uploadId, 1, 'evil', {}, other),
      await other.send('DELETE', `/v1/uploads/${uploadId}`),
      await other.send('PUT', `/v1/contexts/${newId()}`, { body: { upload: uploadId } }),
    ];
    expect(asked.map(({ json }) => json.code)).toEqual(Array(4).fill('not_found'));
    expect((await put(newId(), { upload: uploadId })).json.content).toBe('mine');
  });

  test('an erase takes what an upload tells of the context; the end of a space takes its uploads', async () => {
    const id = newId();
    const uploadId = await upload('secret');
    await put(id, { upload: uploadId });
    await store.send('DELETE', `/v1/contexts/${id}?erase=true`);
    expect((await look(uploadId)).status).toBe(404);

    const space = `brief-${process.pid}-${engine.name === 'PGlite' ? 1 : 2}`;
    const made = await store.send('POST', '/v1/spaces', { body: { name: space }, token: store.ownerToken });
    const { token } = made.json.key;
    const begun = await store.send('POST', '/v1/uploads', {
      body: { sizeBytes: 4, contentType: 'text/plain' },
      token,
    });
    await store.send('PUT', `/v1/uploads/${begun.json.uploadId}/parts/1`, { raw: 'left', token });
    const ended = await store.send('DELETE', `/v1/spaces/${space}?erase=true`, { token: store.ownerToken });
    expect(ended.status).toBe(200);
    for (const table of ['upload', 'upload_part']) {
      const rows = await runOne(store.database.owner, {
        text: `select count(*) as n from ${table} where space_id = $1`,
        params: [space],
      });
      expect(Number(rows[0]?.['n'])).toBe(0);
    }
  });

  test('a stale write of an upload is merged, and uses it up', async () => {
    const id = newId();
    const lines = (first: string, last: string) => `${first}\n${'same line\n'.repeat(450_000)}${last}\n`;
    await put(id, { upload: await upload(lines('a', 'z')) });
    await put(id, { upload: await upload(lines('A', 'z')) });
    const stale = await upload(lines('a', 'Z'));
    expect((await put(id, { upload: stale }, { 'if-match': '"1"' })).status).toBe(412);
    const merged = await put(id, { upload: stale }, { 'if-match': '"1"' }, '?onConflict=three-way');
    expect([merged.status, merged.json]).toMatchObject([
      200,
      { version: 3, merge: { base: 1, head: 2, conflicts: [] } },
    ]);
    expect(merged.json.hash).toBe(hashOf(lines('A', 'Z')));
    expect((await look(stale)).json.usedBy).toEqual({ id, version: 3 });
  });
});
