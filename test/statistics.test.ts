import { afterAll, describe, expect, test } from 'vitest';
import { createStaticEmbedder } from '../lib/search/embedders/static.ts';
import { createMetrics, tellAll } from '../lib/telemetry/metrics.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines, pgliteEngine } from './support/engines.ts';
import { startServing, stopServing } from './support/serving.ts';

describe.each(engines)('figures on $name', (engine) => {
  test('tell what the space holds and what its caches did', async () => {
    const store = await openStore(engine);
    const [root, leaf, gone] = [newId(), newId(), newId()];
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: 'x'.repeat(100) } });
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: 'y'.repeat(200) } });
    await store.send('PUT', `/v1/contexts/${leaf}`, { body: { content: 1, parentId: root } });
    await store.send('PUT', `/v1/contexts/${gone}`, { body: { content: 1 } });
    await store.send('DELETE', `/v1/contexts/${gone}`);
    for (let read = 0; read < 5; read++) await store.send('GET', `/v1/contexts/${root}`);
    const { json } = await store.send('GET', '/v1/stats');
    expect(json).toMatchObject({ contexts: 2, tombstones: 1, contentBytes: 203, largestBytes: 202, expired: 0 });
    expect(json.versions).toMatchObject({ count: 5, pinned: 0 });
    expect(json.cache.l1.hits).toBeGreaterThan(4);
    expect(json.warnings).toEqual([]);
  });

  test('tell what the search index holds, by embedder, and how it was asked, in two requests together', async () => {
    const builtIn = createStaticEmbedder();
    const store = await openStore(engine, { embedders: [{ ...builtIn, id: 'old:100' }] });
    const put = (to: TestStore, id: string, content: string) =>
      to.send('PUT', `/v1/contexts/${id}`, { body: { content, contentType: 'text/plain' } });
    const read = async (of: TestStore) => (await of.send('GET', '/v1/stats', { token: store.token })).json.search;
    await put(store, 'pets', 'Kittens need vaccines.');
    await put(store, 'money', 'Shares fell.');
    expect(await read(store)).toMatchObject({ chunks: 0, embedded: 0, pending: 2, queries: { averageMs: null } });
    await store.manager.index({ only: store.ref, budgetMs: 10_000 });
    for (let asked = 0; asked < 2; asked++)
      await store.send('POST', '/v1/search', { body: { query: 'kittens', mode: 'keyword' } });
    const [rows] = await store.database
      .in(store.ref)
      .run([{ text: `select to_regclass('chunk_vector') is not null as has`, params: [] }]);
    const hasVectors = rows?.[0]?.['has'] === 't';
    const held = hasVectors ? 2 : 0;
    expect(await read(store)).toEqual({
      engine: 'pgvector',
      embedder: 'old:100',
      chunks: 2,
      embedded: held,
      vectors: hasVectors ? { 'old:100': 2 } : {},
      pending: 0,
      queries: { cached: 1, asked: 1, averageMs: expect.any(Number) },
    });
    expect((await store.counting(() => read(store))).requests).toBe(2);
    const next = await openStore(engine, { embedders: [builtIn], database: store.database, isBare: true });
    expect(await read(next)).toMatchObject({ embedder: builtIn.id, chunks: 2, embedded: 0 });
    await put(store, 'more', 'Ships sail.');
    await next.manager.search.indexing.index(store.ref, 10_000);
    expect((await read(next)).vectors).toEqual(hasVectors ? { [builtIn.id]: 3 } : {});
  });

  test('warn where a threshold of alerts is passed, and name it', async () => {
    const metrics = createMetrics();
    const store = await openStore(engine, {
      settings: {
        cache: { windowMs: 0, kinds: { head: { layers: [] } } },
        alerts: { databaseMs: 0.0001, syncMs: 0.000001, spaceBytes: 10, layer3Bytes: 1, cacheHitRate: 0.9 },
      },
      metrics,
      telemetry: tellAll(metrics),
    });
    await store.send('PUT', '/v1/contexts/a', { body: { content: 'long enough' } });
    for (let at = 0; at < 1100; at += 100) {
      const ids = Array.from({ length: 100 }, (_, index) => `none-${at + index}`);
      await store.send('POST', '/v1/batch/get', { body: { ids } });
      for (const tree of [1, 2, 3]) await store.send('GET', `/v1/contexts/a/tree?depth=${tree}`);
    }
    metrics.engineCall({ engine: 'postgres', durationMs: 9, sentBytes: 1, receivedBytes: 1, outcome: 'ok' });
    const { warnings } = (await store.send('GET', '/v1/stats')).json;
    const named = warnings.map(({ alert }: { alert: string }) => alert);
    expect(named).toEqual(expect.arrayContaining(['alerts.databaseMs', 'alerts.syncMs', 'alerts.spaceBytes']));
    for (const { value, threshold, detail } of warnings) {
      expect([value, threshold].every(Number.isFinite)).toBe(true);
      expect(detail).not.toBe('');
    }
  });
});

