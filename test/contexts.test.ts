import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('contexts on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const put = (id: string, body: unknown, headers = {}, query = '') =>
    store.send('PUT', `/v1/contexts/${id}${query}`, { body, headers });
  const get = (id: string, query = '', headers = {}) => store.send('GET', `/v1/contexts/${id}${query}`, { headers });
  const remove = (id: string, query = '', headers = {}) =>
    store.send('DELETE', `/v1/contexts/${id}${query}`, { headers });

  test('a created context is answered with 201, its address and its version, and read back', async () => {
    const id = newId();
    const made = await store.send('POST', '/v1/contexts', { body: { id, content: { a: 1 }, metadata: { team: 'x' } } });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/contexts/${id}`);
    expect(made.headers.get('etag')).toBe('"1"');
    const read = await get(id);
    expect(read.status).toBe(200);
    expect(read.json).toEqual(made.json);
    expect(read.json).toMatchObject({
      id,
      parentId: null,
      kind: 'note',
      version: 1,
      content: { a: 1 },
      metadata: { team: 'x' },
    });
    expect(read.json.actor).toEqual({ kind: 'api', id: expect.stringMatching(/^key_/) });
  });

  test('a context without an id is given one, and ids sort by time', async () => {
    const ids = [];
    for (let count = 0; count < 3; count++) {
      ids.push((await store.send('POST', '/v1/contexts', { body: { content: count } })).json.id);
      await sleep(2);
    }
    expect([...ids].sort()).toEqual(ids);
  });

  test('JSON comes back byte for byte: key order, spellings of numbers, escapes, white space', async () => {
    const id = newId();
    const content = '{ "z":1.0, "a":12345678901234567890.123e-2,"é\\u00e9\\/":"\\u0000\\ud83d\\ude00", "n":[-0, 1E5] }';
    await store.send('PUT', `/v1/contexts/${id}`, { raw: `{"content": ${content} }` });
    const read = await get(id);
    expect(read.text).toContain(`"content":${content},`);
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).text).toBe(content);
  });

  test('text comes back as it was, with its content type', async () => {
    const id = newId();
    const text = '# Grüße 👋\r\n\tline\n';
    await put(id, { content: text, contentType: 'text/markdown; charset=utf-8' });
    expect((await get(id)).json).toMatchObject({
      content: text,
      contentType: 'text/markdown',
      sizeBytes: Buffer.byteLength(text),
    });
    const raw = await store.send('GET', `/v1/contexts/${id}/content`);
    expect(raw.text).toBe(text);
    expect(raw.headers.get('content-type')).toBe('text/markdown; charset=utf-8');
  });

  test('an empty text is a content like any other', async () => {
    const id = newId();
    expect((await put(id, { content: '', contentType: 'text/plain' })).json).toMatchObject({
      version: 1,
      sizeBytes: 0,
    });
    expect((await get(id)).json.content).toBe('');
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).text).toBe('');
    expect((await put(id, { content: 'x', contentType: 'text/plain' })).json.version).toBe(2);
    expect((await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } })).json.content).toBe('');
  });

  test('raw bytes are the content, their media type its type, and the rest is kept', async () => {
    const id = newId();
    await put(id, { content: 1, metadata: { keep: true } });
    const headers = { 'content-type': 'text/plain' };
    const written = await store.send('PUT', `/v1/contexts/${id}/content`, { raw: 'hello', headers });
    expect(written.json).toMatchObject({
      version: 2,
      content: 'hello',
      contentType: 'text/plain',
      metadata: { keep: true },
    });
  });

  test('what a put leaves out is kept, null clears, a content without a type is JSON', async () => {
    const id = newId();
    const parent = newId();
    await put(parent, { content: {} });
    await put(id, {
      content: 'text',
      contentType: 'text/plain',
      parentId: parent,
      kind: 'memo',
      metadata: { a: 1 },
      ttlSeconds: 3600,
    });
    const kept = (await put(id, { metadata: { a: 2 } })).json;
    expect(kept).toMatchObject({
      version: 2,
      content: 'text',
      contentType: 'text/plain',
      parentId: parent,
      kind: 'memo',
      metadata: { a: 2 },
    });
    expect(kept.expiresAt).not.toBeNull();
    const cleared = (await put(id, { content: [1], parentId: null, metadata: null, expiresAt: null })).json;
    expect(cleared).toMatchObject({
      version: 3,
      content: [1],
      contentType: 'application/json',
      parentId: null,
      kind: 'memo',
      metadata: {},
      expiresAt: null,
    });
  });

  test('a write equal to the head makes no version, whatever it was based on', async () => {
    const id = newId();
    await put(id, { content: { a: 1 }, metadata: { x: 1, y: 2 } });
    await put(id, { content: { a: 2 } });
    const again = await put(id, { content: { a: 2 }, metadata: { y: 2.0, x: 1 } }, { 'if-match': '"1"' });
    expect(again.status).toBe(200);
    expect(again.json).toMatchObject({ version: 2, unchanged: true });
    const stale = await put(id, { content: { a: 3 } }, { 'if-match': '"1"' });
    expect(stale.status).toBe(412);
    expect(stale.json).toMatchObject({ code: 'version_conflict', currentVersion: 2, currentHash: again.json.hash });
    expect((await get(id)).json.version).toBe(2);
  });

  test('preconditions: a version, any live one, none at all', async () => {
    const id = newId();
    expect((await put(id, { content: 1 }, { 'if-match': '*' })).status).toBe(412);
    expect((await put(id, { content: 1 }, { 'if-match': '"1"' })).json).toMatchObject({
      code: 'version_conflict',
      currentVersion: 0,
    });
    expect((await put(id, { content: 1 }, { 'if-none-match': '*' })).status).toBe(201);
    expect((await put(id, { content: 2 }, { 'if-none-match': '*' })).json).toMatchObject({
      code: 'version_conflict',
      currentVersion: 1,
    });
    expect((await put(id, { content: 2 }, { 'if-match': '"1"' })).status).toBe(200);
    expect((await put(id, { content: 3 }, { 'if-match': '*' })).status).toBe(200);
    expect((await put(id, { content: 4 }, { 'if-match': '"r-0123"' })).status).toBe(412);
    expect((await store.send('POST', '/v1/contexts', { body: { id, content: 1 } })).json).toMatchObject({
      code: 'already_exists',
    });
  });

  test('If-None-Match answers 304 without a body where the version is known', async () => {
    const id = newId();
    await put(id, { content: 1 });
    const known = await get(id, '', { 'if-none-match': 'W/"0", "1"' });
    expect([known.status, known.text, known.headers.get('etag')]).toEqual([304, '', '"1"']);
    expect((await get(id, '', { 'if-none-match': '"2"' })).status).toBe(200);
  });

  test('a deleted context is 410 until it is written again, as the next version', async () => {
    const id = newId();
    await put(id, { content: 1, kind: 'memo' });
    const tombstone = await remove(id);
    expect(tombstone.json).toMatchObject({ version: 2, deleted: true, content: null, hash: null, sizeBytes: 0 });
    expect((await get(id)).json).toMatchObject({ code: 'gone', version: 2 });
    expect((await remove(id)).status).toBe(410);
    expect((await get(id, '?version=1')).json.content).toBe(1);
    expect((await get(id, '?version=2')).status).toBe(410);
    expect((await put(id, { metadata: {} })).json).toMatchObject({
      code: 'invalid_request',
      errors: [{ path: '/content' }],
    });
    const revived = await put(id, { content: 3 });
    expect(revived.status).toBe(201);
    expect(revived.json).toMatchObject({ version: 3, kind: 'note' });
    await remove(id);
    expect((await store.send('POST', '/v1/contexts', { body: { id, content: 5 } })).json.version).toBe(5);
    expect((await remove(newId())).json.code).toBe('context_not_found');
  });

  test('a delete obeys If-Match', async () => {
    const id = newId();
    await put(id, { content: 1 });
    await put(id, { content: 2 });
    expect((await remove(id, '', { 'if-match': '"1"' })).json).toMatchObject({
      code: 'version_conflict',
      currentVersion: 2,
    });
    expect((await remove(id, '', { 'if-match': '"2"' })).status).toBe(200);
  });

  test('an expired context is a deleted one from that instant at every door, and cleanup writes its tombstone', async () => {
    const [id, parent] = [newId(), newId()];
    await put(parent, { content: {} });
    await put(id, { content: 1, ttlSeconds: 0.15, parentId: parent });
    expect((await get(id)).status).toBe(200);
    await sleep(200);
    expect((await get(id)).json).toMatchObject({ code: 'gone', version: 1 });
    expect((await store.send('POST', '/v1/batch/get', { body: { ids: [id] } })).json.items[0].code).toBe('gone');
    expect((await store.send('GET', `/v1/contexts/${parent}/children`)).json.items).toEqual([]);
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).status).toBe(410);
    expect(
      (
        await store.send('PATCH', `/v1/contexts/${id}`, {
          raw: '{}',
          headers: { 'content-type': 'application/merge-patch+json' },
        })
      ).status,
    ).toBe(410);
    expect((await remove(id)).status).toBe(410);
    expect((await get(id, '?version=1')).status).toBe(200);
    const swept = await store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect(swept.json.expired).toBe(1);
    const [newest] = (await store.send('GET', `/v1/contexts/${id}/versions`)).json.items;
    expect(newest).toMatchObject({ version: 2, operation: 'expire', actor: { kind: 'system', id: 'cleanup' } });
    expect((await put(id, { content: 2 })).json).toMatchObject({ version: 3 });
  });

  test('an expired context can be written again before cleanup has seen it', async () => {
    const id = newId();
    await put(id, { content: 1, ttlSeconds: 0.05 });
    await sleep(100);
    expect((await store.send('POST', '/v1/contexts', { body: { id, content: 2 } })).json).toMatchObject({
      version: 2,
      expiresAt: null,
    });
  });

  test('updatedAt moves forward with every version', async () => {
    const id = newId();
    const times = [];
    for (let count = 0; count < 8; count++) times.push(Date.parse((await put(id, { content: count })).json.updatedAt));
    for (let at = 1; at < times.length; at++) expect(times[at]!).toBeGreaterThan(times[at - 1]!);
  });

  test('?at= gives what was the head at that time', async () => {
    const id = newId();
    const first = (await put(id, { content: 1 })).json;
    const second = (await put(id, { content: 2 })).json;
    const tombstone = (await remove(id)).json;
    const at = async (time: string) => get(id, `?at=${encodeURIComponent(time)}`);
    expect((await at(first.updatedAt)).json.content).toBe(1);
    expect((await at(second.updatedAt)).json.content).toBe(2);
    expect((await at(tombstone.updatedAt)).json.code).toBe('gone');
    expect((await at('2001-01-01T00:00:00Z')).json.code).toBe('version_not_found');
  });

  test('Range gives the bytes asked for, and 416 outside', async () => {
    const id = newId();
    await put(id, { content: 'abcdefghij', contentType: 'text/plain' });
    const range = (value: string, more = {}) =>
      store.send('GET', `/v1/contexts/${id}/content`, { headers: { range: value, ...more } });
    const middle = await range('bytes=2-4');
    expect([middle.status, middle.text, middle.headers.get('content-range')]).toEqual([206, 'cde', 'bytes 2-4/10']);
    expect((await range('bytes=7-')).text).toBe('hij');
    expect((await range('bytes=-3')).text).toBe('hij');
    expect((await range('bytes=8-99')).text).toBe('ij');
    expect((await range('bytes=0-1,4-5')).status).toBe(200);
    expect((await range('lines=0-1')).status).toBe(200);
    expect((await range('bytes=4-2')).status).toBe(200);
    expect((await range('bytes=0-1', { 'if-range': '"7"' })).status).toBe(200);
    expect((await range('bytes=0-1', { 'if-range': '"1"' })).status).toBe(206);
    const outside = await range('bytes=10-');
    expect([outside.status, outside.headers.get('content-range')]).toEqual([416, 'bytes */10']);
    expect(JSON.parse(outside.text).code).toBe('range_not_satisfiable');
  });

  test('gzip and zstd bodies are read, answers are compressed for who accepts it', async () => {
    const id = newId();
    const body = JSON.stringify({ content: 'x'.repeat(5000), contentType: 'text/plain' });
    for (const [encoding, raw] of [
      ['gzip', gzipSync(body)],
      ['zstd', zstdCompressSync(body)],
    ] as const) {
      const written = await store.send('PUT', `/v1/contexts/${id}-${encoding}`, {
        raw,
        headers: { 'content-encoding': encoding },
      });
      expect(written.json.sizeBytes).toBe(5000);
    }
    const request = new Request(`http://lamina.test/v1/contexts/${id}-gzip`, {
      headers: { authorization: `Bearer ${store.token}`, 'accept-encoding': 'gzip' },
    });
    const response = await store.fetch(request);
    expect(response.headers.get('content-encoding')).toBe('gzip');
    expect((await response.arrayBuffer()).byteLength).toBeLessThan(1000);
  });

  test('a compressed answer has a tag of its own, which every precondition knows as the version', async () => {
    const id = newId();
    const body = { content: 'x'.repeat(5000), contentType: 'text/plain' };
    await put(id, body);
    const ask = (path: string, headers: Record<string, string>) => {
      const all = { authorization: `Bearer ${store.token}`, ...headers };
      return store.fetch(new Request(`http://lamina.test/v1/contexts/${id}${path}`, { headers: all }));
    };
    for (const path of ['', '/content', '?resolve=ancestors']) {
      const tags: string[] = [];
      for (const coding of ['identity', 'gzip', 'zstd']) {
        const answer = await ask(path, { 'accept-encoding': coding });
        const tag = answer.headers.get('etag') as string;
        expect(answer.headers.get('vary')).toBe('accept-encoding');
        if (coding !== 'identity') expect(tag).toBe(tags[0]?.replace(/"$/, `-${coding}"`));
        tags.push(tag);
        for (const sent of [tag, `W/${tag}`, `"0", ${tag}`]) {
          const known = await ask(path, { 'accept-encoding': coding, 'if-none-match': sent });
          expect([known.status, known.headers.get('etag'), known.headers.get('vary')]).toEqual([
            304,
            tag,
            'accept-encoding',
          ]);
        }
      }
      expect(new Set(tags).size).toBe(3);
      if (path !== '?resolve=ancestors') expect(tags[0]).toBe('"1"');
    }
    // A range is of plain bytes.
    const ranged = (tag: string) => ask('/content', { range: 'bytes=0-9', 'if-range': tag });
    expect([(await ranged('"1"')).status, (await ranged('"1-gzip"')).status]).toEqual([206, 200]);
    // What fetch does: it accepts gzip, and sends back the tag it was given.
    for (let version = 1; version < 4; version++) {
      const coding = version === 2 ? 'zstd' : 'gzip';
      const tag = (await ask('', { 'accept-encoding': coding })).headers.get('etag') as string;
      const written = await put(id, { ...body, metadata: { version } }, { 'if-match': tag });
      expect([written.status, written.json.version]).toEqual([200, version + 1]);
      expect((await put(id, { ...body, metadata: {} }, { 'if-match': tag })).json.code).toBe('version_conflict');
    }
    expect((await put(id, { ...body, metadata: {} }, { 'if-match': '"4-br"' })).status).toBe(412);
  });

  test('Prefer: return=minimal leaves the content out', async () => {
    const made = await put(newId(), { content: { large: true } }, { prefer: 'return=minimal' });
    expect(made.json).not.toHaveProperty('content');
    expect(made.headers.get('preference-applied')).toBe('return=minimal');
  });

  test('a content of 4 MiB less its envelope goes in and comes out, also a ranged piece of it', async () => {
    const id = newId();
    const text = `${'0123456789abcdef'.repeat(262_143)}\n`;
    const headers = { 'content-type': 'text/plain' };
    const made = await store.send('PUT', `/v1/contexts/${id}/content`, { raw: text, headers });
    expect(made.json.sizeBytes).toBe(text.length);
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).text).toBe(text);
    const piece = await store.send('GET', `/v1/contexts/${id}/content`, {
      headers: { range: 'bytes=4194280-4194288' },
    });
    expect(piece.text).toBe(text.slice(4_194_280, 4_194_289));
    const over = await store.send('PUT', `/v1/contexts/${id}/content`, { raw: 'x'.repeat(4_194_305), headers });
    expect([over.status, over.text]).toEqual([413, expect.stringContaining('"limitBytes":4194304')]);
  });

  test('Context-Seq is the clock after a write; a read may ask for it, and not for one never given out', async () => {
    const id = newId();
    const seq = Number((await put(id, { content: 1 })).headers.get('context-seq'));
    expect(Number((await put(id, { content: 2 })).headers.get('context-seq'))).toBe(seq + 1);
    expect(Number((await put(id, { content: 2 })).headers.get('context-seq'))).toBe(seq + 1);
    expect((await get(id, '', { 'context-seq': String(seq + 1) })).headers.get('context-seq')).toBe(String(seq + 1));
    expect((await get(id, '', { 'context-seq': String(seq + 2) })).json.code).toBe('invalid_request');
  });

  test('?resolve=ancestors folds objects from the root, the nearer wins, and tells what it was made of', async () => {
    const [root, middle, leaf] = [newId(), newId(), newId()];
    await put(root, { content: { a: { x: 1, y: 1 }, only: 'root', list: [1, 2] } });
    await put(middle, { content: { a: { y: 2.0 }, n: 12345678901234567890n.toString() }, parentId: root });
    await put(leaf, { content: { a: { z: 3 }, list: [9] }, parentId: middle });
    const resolved = await get(leaf, '?resolve=ancestors');
    expect(resolved.json.content).toEqual({
      a: { x: 1, y: 2, z: 3 },
      only: 'root',
      list: [9],
      n: '12345678901234567890',
    });
    expect(resolved.json.resolvedFrom).toEqual([
      { id: root, version: 1 },
      { id: middle, version: 1 },
      { id: leaf, version: 1 },
    ]);
    const tag = resolved.headers.get('etag')!;
    expect((await get(leaf, '?resolve=ancestors', { 'if-none-match': tag })).status).toBe(304);
    await put(root, { content: {} });
    expect((await get(leaf, '?resolve=ancestors', { 'if-none-match': tag })).status).toBe(200);
    expect((await put(leaf, { content: 1 }, { 'if-match': tag })).status).toBe(412);
  });

  test('?resolve=ancestors joins texts root first by a blank line; of mixed types the nearer replaces', async () => {
    const [root, leaf, json] = [newId(), newId(), newId()];
    const text = { contentType: 'text/markdown' };
    await put(root, { content: '# Root\n', ...text });
    await put(leaf, { content: 'leaf\n', ...text, parentId: root });
    await put(json, { content: { a: 1 }, parentId: leaf });
    expect((await get(leaf, '?resolve=ancestors')).json.content).toBe('# Root\n\nleaf\n');
    expect((await get(json, '?resolve=ancestors')).json.content).toEqual({ a: 1 });
  });

  test('all frames of a zstd body are read, and what follows them is refused', async () => {
    const id = newId();
    const send = (raw: Uint8Array) =>
      store.send('PUT', `/v1/contexts/${id}/content`, {
        raw,
        headers: { 'content-encoding': 'zstd', 'content-type': 'text/plain' },
      });
    expect((await send(Buffer.concat([zstdCompressSync('ab'), zstdCompressSync('cd')]))).status).toBe(201);
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).text).toBe('abcd');
    expect((await send(Buffer.concat([zstdCompressSync('ab'), Buffer.from('rest')]))).json.code).toBe(
      'invalid_request',
    );
    const bomb = Buffer.concat(Array.from({ length: 5 }, () => zstdCompressSync(Buffer.alloc(1_000_000))));
    expect((await send(bomb)).json.code).toBe('context_too_large');
  });

  test('null for ttlSeconds clears the expiry, as null for expiresAt does', async () => {
    const id = newId();
    expect((await put(id, { content: 1, ttlSeconds: 60 })).json.expiresAt).not.toBeNull();
    expect((await put(id, { ttlSeconds: null })).json.expiresAt).toBeNull();
  });

  test('an erase and a restore obey If-Match', async () => {
    const id = newId();
    await put(id, { content: 1 });
    await put(id, { content: 2 });
    const stale = { headers: { 'if-match': '"1"' } };
    const erase = await store.send('DELETE', `/v1/contexts/${id}?erase=true`, stale);
    expect(erase.json).toMatchObject({ code: 'version_conflict', currentVersion: 2 });
    const restore = await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 }, ...stale });
    expect(restore.json).toMatchObject({ code: 'version_conflict', currentVersion: 2 });
    const created = await put(id, { content: 3 }, { 'if-none-match': '*' });
    expect(created.json).toMatchObject({
      code: 'version_conflict',
      currentVersion: 2,
      currentHash: expect.stringMatching(/^sha256:/),
    });
  });

  test('Context-Seq is held against the clock by every read of a space', async () => {
    const id = newId();
    await put(id, { content: 1 });
    const ahead = { headers: { 'context-seq': '999999999' } };
    for (const path of [`/${id}`, `/${id}/versions`, `/${id}/diff?from=1&to=1`, `/${id}/children`, '']) {
      expect((await store.send('GET', `/v1/contexts${path}`, ahead)).json.code).toBe('invalid_request');
    }
    for (const path of ['/v1/changes', '/v1/keys', '/v1/audit']) {
      expect((await store.send('GET', path, ahead)).json.code).toBe('invalid_request');
      expect(Number((await store.send('GET', path)).headers.get('context-seq'))).toBeGreaterThan(0);
    }
  });

  test('an actor cannot be sent', async () => {
    const refused = await put(newId(), { content: 1, actor: { kind: 'system', id: 'me' } });
    expect(refused.json).toMatchObject({ code: 'invalid_request', errors: [{ path: '/actor' }] });
  });

  test('HEAD is GET without the body', async () => {
    const id = newId();
    await put(id, { content: 1 });
    const request = new Request(`http://lamina.test/v1/contexts/${id}`, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${store.token}` },
    });
    const response = await store.fetch(request);
    expect([response.status, response.headers.get('etag'), await response.text()]).toEqual([200, '"1"', '']);
  });
});
