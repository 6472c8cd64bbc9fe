import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createWeaviate, type WeaviateAddress } from '../../lib/search/engines/weaviate.ts';
import type { EngineEntry, EngineQuery, VectorEngine } from '../../lib/search/vector-engine.ts';
import { type EngineCall, noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { startWeaviate } from '../servers/weaviate.ts';
import { newId } from '../support/client.ts';
import { openWeaviate, type TestWeaviate } from '../support/weaviate.ts';

const embedder = 'static:glove-6b-30k:100:1';
const other = 'openai:text-embedding-3-small:8';

/** A vector of length 1 that points where it is told. */
function pointing(...parts: number[]): Float32Array {
  const vector = Float32Array.from({ length: 8 }, (_, at) => parts[at] ?? 0);
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

const key = (n: number) => n.toString(16).padStart(32, '0');
const entry = (id: string, n: number, lexemes: string, ...parts: number[]): EngineEntry => ({
  id,
  key: key(n),
  lexemes,
  vector: parts.length === 0 ? null : pointing(...parts),
});

const asked: EngineQuery = {
  lexemes: null,
  needed: [],
  excluded: [],
  vectors: [],
  weight: 0.3,
  ids: null,
  limit: 10,
  isByChunk: true,
};

describe('Weaviate', () => {
  let server: TestWeaviate;
  let engine: VectorEngine;
  const calls: EngineCall[] = [];
  const open = (address: WeaviateAddress = server.address) =>
    createWeaviate({
      address,
      k1: 0.9,
      b: 0.4,
      queryMs: 2000,
      writeMs: 10_000,
      telemetry: { ...noTelemetry, engineCall: (call) => void calls.push(call) },
    });
  beforeAll(async () => {
    server = await openWeaviate();
    engine = open();
  });
  afterAll(async () => {
    await engine?.close();
    await server?.stop();
  });
  const tenant = () => newId('tenant').replaceAll(/[^A-Za-z0-9]/g, '');
  const find = async (of: string, query: Partial<EngineQuery>) =>
    ((await engine.find(of, { ...asked, ...query })) ?? []).map(({ id }) => id);

  test('has nothing of a tenant that was never told of', async () => {
    const of = tenant();
    expect(await find(of, { lexemes: ['kitten'] })).toEqual([]);
    await engine.remove(of, [{ id: 'a', key: key(1) }]);
    await engine.dropTenant(of);
  });

  test('finds by words, the rarer the better, and by likeness, and by both', async () => {
    const of = tenant();
    await engine.put(of, embedder, [
      entry('cats', 1, 'kitten need vaccin kitten', 1, 0.1),
      entry('dogs', 2, 'puppi need walk', 0.5, 0.9),
      entry('money', 3, 'share fell wall street', 0, 0, 1),
      entry('mute', 4, 'need noth'),
    ]);
    expect(await find(of, { lexemes: ['kitten', 'need'] })).toEqual(['cats', 'mute', 'dogs']);
    expect(await find(of, { vectors: [{ embedder, vector: pointing(1) }] })).toEqual(['cats', 'dogs', 'money']);
    const both = { lexemes: ['walk'], vectors: [{ embedder, vector: pointing(1) }] };
    expect((await find(of, { ...both, weight: 0.9 }))[0]).toBe('cats');
    expect((await find(of, { ...both, weight: 0.1 }))[0]).toBe('dogs');
    const hits = (await engine.find(of, { ...asked, ...both })) ?? [];
    expect(hits[0]).toMatchObject({ id: 'dogs', key: key(2) });
    for (const { score } of hits) expect(score).toBeGreaterThanOrEqual(0);
    for (const { score } of hits) expect(score).toBeLessThanOrEqual(1.001);
    expect(await find(of, { lexemes: ['nobody'] })).toEqual([]);
  });

  test('words are whole lexemes as they stand, also what another would leave out', async () => {
    const of = tenant();
    await engine.put(of, embedder, [entry('a', 1, 'the 検索 索エ it'), entry('b', 2, 'The x.y a-b')]);
    expect(await find(of, { lexemes: ['検索'] })).toEqual(['a']);
    expect(await find(of, { lexemes: ['the'] })).toEqual(['a']);
    expect(await find(of, { lexemes: ['x.y'] })).toEqual(['b']);
    expect(await find(of, { lexemes: ['x'] })).toEqual([]);
  });

  test('takes the same entry any number of times, and the last word on it', async () => {
    const of = tenant();
    for (let n = 0; n < 3; n++)
      await engine.put(of, embedder, [entry('a', 1, `word${n}`, 1), entry('b', 1, 'word', 0, 1)]);
    expect(await find(of, { lexemes: ['word0', 'word1'] })).toEqual([]);
    expect(await find(of, { lexemes: ['word2', 'word'] })).toHaveLength(2);
  });

  test('forgets what it is told to, and nothing else', async () => {
    const of = tenant();
    await engine.put(
      of,
      embedder,
      Array.from({ length: 450 }, (_, n) => entry(`c${n % 3}`, n, 'word', 1, n)),
    );
    const all = () => find(of, { lexemes: ['word'], limit: 1000 });
    expect(await all()).toHaveLength(450);
    await engine.remove(
      of,
      Array.from({ length: 300 }, (_, n) => ({ id: `c${n % 3}`, key: key(n) })),
    );
    await engine.remove(of, [
      { id: 'c0', key: key(1) },
      { id: 'nobody', key: key(449) },
    ]);
    expect(await all()).toHaveLength(150);
    await engine.remove(
      of,
      Array.from({ length: 300 }, (_, n) => ({ id: `c${n % 3}`, key: key(n) })),
    );
    expect(await all()).toHaveLength(150);
  });

  test('keeps tenants apart, and drops one whole', async () => {
    const [one, two] = [tenant(), tenant()];
    await engine.put(one, embedder, [entry('a', 1, 'word', 1)]);
    await engine.put(two, embedder, [entry('b', 1, 'word', 1)]);
    expect(await find(one, { lexemes: ['word'] })).toEqual(['a']);
    await engine.dropTenant(one);
    await engine.dropTenant(one);
    expect(await find(one, { lexemes: ['word'] })).toEqual([]);
    expect(await find(two, { lexemes: ['word'] })).toEqual(['b']);
    await engine.put(one, embedder, [entry('c', 1, 'word', 1)]);
    expect(await find(one, { vectors: [{ embedder, vector: pointing(1) }] })).toEqual(['c']);
  });

  test('contexts and words that are needed choose before ranking does', async () => {
    const of = tenant();
    await engine.put(
      of,
      embedder,
      Array.from({ length: 400 }, (_, n) => entry(`c${n}`, n, n % 2 ? 'word odd' : 'word word', 1, n / 400)),
    );
    const ids = ['c397', 'c398', 'c399', "it's [odd] \\ %", 'nobody'];
    const vectors = [{ embedder, vector: pointing(1) }];
    for (const query of [{ lexemes: ['word'] }, { vectors }, { lexemes: ['word'], vectors }]) {
      expect((await find(of, { ...query, ids })).sort()).toEqual(['c397', 'c398', 'c399']);
      expect((await find(of, { ...query, ids, needed: ['word', 'odd'] })).sort()).toEqual(['c397', 'c399']);
    }
    for (const query of [{ lexemes: ['word'] }, { vectors }, { lexemes: ['word'], vectors }]) {
      expect((await find(of, { ...query, ids, excluded: ['odd'] })).sort()).toEqual(['c398']);
      expect(await find(of, { ...query, ids, excluded: ['odd', 'word'] })).toEqual([]);
      expect((await find(of, { ...query, ids, excluded: ['od'] })).sort()).toEqual(['c397', 'c398', 'c399']);
    }
    expect(await find(of, { lexemes: ['word'], ids: [] })).toEqual([]);
    await engine.put(of, embedder, [entry("it's [odd] \\ %", 1, 'word', 1)]);
    expect(await find(of, { lexemes: ['word'], ids })).toContain("it's [odd] \\ %");
  });

  test('one large context leaves room for the others', async () => {
    const of = tenant();
    await engine.put(of, embedder, [
      ...Array.from({ length: 700 }, (_, n) => entry('large', n, 'word word', 1, n / 7000)),
      ...Array.from({ length: 5 }, (_, n) => entry(`small${n}`, n, 'word and much else that is said here', 0.2, 1)),
    ]);
    const vectors = [{ embedder, vector: pointing(1) }];
    for (const query of [{ lexemes: ['word'] }, { vectors }, { lexemes: ['word'], vectors }]) {
      expect(new Set(await find(of, { ...query, isByChunk: false })).size).toBe(6);
    }
  });

  test('vectors of another embedder stand beside, and are searched together', async () => {
    const of = tenant();
    await engine.put(of, embedder, [entry('old', 1, 'word', 1), entry('both', 2, 'word', 0.7, 0.7)]);
    await engine.put(of, other, [entry('new', 3, 'word', 1), entry('both', 2, 'word', 0.7, 0.7)]);
    const vectors = [
      { embedder: other, vector: pointing(1) },
      { embedder, vector: pointing(1) },
    ];
    expect((await find(of, { vectors })).sort()).toEqual(['both', 'new', 'old']);
    expect((await find(of, { vectors: vectors.slice(0, 1) })).sort()).toEqual(['both', 'new']);
    expect((await find(of, { vectors: vectors.slice(1) })).sort()).toEqual(['old']);
    expect((await find(of, { vectors, lexemes: ['word'] })).sort()).toEqual(['both', 'new', 'old']);
  });

  test('one entry that it does not take fails the whole, and names no content', async () => {
    const of = tenant();
    await engine.put(of, embedder, [entry('a', 1, 'word', 1)]);
    const short = { ...entry('b', 2, 'secret'), vector: Float32Array.of(1, 0) };
    await expect(engine.put(of, embedder, [entry('c', 3, 'word', 1), short])).rejects.toMatchObject({
      code: 'unavailable',
      message: 'Weaviate does not do what it is asked.',
    });
    expect(await find(of, { lexemes: ['secret'] })).toEqual([]);
  });

  test('a wrong key, and nobody there, are said to be away', async () => {
    const nobody = open({ url: 'http://127.0.0.1:9', grpcUrl: 'http://127.0.0.1:9' });
    for (const call of [() => nobody.ping(), () => nobody.find(tenant(), { ...asked, lexemes: ['word'] })])
      await expect(call()).rejects.toMatchObject({ code: 'unavailable' });
    if (server.address.apiKey === undefined) return;
    const stranger = open({ ...server.address, apiKey: 'wrong' });
    await expect(stranger.put(tenant(), embedder, [entry('a', 1, 'word', 1)])).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(calls.at(-1)).toMatchObject({ engine: 'weaviate', outcome: 'unavailable' });
  });

  test('that is gone is given up at once, without a word on the console', async () => {
    const gone = await startWeaviate();
    const { url, grpcUrl, apiKey } = gone;
    const leaving = open({ url, grpcUrl, apiKey });
    const of = tenant();
    await leaving.put(of, embedder, [entry('a', 1, 'word', 1)]);
    await gone.stop();
    const halfThere = open({ ...server.address, grpcUrl });
    const printed = (['log', 'info', 'warn', 'error'] as const).map((name) => vi.spyOn(console, name));
    const started = performance.now();
    for (const one of [leaving, halfThere]) {
      await expect(one.find(of, { ...asked, lexemes: ['word'] })).rejects.toMatchObject({ code: 'unavailable' });
      await expect(one.put(of, embedder, [entry('b', 2, 'word')])).rejects.toMatchObject({ code: 'unavailable' });
      await expect(one.ping()).rejects.toMatchObject({ code: 'unavailable' });
    }
    // Each batch is held back for half a second by the client.
    expect(performance.now() - started).toBeLessThan(5000);
    expect(printed.flatMap(({ mock }) => mock.calls)).toEqual([]);
    for (const spy of printed) spy.mockRestore();
  });

  test('ten instances that begin at once make one collection', async () => {
    await server.empty();
    const engines = Array.from({ length: 10 }, () => open());
    const of = tenant();
    await Promise.all(engines.map((one, n) => one.put(of, embedder, [entry(`c${n}`, n, 'word', 1)])));
    expect(await find(of, { lexemes: ['word'] })).toHaveLength(10);
    await Promise.all(engines.map((one) => one.close()));
  });
});
