import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openEmbedders, readProviderAccess } from '../../functions/embedders.ts';
import { defaultSettings } from '../../lib/config/settings.ts';
import type { Embedder } from '../../lib/search/embedder.ts';
import { readEmbedders } from '../../lib/search/embedders/choice.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { type EngineCall, noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { type EmbedderEndpoint, keys, startEmbedders } from '../servers/embedders.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';

const names = [
  'openai:text-embedding-3-small',
  'openai:text-embedding-3-small:256',
  'voyage:voyage-3.5',
  'voyage:voyage-3.5-lite:512',
  'cohere:embed-v4.0',
  'cohere:embed-v4.0:256',
  'bedrock:amazon.titan-embed-text-v2:0',
  'bedrock:amazon.titan-embed-text-v2:0:256',
  'bedrock:cohere.embed-multilingual-v3',
];

describe('embedders behind an API', () => {
  let endpoint: EmbedderEndpoint;
  beforeAll(async () => {
    endpoint = await startEmbedders();
  });
  afterAll(() => endpoint.stop());
  afterEach(() => {
    endpoint.failAlways(undefined);
    endpoint.calls.length = 0;
  });

  const variables = (): Record<string, string> => ({
    OPENAI_API_KEY: keys.openai,
    OPENAI_BASE_URL: `${endpoint.url}/openai`,
    VOYAGE_API_KEY: keys.voyage,
    VOYAGE_API_BASE: `${endpoint.url}/voyage`,
    COHERE_API_KEY: keys.cohere,
    CO_API_URL: `${endpoint.url}/cohere`,
    AWS_REGION: 'eu-central-1',
    AWS_ACCESS_KEY_ID: 'AKTEST',
    AWS_SECRET_ACCESS_KEY: keys.aws,
    AWS_ENDPOINT_URL_BEDROCK_RUNTIME: `${endpoint.url}/bedrock`,
  });
  const seen: EngineCall[] = [];
  const telemetry = { ...noTelemetry, engineCall: (call: EngineCall) => void seen.push(call) };
  const open = (name: string, without: readonly string[] = []) =>
    openEmbedders(
      readEmbedders(name) ?? [],
      readProviderAccess((one) => (without.includes(one) ? undefined : variables()[one])),
      { settings: defaultSettings, telemetry },
    );
  const one = async (name: string): Promise<Embedder> => (await open(name))[0];
  const likeness = (left: Float32Array | null | undefined, right: Float32Array | null | undefined) =>
    left?.reduce((sum, value, at) => sum + value * (right?.[at] ?? 0), 0) ?? Number.NaN;

  for (const name of names) {
    test(`${name}: vectors of length 1 in order, in as many calls as are needed`, async () => {
      const embedder = await one(name);
      const dimensions = Number(embedder.id.split(':').at(-1));
      const texts = Array.from({ length: 200 }, (_, at) =>
        at === 7 ? '  ' : `${['kittens', 'shares', 'ships'][at % 3]} and more of ${at}`,
      );
      const vectors = await embedder.embed(texts, { purpose: 'document' });
      expect(vectors.map((vector) => vector?.length ?? 0)).toEqual(texts.map((_, at) => (at === 7 ? 0 : dimensions)));
      for (const vector of vectors) if (vector) expect(likeness(vector, vector)).toBeCloseTo(1, 4);
      const [query] = await embedder.embed(['puppies'], { purpose: 'query' });
      expect(likeness(query, vectors[0])).toBeGreaterThan(likeness(query, vectors[1]));
      const { body } = endpoint.calls.at(-1) ?? {};
      const [purpose] = [body.input_type].flat();
      if (purpose !== undefined) expect(['query', 'search_query']).toContain(purpose);
      const perCall = name.includes('titan') ? 1 : name.includes('cohere') ? 96 : 128;
      expect(endpoint.calls).toHaveLength(Math.ceil(199 / perCall) + 1);
    });

    test(`${name}: a text of any length is taken, and one that is refused has no vector`, async () => {
      const embedder = await one(name);
      const texts = [
        'word '.repeat(20_000),
        'kittens',
        '検索エンジン'.repeat(5000),
        'FORBIDDEN',
        '💩'.repeat(9000),
        'ships',
      ];
      const vectors = await embedder.embed(texts, { purpose: 'document' });
      expect(vectors.map((vector) => vector !== null)).toEqual([true, true, true, false, true, true]);
    });
  }

  test('what it costs is counted', async () => {
    seen.length = 0;
    const embedder = await one('openai:text-embedding-3-small');
    await embedder.embed(['four characters a token', 'and more'], { purpose: 'document' });
    expect(seen).toMatchObject([{ engine: 'embedder', outcome: 'ok', tokens: 8, usd: (8 * 0.02) / 1e6 }]);
    const metrics = createMetrics();
    for (const call of seen) metrics.engineCall(call);
    const none = {
      kinds: {},
      layer1: { entries: 0, bytes: 0, evictions: 0 },
      layer2: { calls: 0, failures: 0 },
      breaker: 'closed',
      origin: 'closed',
    };
    expect(await metrics.print(none)).toContain('lamina_embedder_tokens_total 8');
  });

  test('asks again when it is told to, and after what passes', async () => {
    const embedder = await one('voyage:voyage-3.5');
    endpoint.fail({ status: 429, headers: { 'retry-after': '1' } }, { status: 500 }, 'drop');
    const started = Date.now();
    const [vector] = await embedder.embed(['kittens'], { purpose: 'document' });
    expect(vector).not.toBeNull();
    expect(endpoint.calls).toHaveLength(4);
    expect(Date.now() - started).toBeGreaterThanOrEqual(1000);
  });

  test('ends at the deadline of who asks, however long it is told to wait', async () => {
    const embedder = await one('cohere:embed-v4.0');
    for (const failure of ['hang', { status: 429, headers: { 'retry-after': '60' } }] as const) {
      endpoint.failAlways(failure);
      const asked = embedder.embed(['kittens'], { purpose: 'query', signal: AbortSignal.timeout(300) });
      await expect(asked).rejects.toMatchObject({ code: 'unavailable' });
    }
  });

  const html = '<!doctype html><title>Bad gateway</title>';
  const wrong: readonly [what: string, body: string][] = [
    ['HTML', html],
    ['nothing', ''],
    ['another form', '{"vectors":[[1,2]]}'],
    ['a vector too short', '{"data":[{"index":0,"embedding":[1,2,3]}]}'],
    ['too few vectors', '{"data":[]}'],
    ['no numbers', `{"data":[{"index":0,"embedding":[${'"x",'.repeat(1023)}1]}]}`],
    ['a place that is none', `{"data":[{"index":5,"embedding":[${'1,'.repeat(1023)}1]}]}`],
  ];
  for (const [what, body] of wrong) {
    test(`${what} instead of vectors is no answer`, async () => {
      const embedder = await one('voyage:voyage-3.5');
      endpoint.failAlways({ status: 200, body });
      await expect(embedder.embed(['secret text'], { purpose: 'query' })).rejects.toMatchObject({
        code: 'unavailable',
        message: 'The embedder voyage:voyage-3.5:1024 answers what is no embedding of this model.',
      });
    });
  }

  test('one text that is answered as none should be has no vector, and keeps no other from its own', async () => {
    const embedder = await one('openai:text-embedding-3-small:256');
    const texts = ['kittens', 'BROKEN', 'ships', 'shares', 'BROKEN FORBIDDEN'];
    const vectors = await embedder.embed(texts, { purpose: 'document' });
    expect(vectors.map((vector) => vector !== null)).toEqual([true, false, true, true, false]);
    expect(await embedder.embed(['FORBIDDEN'], { purpose: 'query' })).toEqual([null]);
  });

  test('an address may end with a slash, and a model be named by an inference profile', async () => {
    const access = readProviderAccess((name) =>
      name === 'OPENAI_BASE_URL' ? `${endpoint.url}/openai/` : variables()[name],
    );
    const choices =
      readEmbedders(
        'openai:text-embedding-3-small,openai:text-embedding-3-small:1536,bedrock:eu.cohere.embed-v4:0:1536',
      ) ?? [];
    const opened = await openEmbedders(choices, access, { settings: defaultSettings, telemetry });
    expect(opened.map(({ id }) => id)).toEqual([
      'openai:text-embedding-3-small:1536',
      'bedrock:eu.cohere.embed-v4:0:1536',
      'static:glove-6b-30k:100:1',
    ]);
    for (const embedder of opened) expect((await embedder.embed(['animals'], { purpose: 'query' }))[0]).not.toBeNull();
  });

  test('a key that is refused is told without it', async () => {
    for (const name of names) {
      endpoint.failAlways({ status: 401, body: 'Incorrect API key provided: sk-test' });
      const embedder = await one(name);
      await expect(embedder.embed(['secret text'], { purpose: 'document' })).rejects.toMatchObject({
        message: `The embedder ${embedder.id} answers 401.`,
      });
      endpoint.failAlways({ status: 400, body: 'no such model' });
      await expect(embedder.embed(['secret text'], { purpose: 'document' })).rejects.toMatchObject({
        message: `The embedder ${embedder.id} answers 400.`,
      });
    }
  });

  test('a choice that cannot be is said in one sentence', async () => {
    expect(() => readEmbedders('word2vec')).toThrow(
      'word2vec is no embedder; it is static, or one of openai, voyage, cohere, bedrock with :model.',
    );
    expect(() => readEmbedders('openai')).toThrow('openai names no model; write openai:text-embedding-3-small.');
    expect(() => readEmbedders('openai:')).toThrow('names no model');
    expect(() => readEmbedders('openai:nomic')).toThrow(
      'How many dimensions openai:nomic has is not known here; write openai:nomic:1024, or what it is.',
    );
    expect(() => readEmbedders('openai:nomic:99999')).toThrow('openai:nomic:99999 has more than 16000 dimensions.');
    await expect(open('openai:nomic:768', ['OPENAI_API_KEY'])).rejects.toThrow(
      'The embedder openai:nomic needs OPENAI_API_KEY.',
    );
    await expect(open('bedrock:cohere.embed-v4:0', ['AWS_REGION'])).rejects.toThrow(
      'needs AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
    );
    expect((await open('static')).map(({ id }) => id)).toHaveLength(1);
    expect(readEmbedders(undefined)).toBeUndefined();
    const both = await open('voyage:voyage-3.5, openai:text-embedding-3-small');
    expect(both.map(({ id }) => id)).toEqual([
      'voyage:voyage-3.5:1024',
      'openai:text-embedding-3-small:1536',
      'static:glove-6b-30k:100:1',
    ]);
  });

  describe('in a store', () => {
    const text = (content: string) => ({ content, contentType: 'text/plain' });

    test('takes over from the built-in one, asks once for a query, and costs one request to PostgreSQL then', async () => {
      const old = await openStore(pgliteEngine);
      for (const [id, content] of Object.entries({
        pets: 'Kittens need vaccines.',
        money: 'Shares fell on Wall Street.',
      }))
        await old.send('PUT', `/v1/contexts/${id}`, { body: text(content) });
      await old.manager.index({ only: old.ref, budgetMs: 10_000 });
      const embedders = await open('openai:text-embedding-3-small:256');
      const next = await openStore(pgliteEngine, { database: old.database, embedders, isBare: true });
      // Each limit is another search for the caches of answers.
      let limit = 2;
      const search = (query: string) =>
        next.send('POST', '/v1/search', {
          body: { query, mode: 'semantic', limit: limit++ },
          token: old.token,
        });
      expect((await search('animals')).json).toMatchObject({
        embedder: 'openai:text-embedding-3-small:256',
        degraded: [],
        hits: [{ id: 'pets' }, { id: 'money' }],
      });
      await next.manager.index({ only: old.ref, budgetMs: 10_000 });
      endpoint.calls.length = 0;
      // Its key is known again.
      await next.send('GET', '/v1/contexts/pets', { token: old.token });
      const first = await old.counting(() => search('animals'));
      expect([endpoint.calls.length, first.requests]).toEqual([0, 1]);
      const cold = await old.counting(() => search('other animals'));
      // Layer 3 did not have the vector; it is kept beside the search.
      expect([endpoint.calls.length, cold.requests]).toEqual([1, 3]);
      const warm = await old.counting(() => search('other animals'));
      expect([endpoint.calls.length, warm.requests]).toEqual([1, 1]);
      expect(warm.value.json).toEqual(cold.value.json);
      const [rows] = await old.database
        .in(old.ref)
        .run([{ text: 'select distinct embedder from chunk_vector', params: [] }]);
      expect(rows).toEqual([{ embedder: 'openai:text-embedding-3-small:256' }]);
    });

    test('the vector of a query in use is never computed twice', async () => {
      const embedders = await open('openai:text-embedding-3-small:256');
      const store = await openStore(pgliteEngine, { embedders });
      await store.send('PUT', '/v1/contexts/pets', { body: text('Kittens need vaccines.') });
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      // Seconds left of its term, before and after a process that holds nothing has searched.
      const left = async () => {
        const run = [{ text: 'select extract(epoch from expires_at - now())::text as s from cache_entry', params: [] }];
        return (await store.database.in(store.ref).run(run))[0]?.map(({ s }) => Number(s));
      };
      const searchAnew = async (endsInSeconds: number) => {
        const set = `update cache_entry set expires_at = now() + make_interval(secs => ${endsInSeconds})`;
        await store.database.in(store.ref).run([{ text: set, params: [] }]);
        const next = await openStore(pgliteEngine, { database: store.database, embedders, isBare: true });
        endpoint.calls.length = 0;
        const body = { query: 'animals', mode: 'semantic' };
        const { json } = await next.send('POST', '/v1/search', { body, token: store.token });
        expect(json).toMatchObject({ degraded: [], hits: [{ id: 'pets' }] });
        return { calls: endpoint.calls.length, left: await left() };
      };
      await store.send('POST', '/v1/search', { body: { query: 'animals', mode: 'semantic' } });
      const ttl = 86_400;
      expect(await left()).toEqual([expect.closeTo(ttl, -4.4)]);
      // Far from its end it is left alone, near it and past it it gets a new term.
      expect(await searchAnew(ttl / 2)).toEqual({ calls: 0, left: [expect.closeTo(ttl / 2, -2)] });
      for (const endsInSeconds of [ttl / 5, -ttl]) {
        const { calls, left: seconds } = await searchAnew(endsInSeconds);
        expect(calls).toBe(0);
        expect(seconds?.[0]).toBeGreaterThan(ttl * 0.89);
      }
    });

    test('one on its way out is asked for queries until its vectors are gone, and again where it takes over anew', async () => {
      const [voyage, openai] = ['voyage:voyage-3.5', 'openai:text-embedding-3-small:256'];
      const old = await openStore(pgliteEngine, { embedders: await open(voyage) });
      await old.send('PUT', '/v1/contexts/pets', { body: text('Kittens need vaccines.') });
      await old.manager.index({ only: old.ref, budgetMs: 10_000 });
      const begin = async (names: string) =>
        openStore(pgliteEngine, { database: old.database, embedders: await open(names), isBare: true });
      let asked = 0;
      /** Which of the two are asked, for a query that nobody has asked before. */
      async function search(store: TestStore) {
        endpoint.calls.length = 0;
        const body = { query: `animals ${++asked}`, mode: 'semantic' };
        const { json } = await store.send('POST', '/v1/search', { body, token: old.token });
        const of = [...new Set(endpoint.calls.map(({ path }) => path.split('/')[1]))].sort();
        return { of, ids: json.hits.map(({ id }: { id: string }) => id), degraded: json.degraded };
      }
      const next = await begin(`${openai},${voyage}`);
      for (let n = 0; n < 2; n++)
        expect(await search(next)).toEqual({ of: ['openai', 'voyage'], ids: ['pets'], degraded: [] });
      await next.manager.index({ only: old.ref, budgetMs: 10_000 });
      const alone = { of: ['openai'], ids: ['pets'], degraded: [] };
      expect(await search(next)).toEqual(alone);
      expect(await search(await begin(`${openai},${voyage}`))).toEqual(alone);
      // Chunks that wait for their vectors are no reason to ask it.
      const operations = Array.from({ length: 70 }, (_, n) => ({ op: 'put', id: `m${n}`, ...text(`Ship ${n}.`) }));
      await next.send('POST', '/v1/batch/write', { body: { operations }, token: old.token });
      await next.manager.search.indexing.index(old.ref, 0);
      expect((await search(next)).of).toEqual(['openai']);
      await next.manager.index({ only: old.ref, budgetMs: 10_000 });
      const back = await begin(`${voyage},${openai}`);
      await back.manager.reindex({ only: old.ref, budgetMs: 10_000 });
      const found = await search(next);
      expect([found.of, found.ids[0], found.degraded]).toEqual([['openai', 'voyage'], 'pets', []]);
      expect((await search(back)).of).toEqual(['voyage']);
    });

    test('many new chunks are found by words before they are embedded, and each is embedded once', async () => {
      const embedders = await open('voyage:voyage-3.5:512');
      const store = await openStore(pgliteEngine, { embedders });
      const operations = Array.from({ length: 100 }, (_, n) => ({
        op: 'put',
        id: `n${n}`,
        ...text(`Kittens, ${n} of them.`),
      }));
      await store.send('POST', '/v1/batch/write', { body: { operations } });
      endpoint.calls.length = 0;
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      expect(endpoint.calls.reduce((sum, { body }) => sum + body.input.length, 0)).toBe(100);
    });

    test('queries that are refused keep no other from being embedded', async () => {
      const embedders = await open('openai:text-embedding-3-small:256');
      const store = await openStore(pgliteEngine, { embedders });
      await store.send('PUT', '/v1/contexts/pets', { body: text('Kittens need vaccines.') });
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      const search = async (query: string) => (await store.send('POST', '/v1/search', { body: { query } })).json;
      for (let n = 0; n < 8; n++) expect(await search(`FORBIDDEN ${n}`)).toMatchObject({ degraded: [] });
      expect(await search('animals')).toMatchObject({ degraded: [], hits: [{ id: 'pets' }] });
    });

    test('without it words are found, which is said; it comes back by itself', async () => {
      let nowMs = Date.now();
      const embedders = await open('voyage:voyage-3.5:512');
      const store = await openStore(pgliteEngine, {
        embedders,
        clock: () => nowMs,
        settings: { search: { embedderMs: 300 } },
      });
      const search = async (query: string, rest: object = {}) =>
        (await store.send('POST', '/v1/search', { body: { query, ...rest } })).json;
      endpoint.failAlways({ status: 401 });
      await store.send('PUT', '/v1/contexts/pets', { body: text('Kittens need vaccines.') });
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      expect(await search('kittens')).toMatchObject({ pending: 0, degraded: ['semantic'], hits: [{ id: 'pets' }] });
      endpoint.failAlways('hang');
      nowMs += 60_000;
      expect(await search('kittens')).toMatchObject({ degraded: ['semantic'], hits: [{ id: 'pets' }] });
      endpoint.failAlways(undefined);
      nowMs += 60_000;
      // Its vector is still missing.
      expect(await search('animals', { mode: 'semantic' })).toMatchObject({ degraded: ['semantic'], hits: [] });
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      expect(await search('animals', { mode: 'semantic' })).toMatchObject({ degraded: [], hits: [{ id: 'pets' }] });
    });
  });
});