test('a poor hit rate is a warning once enough was read', async () => {
  const store = await openStore(pgliteEngine, { settings: { cache: { windowMs: 0 } } });
  const rated = async () =>
    (await store.send('GET', '/v1/stats')).json.warnings.filter(
      ({ alert }: { alert: string }) => alert === 'alerts.cacheHitRate',
    );
  const miss = async (from: number) => {
    const ids = Array.from({ length: 100 }, (_, index) => `miss-${from}-${index}`);
    await store.send('POST', '/v1/batch/get', { body: { ids } });
  };
  for (let at = 0; at < 5; at++) await miss(at);
  expect(await rated()).toEqual([]);
  for (let at = 5; at < 12; at++) await miss(at);
  expect(await rated()).toMatchObject([{ threshold: 0.85 }]);
});

describe('/metrics', () => {
  afterAll(stopServing);

  test('is OpenMetrics that names engines, kinds and layers, for administrators alone', async () => {
    const server = await startServing({ LAMINA_DATA: 'memory' });
    const call = (path: string, token?: string) =>
      fetch(server.origin + path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
    await server.send('PUT', '/v1/contexts/a', { content: 1 });
    for (let read = 0; read < 3; read++) await server.send('GET', '/v1/contexts/a');
    const answer = await call('/metrics', 'lam_test_owner_0123456789');
    expect(answer.headers.get('content-type')).toMatch(/^application\/openmetrics-text/);
    const text = await answer.text();
    expect(text.trimEnd().endsWith('# EOF')).toBe(true);
    expect(text).toMatch(/^lamina_engine_seconds_count\{.*engine="postgres".*\} [1-9]/m);
    // The first read of a cold instance is a load.
    expect(text).toMatch(/^lamina_cache_values_total\{kind="head",counted="l1Hits"\} 2$/m);
    expect(text).toMatch(/^lamina_cache_layer1\{measure="entries"\} [1-9]/m);
    expect(text).toMatch(/^lamina_engine_away\{engine="postgres"\} 0$/m);
    // Every line is a comment, or a sample with a number.
    for (const line of text.trimEnd().split('\n')) expect(line).toMatch(/^(#|[a-z_]\w*(\{[^}]*\})? -?[\d.e+-]+$)/);
    // What was counted is counted once, however often it is shown.
    expect(await (await call('/metrics', 'lam_test_owner_0123456789')).text()).toContain('counted="l1Hits"} 2');
    const { token } = (await server.send('POST', '/v1/keys', { name: 'r', scopes: ['write'] })).json as {
      token: string;
    };
    expect((await call('/metrics', token)).status).toBe(403);
    expect((await call('/metrics')).status).toBe(401);
    expect((await call('/v1/stats', token)).status).toBe(200);
  });
});
