import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { home } from '../functions/runtime.ts';
import { sha256 } from '../lib/base/hash.ts';
import { createInProcessRedis } from '../lib/redis/in-process.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { createDatabase, engines, realPostgres } from './support/engines.ts';
import { putLarge, randomText, uploadTo, wholeBytes } from './support/upload.ts';

const hashOf = (text: string) => `sha256:${sha256(text)}`;

// Other suites may keep the machine busy.
vi.setConfig({ testTimeout: 240_000 });

describe.each(engines)('contexts of 10 MiB on $name', (engine) => {
  let store: TestStore;
  let layer2Bytes = 0;
  beforeAll(async () => {
    store = await openStore(engine, {
      redis(bounds) {
        const redis = createInProcessRedis({ bounds, clock: Date.now });
        return {
          ...redis,
          store(space, request, options) {
            layer2Bytes = Math.max(layer2Bytes, JSON.stringify(request).length);
            return redis.store(space, request, options);
          },
        };
      },
    });
  });
  const get = (id: string, path = '') => store.send('GET', `/v1/contexts/${id}${path}`);
  const numbered = (count: number, changed: Record<number, string> = {}) =>
    Array.from({ length: count }, (_, at) => changed[at] ?? `the line of number ${at}\n`).join('');

  test('have versions, which can be told apart, read, and restored without a byte being sent', async () => {
    const id = newId();
    const count = 380_000;
    await putLarge(store, id, numbered(count));
    expect((await putLarge(store, id, numbered(count, { 200000: 'another line\n' }))).json.version).toBe(2);
    const { patch } = (await get(id, '/diff?from=1&to=2')).json;
    expect(patch).toContain('-the line of number 200000\n+another line\n');
    expect(patch.length).toBeLessThan(1000);
    expect((await get(id, '/content?version=1')).text).toBe(numbered(count));
    const restored = await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } });
    expect(restored.json).toMatchObject({ version: 3, hash: hashOf(numbered(count)), content: null });
    expect((await get(id, '/content')).text).toBe(numbered(count));
    expect((await get(id)).json.contentUrl).toBe(`/v1/contexts/${id}/content?version=3`);
  });

  test('that have changed throughout differ by little more than the new one', async () => {
    const id = newId();
    const numbers = (step: number) =>
      JSON.stringify(Array.from({ length: 1_200_000 }, (_, at) => (at * step) % 999983));
    await putLarge(store, id, numbers(7), { contentType: 'application/json' });
    await putLarge(store, id, numbers(11), { contentType: 'application/json' });
    const { text } = await get(id, '/diff?from=1&to=2');
    expect(text === `{"from":1,"to":2,"patch":[{"op":"replace","path":"","value":${numbers(11)}}]}`).toBe(true);
  });

  test('are told of by HEAD as a whole, whatever range it names', async () => {
    const id = newId();
    await putLarge(store, id, 'x'.repeat(5_000_000));
    const ask = (method: string, range: string) =>
      store.fetch(
        new Request(`http://lamina.test/v1/contexts/${id}/content`, {
          method,
          headers: { authorization: `Bearer ${store.token}`, range },
        }),
      );
    for (const range of ['bytes=0-9', 'bytes=5000000-']) {
      const { status, headers } = await ask('HEAD', range);
      expect([status, headers.get('content-range'), headers.get('accept-ranges')]).toEqual([200, null, 'bytes']);
    }
    expect((await ask('GET', 'bytes=0-9')).status).toBe(206);
  });

  test('are fetched part by part, as fast as the reader takes them', async () => {
    const id = newId();
    await putLarge(store, id, 'x'.repeat(wholeBytes));
    const authorization = `Bearer ${store.token}`;
    const answer = () =>
      store.fetch(new Request(`http://lamina.test/v1/contexts/${id}/content`, { headers: { authorization } }));
    const { value: reader, requests } = await store.counting(async () => {
      const { body } = await answer();
      const stream = (body as ReadableStream<Uint8Array>).getReader();
      await stream.read();
      return stream;
    });
    expect(requests).toBe(1);
    expect((await store.counting(() => reader.read())).requests).toBe(1);
    expect((await store.counting(() => reader.cancel())).requests).toBe(0);
  });

  test('are merged by structure and by lines', async () => {
    const [base, ours, theirs, target] = [newId(), newId(), newId(), newId()];
    const count = 380_000;
    await putLarge(store, base, numbered(count));
    await putLarge(store, ours, numbered(count, { 10: 'ours\n' }));
    await putLarge(store, theirs, numbered(count, { 379000: 'theirs\n' }));
    const sources = [{ id: ours }, { id: theirs }];
    const merged = await store.send('POST', '/v1/merge', {
      body: { strategy: 'three-way', base: { id: base, version: 1 }, sources, target: { id: target } },
    });
    expect(merged.status, merged.text.slice(0, 300)).toBe(200);
    const both = numbered(count, { 10: 'ours\n', 379000: 'theirs\n' });
    expect((await get(target)).json.hash).toBe(hashOf(both));

    const many = await store.send('POST', '/v1/merge', {
      body: { strategy: 'union', sources: Array(5).fill({ id: base }), target: { id: target } },
    });
    expect([many.status, many.json.code]).toEqual([413, 'context_too_large']);

    const json = { contentType: 'application/json' };
    const items = (more: object) =>
      JSON.stringify({
        list: Array.from({ length: 170_000 }, (_, id) => ({ id, text: `number ${id * 3} of them` })),
        ...more,
      });
    const [left, right] = [newId(), newId()];
    await putLarge(store, left, items({ left: 1 }), json);
    await putLarge(store, right, items({ right: 2 }), json);
    const united = await store.send('POST', '/v1/merge', {
      body: { strategy: 'union', sources: [{ id: left }, { id: right }], target: { id: left } },
    });
    expect(united.status, united.text.slice(0, 300)).toBe(200);
    expect(JSON.parse((await get(left, '/content')).text)).toMatchObject({ left: 1, right: 2 });
    const patched = await store.send('PATCH', `/v1/contexts/${left}`, {
      raw: '{"left":null}',
      headers: { 'content-type': 'application/merge-patch+json' },
    });
    expect([patched.status, patched.json.version]).toEqual([200, 3]);
    expect((await get(left, '/content')).text).toBe(items({ right: 2 }));
  });

  test('are found by what they say, to their end', async () => {
    // A space of its own: what was written before it would have to be indexed before it.
    const searched = await openStore(engine, { database: store.database });
    const id = newId();
    const words = ['retries', 'are', 'idempotent', 'when', 'the', 'queue', 'drains', 'slowly', 'under', 'load'];
    const prose = (count: number) =>
      Array.from(
        { length: count },
        (_, at) => `${words[(at * 7 + (at >> 3)) % words.length]}${at % 12 === 11 ? '.\n' : ''}`,
      ).join(' ');
    const last = '\n\nthe very last word is zyzzyva\n';
    const text = `${prose(700_000)}${last}`.slice(-4_400_000);
    await putLarge(searched, id, text);
    // A wait for it ends after ten seconds, on whatever machine.
    await searched.manager.index({ only: searched.ref, budgetMs: 120_000 });
    const found = await searched.send('POST', '/v1/search', {
      body: { query: 'zyzzyva', mode: 'keyword' },
    });
    expect(found.json.hits.map((hit: { id: string }) => hit.id)).toEqual([id]);
    expect(found.json.hits[0].snippet).toContain('zyzzyva');
  });

  test('are never sent to layer 2, nor in lists, batches and trees of answers', async () => {
    const [parent, id] = [newId(), newId()];
    await store.send('PUT', `/v1/contexts/${parent}`, { body: { content: 1 } });
    layer2Bytes = 0;
    await putLarge(store, id, randomText(wholeBytes));
    await store.send('PUT', `/v1/contexts/${id}`, { body: { parentId: parent } });
    const headers = { 'cache-control': 'no-cache' };
    for (const path of [`/${id}`, `/${id}/content`, `/${parent}/children?include=content`, '?include=content']) {
      await get(path.slice(1));
      await store.send('GET', `/v1/contexts${path}`, { headers });
    }
    const batch = await store.send('POST', '/v1/batch/get', { body: { ids: [id] } });
    expect(batch.json.items[0]).toMatchObject({ content: null, contentUrl: `/v1/contexts/${id}/content?version=2` });
    expect(layer2Bytes).toBeGreaterThan(0);
    expect(layer2Bytes).toBeLessThan(100_000);
    const resolved = await get(id, '?resolve=ancestors');
    expect([resolved.status, resolved.json.code]).toEqual([413, 'context_too_large']);
  });
});

