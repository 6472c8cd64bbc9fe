import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Embedder } from '../../lib/search/embedder.ts';
import { createStaticEmbedder } from '../../lib/search/embedders/static.ts';
import { tenantOf } from '../../lib/search/engine-vectors.ts';
import { createWeaviate } from '../../lib/search/engines/weaviate.ts';
import type { VectorEngine } from '../../lib/search/vector-engine.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { startWeaviate, type WeaviateServer } from '../servers/weaviate.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { createGate, intercept } from '../support/intercept.ts';

describe('a store with Weaviate beside it', () => {
  let server: WeaviateServer;
  let engine: VectorEngine;
  beforeAll(async () => {
    server = await startWeaviate();
    const { url, grpcUrl, apiKey } = server;
    engine = createWeaviate({
      address: { url, grpcUrl, apiKey },
      k1: 0.9,
      b: 0.4,
      queryMs: 1000,
      writeMs: 3000,
      telemetry: noTelemetry,
    });
  });
  afterEach(() => server.fail(undefined));
  afterAll(async () => {
    await engine.close();
    await server.stop();
  });

  const text = (content: string) => ({ content, contentType: 'text/plain' });
  const open = (options: Parameters<typeof openStore>[1] = {}) => openStore(pgliteEngine, { engine, ...options });
  const put = (store: TestStore, id: string, content: string) =>
    store.send('PUT', `/v1/contexts/${id}`, { body: text(content) });
  const index = (store: TestStore) => store.manager.search.indexing.index(store.ref, 30_000);
  const search = async (store: TestStore, query: string, rest: object = {}) =>
    (await store.send('POST', '/v1/search', { body: { query, ...rest } })).json as {
      hits: { id: string; version: number }[];
      engine: string;
      pending: number;
      degraded: string[];
    };
  const idsOf = ({ hits }: { hits: { id: string }[] }) => hits.map(({ id }) => id);
  /** What the engine holds, and what PostgreSQL has chunks of, as `context key`. */
  async function places(store: TestStore) {
    const statement = {
      text: `select context_id || ' ' || replace(key::text, '-', '') as place from chunk`,
      params: [],
    };
    const [rows = []] = await store.database.in(store.ref).run([statement]);
    const held = server.contents(tenantOf(store.ref)).map((one) => one.split(' ').slice(0, 2).join(' '));
    return { held: held.sort(), chunks: rows.map(({ place }) => String(place)).sort() };
  }

  test('finds by meaning in one call to each of the two, and holds no text', async () => {
    const store = await open();
    await put(store, 'pets', 'Kittens and puppies need vaccines.');
    await put(store, 'money', 'Shares fell on Wall Street.');
    await index(store);
    expect(await search(store, 'animals', { mode: 'semantic' })).toMatchObject({
      engine: 'weaviate',
      degraded: [],
      hits: [{ id: 'pets' }, { id: 'money' }],
    });
    const before = server.calls();
    const { requests } = await store.counting(() => search(store, 'other animals'));
    expect([requests, server.calls() - before]).toEqual([1, 1]);
    const again = await store.counting(() => search(store, 'other animals'));
    expect([again.requests, server.calls() - before]).toEqual([0, 1]);
    const embedder = createStaticEmbedder().id;
    expect((await store.send('GET', '/v1/stats')).json.search).toMatchObject({
      engine: 'weaviate',
      chunks: 2,
      embedded: 2,
      vectors: { [embedder]: 2 },
    });
    const held = server.contents(tenantOf(store.ref)).join('\n');
    expect(held).toContain('kitten');
    expect(held).not.toContain('Kittens and');
  });

  test('what must not be there takes no places of what may', async () => {
    const store = await open();
    const operations = (from: number, count: number, content: string) =>
      Array.from({ length: count }, (_, n) => ({ op: 'put', id: `c${from + n}`, ...text(`${content} ${from + n}`) }));
    for (let from = 0; from < 600; from += 100)
      await store.send('POST', '/v1/batch/write', {
        body: { operations: operations(from, 100, 'Vaccine, vaccine, kitten.') },
      });
    const wanted = operations(
      600,
      10,
      'A vaccine is mentioned here in passing among much else that is said at length.',
    );
    await store.send('POST', '/v1/batch/write', { body: { operations: wanted } });
    await index(store);
    for (const [query, calls] of [
      ['vaccine -kitten', 1],
      ['vaccine -"kitten"', 1],
      // Only PostgreSQL knows phrases: what it leaves out is made up for by asking for more.
      ['vaccine -"vaccine kitten"', null],
    ] as const) {
      for (const mode of ['hybrid', 'semantic'] as const) {
        const before = server.calls();
        const found = await search(store, query, { mode });
        expect([query, mode, idsOf(found).sort(), found.degraded]).toEqual([
          query,
          mode,
          wanted.map(({ id }) => id).sort(),
          [],
        ]);
        if (calls !== null) expect(server.calls() - before).toBe(calls);
      }
    }
  });

  for (const how of ['refuse', 'hang'] as const) {
    test(`away (${how}), words in PostgreSQL answer, which is said; it comes back by itself`, async () => {
      let nowMs = Date.now();
      const store = await open({ clock: () => nowMs });
      await put(store, 'before', 'Kittens need vaccines.');
      await index(store);
      server.fail(how);
      await put(store, 'during', 'Puppies need vaccines, too.');
      expect((await index(store)).isUnfinished).toBe(true);
      const found = await search(store, 'vaccines');
      expect(found).toMatchObject({ pending: 0, degraded: ['semantic'] });
      expect(idsOf(found).sort()).toEqual(['before', 'during']);
      // Once it is known to be away nobody waits for it.
      for (let n = 0; n < 5; n++) await index(store);
      const before = server.calls();
      expect((await search(store, 'vaccines', { consistency: 'indexed', limit: 8 })).degraded).toEqual(['semantic']);
      expect(server.calls()).toBe(before);
      server.fail(undefined);
      nowMs += 60_000;
      // What the engine lacks is found by words meanwhile.
      const between = await search(store, 'vaccines', { limit: 9 });
      expect([between.degraded, idsOf(between).sort()]).toEqual([['semantic'], ['before', 'during']]);
      expect((await index(store)).isUnfinished).toBe(false);
      const after = await search(store, 'animals', { mode: 'semantic' });
      expect([after.degraded, idsOf(after).sort()]).toEqual([[], ['before', 'during']]);
    });
  }

  test('back, it gets what it lacks by the next search of a process that stays', async () => {
    let nowMs = Date.now();
    const store = await open({ clock: () => nowMs });
    const stop = store.manager.search.indexing.follow();
    server.fail('refuse');
    await put(store, 'during', 'Kittens need vaccines.');
    await expect.poll(async () => (await search(store, 'vaccines')).pending, { timeout: 5000 }).toBe(0);
    server.fail(undefined);
    nowMs += 60_000;
    await expect
      .poll(async () => search(store, 'animals', { mode: 'semantic' }), { timeout: 10_000, interval: 300 })
      .toMatchObject({ degraded: [], hits: [{ id: 'during' }] });
    await stop();
  });

  test('whatever breaks wherever, it ends with the very chunks that PostgreSQL has', async () => {
    const store = await open();
    let calls = 0;
    const breaks = () => ++calls % 4 === 0;
    const breaking: VectorEngine = {
      ...engine,
      async put(...sent) {
        if (breaks()) throw new Error('killed before');
        await engine.put(...sent);
        if (breaks()) throw new Error('killed after');
      },
      async remove(...places) {
        if (breaks()) throw new Error('killed before');
        await engine.remove(...places);
        if (breaks()) throw new Error('killed after');
      },
    };
    let requests = 0;
    const losing = intercept(store.database, async (run) => {
      if (++requests % 11 === 0) throw new Error('killed before');
      const answer = await run();
      if (requests % 13 === 0) throw new Error('killed after');
      return answer;
    });
    const other = await open({ engine: breaking, database: losing, isBare: true });
    let state = 7;
    const random = (below: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state % below;
    };
    for (let step = 0; step < 80; step++) {
      const id = `c${random(6)}`;
      const act = random(5);
      if (act < 3 || step > 76)
        await put(store, id, `Vaccine ${random(3)}. ${'More is said. '.repeat(60)}\n\nKitten ${random(3)}.`);
      if (act === 3) await store.send('DELETE', `/v1/contexts/${id}${random(2) ? '?erase=true' : ''}`);
      if (act === 4) await other.manager.search.indexing.index(store.ref, 5000).catch(() => {});
    }
    // Who was killed keeps the others waiting: so long what it sent may still arrive.
    await store.database
      .in(store.ref)
      .run([{ text: `update search_state set leased_until = leased_until - interval '3 minutes'`, params: [] }]);
    expect((await index(store)).isUnfinished).toBe(false);
    const { held, chunks } = await places(store);
    expect(chunks.length).toBeGreaterThan(3);
    expect(held).toEqual(chunks);
    expect((await search(store, 'vaccine')).degraded).toEqual([]);
  });

  test('what arrives after it was erased is forgotten once more', async () => {
    const store = await open();
    await put(store, 'secret', 'The passphrase is swordfish.');
    const gate = createGate();
    const late: VectorEngine = {
      ...engine,
      async put(...sent) {
        await gate.pass();
        await engine.put(...sent);
      },
    };
    const other = await open({ engine: late, database: store.database, isBare: true });
    const indexing = other.manager.search.indexing.index(store.ref, 30_000);
    await gate.isReached;
    expect((await store.send('DELETE', '/v1/contexts/secret?erase=true')).json.erased.vectors).toBe(1);
    await index(store);
    gate.release();
    await indexing;
    await index(store);
    expect(await places(store)).toEqual({ held: [], chunks: [] });
    const [rows] = await store.database
      .in(store.ref)
      .run([{ text: 'select count(*) as n from vector_entry', params: [] }]);
    expect(rows?.[0]?.['n']).toBe('0');
  });

  test('a chunk that comes back while it is being forgotten is there in the end', async () => {
    const store = await open();
    await put(store, 'back', 'Kittens need vaccines.');
    await index(store);
    await put(store, 'back', 'Puppies bark.');
    let isFirst = true;
    const slow: VectorEngine = {
      ...engine,
      async remove(...places) {
        if (isFirst) {
          isFirst = false;
          await put(store, 'back', 'Kittens need vaccines.');
          await index(store);
        }
        await engine.remove(...places);
      },
    };
    const other = await open({ engine: slow, database: store.database, isBare: true });
    await other.manager.search.indexing.index(store.ref, 30_000);
    await index(store);
    const { held, chunks } = await places(store);
    expect(held).toEqual(chunks);
    expect(idsOf(await search(store, 'animals', { mode: 'semantic' }))).toEqual(['back']);
  });

  test('takes over from pgvector, and a new embedder from an old one, searched meanwhile', async () => {
    const queries = { first: 0, second: 0 };
    const named = (name: keyof typeof queries): Embedder => {
      const inner = createStaticEmbedder();
      return {
        ...inner,
        id: `${name}:100`,
        isRemote: true,
        async embed(texts, options) {
          if (options.purpose === 'query') queries[name]++;
          return inner.embed(texts, options);
        },
      };
    };
    const [first, second] = [named('first'), named('second')];
    const inside = await openStore(pgliteEngine, { embedders: [first] });
    await put(inside, 'pets', 'Kittens need vaccines.');
    await index(inside);
    const beside = Object.assign(await open({ embedders: [first], database: inside.database, isBare: true }), {
      token: inside.token,
      ref: inside.ref,
    });
    const found = await search(beside, 'vaccines');
    expect([found.degraded, idsOf(found)]).toEqual([['semantic'], ['pets']]);
    await index(beside);
    expect(await search(beside, 'animals', { mode: 'semantic' })).toMatchObject({
      degraded: [],
      hits: [{ id: 'pets' }],
    });
    const next = Object.assign(await open({ embedders: [second, first], database: inside.database, isBare: true }), {
      token: inside.token,
      ref: inside.ref,
    });
    Object.assign(queries, { first: 0, second: 0 });
    expect(idsOf(await search(next, 'young animals', { mode: 'semantic' }))).toEqual(['pets']);
    await put(next, 'more', 'Puppies bark.');
    await index(next);
    const both = await search(next, 'wild animals', { mode: 'semantic' });
    expect([both.degraded, idsOf(both).sort()]).toEqual([[], ['more', 'pets']]);
    expect(queries).toEqual({ first: 1, second: 2 });
    // A process that begins later knows it as well.
    const later = Object.assign(await open({ embedders: [second, first], database: inside.database, isBare: true }), {
      token: inside.token,
      ref: inside.ref,
    });
    expect(idsOf(await search(later, 'other animals', { mode: 'semantic' })).sort()).toEqual(['more', 'pets']);
    expect(queries).toEqual({ first: 1, second: 3 });
  });

  test('another Weaviate, or one that was emptied, is known to have nothing', async () => {
    const second = await startWeaviate();
    const { url, grpcUrl, apiKey } = second;
    const address = { url, grpcUrl, apiKey };
    const elsewhere = createWeaviate({
      address,
      k1: 0.9,
      b: 0.4,
      queryMs: 1000,
      writeMs: 3000,
      telemetry: noTelemetry,
    });
    const store = await open();
    await put(store, 'pets', 'Kittens need vaccines.');
    await index(store);
    const moved = await open({ engine: elsewhere, database: store.database, isBare: true });
    const of = Object.assign(moved, { token: store.token, ref: store.ref });
    for (let round = 0; round < 2; round++) {
      const before = await search(of, 'vaccines', { limit: 10 + round });
      expect([before.degraded, idsOf(before)]).toEqual([['semantic'], ['pets']]);
      await index(of);
      const after = await search(of, 'animals', { mode: 'semantic', limit: 10 + round });
      expect([after.degraded, idsOf(after)]).toEqual([[], ['pets']]);
      second.empty();
      // The first search finds out.
      await search(of, 'vaccines', { limit: 20 + round });
    }
    await elsewhere.close();
    await second.stop();
  });

  test('what is erased while it is embedded is never sent', async () => {
    const inner = createStaticEmbedder();
    const during = { act: async () => {} };
    const embedder: Embedder = {
      ...inner,
      id: 'slow:100',
      async embed(...asked) {
        if (asked[1].purpose === 'document') await during.act();
        return inner.embed(...asked);
      },
    };
    const store = await open({ embedders: [embedder] });
    await put(store, 'kept', 'Kittens.');
    await put(store, 'secret', 'The passphrase is swordfish.');
    during.act = async () => {
      during.act = async () => {};
      await store.send('DELETE', '/v1/contexts/secret?erase=true');
    };
    await index(store);
    await index(store);
    expect(server.contents(tenantOf(store.ref)).join()).not.toContain('swordfish');
    const { held, chunks } = await places(store);
    expect(held).toEqual(chunks);
  });

  test('only one process at a time sends', async () => {
    const store = await open();
    await put(store, 'pets', 'Kittens need vaccines.');
    const sent: string[] = [];
    const other = await open({
      engine: { ...engine, put: async () => void sent.push('other') },
      database: store.database,
      isBare: true,
    });
    const slow: VectorEngine = {
      ...engine,
      async put(...entries) {
        sent.push('first');
        expect((await other.manager.search.indexing.index(store.ref, 5000)).isUnfinished).toBe(true);
        await engine.put(...entries);
      },
    };
    const first = await open({ engine: slow, database: store.database, isBare: true });
    expect((await first.manager.search.indexing.index(store.ref, 5000)).isUnfinished).toBe(false);
    expect(sent).toEqual(['first']);
  });

  test('an erase says that Weaviate has not confirmed it, and the index makes up for that', async () => {
    const store = await open();
    await put(store, 'secret', 'The passphrase is swordfish.');
    await index(store);
    server.fail('hang');
    const started = Date.now();
    const { status, json } = await store.send('DELETE', '/v1/contexts/secret?erase=true');
    expect([status, json.pendingEngines]).toEqual([200, ['weaviate']]);
    expect(Date.now() - started).toBeLessThan(10_000);
    expect(server.contents(tenantOf(store.ref)).join()).toContain('swordfish');
    server.fail(undefined);
    await index(store);
    expect(server.contents(tenantOf(store.ref))).toEqual([]);
    await put(store, 'other', 'The passphrase is pufferfish.');
    await index(store);
    expect((await store.send('DELETE', '/v1/contexts/other?erase=true')).json.pendingEngines).toEqual([]);
    expect(server.contents(tenantOf(store.ref))).toEqual([]);
  });

  test('a space that is deleted while something is sent leaves nothing, however the sending ends', async () => {
    const store = await open();
    await put(store, 'pets', 'Kittens need vaccines.');
    const late: VectorEngine = {
      ...engine,
      async put(...entries) {
        const path = `/v1/spaces/${store.space}?erase=true`;
        expect((await store.send('DELETE', path, { token: store.ownerToken })).status).toBe(200);
        await engine.put(...entries);
        throw new Error('no answer');
      },
    };
    const other = await open({ engine: late, database: store.database, isBare: true });
    await other.manager.search.indexing.index(store.ref, 5000).catch(() => {});
    expect(server.contents(tenantOf(store.ref))).toEqual([]);
    // Also what arrives when nobody is left to see it.
    await engine.put(tenantOf(store.ref), 'static:glove-6b-30k:100:1', [
      { id: 'pets', key: '0'.repeat(32), lexemes: 'kitten', vector: null },
    ]);
    await store.manager.index({ budgetMs: 1 });
    expect(server.contents(tenantOf(store.ref))).toEqual([]);
  });

  test('a reindex sends everything anew', async () => {
    const store = await open();
    await put(store, 'pets', 'Kittens need vaccines.');
    await index(store);
    await engine.dropTenant(tenantOf(store.ref));
    const lost = await search(store, 'vaccines');
    expect([lost.degraded, idsOf(lost)]).toEqual([['semantic'], ['pets']]);
    const { json } = await store.send('POST', '/v1/maintenance/run', { body: { task: 'reindex' } });
    expect(json).toMatchObject({ unfinished: false, embedded: 1 });
    expect(await search(store, 'animals', { mode: 'semantic' })).toMatchObject({
      degraded: [],
      hits: [{ id: 'pets' }],
    });
  });

  test('a space is deleted with what Weaviate has of it, or not yet', async () => {
    const store = await open();
    await put(store, 'pets', 'Kittens need vaccines.');
    await index(store);
    const remove = () => store.send('DELETE', `/v1/spaces/${store.space}?erase=true`, { token: store.ownerToken });
    server.fail('refuse');
    expect((await remove()).status).toBe(503);
    server.fail(undefined);
    expect(server.contents(tenantOf(store.ref))).toHaveLength(1);
    expect((await remove()).status).toBe(200);
    expect(server.contents(tenantOf(store.ref))).toEqual([]);
  });
});