describe.each(engines.map(({ name }) => name))('reading 10 MiB again and again from %s', (name) => {
  test('makes the process grow by less than three times the body', async () => {
    const argv: string[] = [];
    if (name !== 'PGlite') {
      const { server, endpoint } = await realPostgres();
      argv.push(server.url(await createDatabase()), endpoint.url);
    }
    const child = fork(join(home, 'test/support/serving-alone.ts'), argv);
    type Told = { origin: string; token: string; peakBytes: number };
    const hear = async () => (await once(child, 'message'))[0] as Told;
    const { origin, token } = await hear();
    const send = (method: string, path: string, body?: string | Uint8Array<ArrayBuffer>, headers = {}) =>
      fetch(`${origin}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body }),
      });
    const read = async (headers = {}) => {
      const { body } = await send('GET', '/v1/contexts/large/content', undefined, headers);
      let sizeBytes = 0;
      for await (const piece of body as ReadableStream<Uint8Array>) sizeBytes += piece.length;
      return sizeBytes;
    };
    const times = async (count: number, work: (time: number) => Promise<unknown>) => {
      for (let time = 0; time < count; time++) await work(time);
    };
    /** What the process held at most during the work. */
    const watching = async (work: () => Promise<unknown>) => {
      child.send('begin');
      await hear();
      await work();
      child.send('end');
      return await hear();
    };
    try {
      const upload = await uploadTo(send, randomText(wholeBytes), 'text/plain');
      expect((await send('PUT', '/v1/contexts/large', JSON.stringify({ upload }))).status).toBe(201);
      expect(await read()).toBe(wholeBytes);
      const wholes = () => times(6, () => read());
      const pieces = () =>
        times(10, async (time) => {
          const first = (time * wholeBytes) / 10;
          expect(await read({ range: `bytes=${first}-${first + 99}` })).toBe(100);
        });
      // What was freed is collected now and then: what counts is that more reads hold no more than some.
      const { peakBytes } = await watching(async () => {
        await wholes();
        await pieces();
      });
      expect((await watching(wholes)).peakBytes - peakBytes).toBeLessThan(3 * wholeBytes);
      expect((await watching(pieces)).peakBytes - peakBytes).toBeLessThan(3 * wholeBytes);
    } finally {
      child.disconnect();
      await once(child, 'exit');
    }
  });
});
