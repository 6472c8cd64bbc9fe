import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemRequest } from '../../lib/contexts/request.ts';
import { writeOne } from '../../lib/contexts/written.ts';
import type { Embedder } from '../../lib/search/embedder.ts';
import { createStaticEmbedder } from '../../lib/search/embedders/static.ts';
import { tenantOf } from '../../lib/search/engine-vectors.ts';
import { createWeaviate } from '../../lib/search/engines/weaviate.ts';
import type { VectorEngine } from '../../lib/search/vector-engine.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { answerQuestions, type Collection, type Measured, meanOf } from '../../tools/eval-measures.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines, pgliteEngine } from '../support/engines.ts';
import { intercept } from '../support/intercept.ts';
import { openWeaviate, type TestWeaviate } from '../support/weaviate.ts';

const markdown = (content: string, rest: object = {}) => ({ content, contentType: 'text/markdown', ...rest });

function searching(store: TestStore) {
  return async (query: string, rest: object = {}) => {
    const body = { query, consistency: 'indexed', ...rest };
    const { status, json } = await store.send('POST', '/v1/search', { body });
    expect(status).toBe(200);
    return json as { hits: Hit[]; pending: number; degraded: string[] };
  };
}

interface Hit {
  readonly id: string;
  readonly version: number;
  readonly score: number;
  readonly snippet: string;
  readonly chunk: { readonly ordinal: number; readonly start: number; readonly end: number };
  readonly title?: string;
}

const idsOf = ({ hits }: { hits: Hit[] }) => hits.map(({ id }) => id);

const weaviateToo = engines.includes(pgliteEngine) ? [{ engine: pgliteEngine, isBeside: true }] : [];

for (const { engine, isBeside } of [...engines.map((one) => ({ engine: one, isBeside: false })), ...weaviateToo]) {
  describe(`search on ${engine.name}${isBeside ? ' with Weaviate beside' : ''}`, () => {
    let store: TestStore;
    let weaviate: TestWeaviate | undefined;
    const beside: { engine?: VectorEngine } = {};
    let search: ReturnType<typeof searching>;
    const put = async (id: string, body: object) => {
      const { status } = await store.send('PUT', `/v1/contexts/${id}`, { body });
      expect(status).toBeLessThan(300);
    };
    beforeAll(async () => {
      if (isBeside) {
        weaviate = await openWeaviate();
        const { address } = weaviate;
        beside.engine = createWeaviate({
          address,
          k1: 0.9,
          b: 0.4,
          queryMs: 5000,
          writeMs: 30_000,
          telemetry: noTelemetry,
        });
      }
      store = await openStore(engine, beside);
      search = searching(store);
    });
    afterAll(async () => {
      await beside.engine?.close();
      await weaviate?.stop();
    });

    test('finds by any of the words of a question, in whatever form they stand', async () => {
      await put(
        'refunds',
        markdown('# Refunds\n\nRefunding more than 500 needs a second pair of eyes.', {
          metadata: { title: 'Checkout' },
        }),
      );
      await put('deploys', markdown('Deployments run on Fridays only when nobody is looking.'));
      const found = await search('who has to look at a large refund?', { mode: 'keyword' });
      expect(found.hits[0]).toMatchObject({
        id: 'refunds',
        version: 1,
        title: 'Checkout',
        chunk: { ordinal: 0, start: 0 },
      });
      expect(found.hits[0]?.snippet).toContain('second pair of eyes');
      expect(found.pending).toBe(0);
      expect(idsOf(await search('when are deployments', { mode: 'keyword' }))).toEqual(['deploys']);
    });

    test('keeps to phrases, and to what must not be there', async () => {
      await put('phrase-a', markdown('The state of the art in zebra keeping.'));
      await put('phrase-b', markdown('Art of the zebra state.'));
      expect(idsOf(await search('"state of the art" zebra'))).toEqual(['phrase-a']);
      expect(idsOf(await search('zebra -keeping', { mode: 'keyword' }))).toEqual(['phrase-b']);
      expect(idsOf(await search('zebra -"state of the art"', { mode: 'keyword' }))).toEqual(['phrase-b']);
      expect(idsOf(await search('"zebra keeping state"'))).toEqual([]);
    });

    test('names of programs are found whole and by their parts', async () => {
      await put('code', markdown('Call `getInvoiceTotal` from billing_service.'));
      for (const query of ['getInvoiceTotal', 'invoice total', 'billing service']) {
        expect(idsOf(await search(query, { mode: 'keyword' }))).toContain('code');
      }
    });

    test('has an answer for every text there is', async () => {
      await put('japanese', markdown('検索エンジンの設計について'));
      await put('arabic', markdown('محرك البحث يعمل'));
      await put('german', markdown('Die Übersetzung ist fertig'));
      const scripts = { 検索エンジン: 'japanese', البحث: 'arabic', ubersetzung: 'german', ÜBERSETZUNG: 'german' };
      for (const [query, id] of Object.entries(scripts)) {
        expect(idsOf(await search(query, { mode: 'keyword' }))).toEqual([id]);
      }
      const odd = [
        '',
        ' ',
        'the of and',
        '"',
        '-',
        '""',
        '-""',
        "' \\ & | ! ( ) : * <->",
        '\u0000',
        '💩',
        'x'.repeat(10_000),
        'refund '.repeat(1400),
      ];
      for (const query of odd) expect((await search(query)).pending).toBe(0);
      await fc.assert(
        fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 60 }), async (query) => {
          await search(query);
        }),
        { numRuns: 100 },
      );
    });

    test('nothing deleted, replaced, expired or erased is found, whether the index knows of it or not', async () => {
      const find = async () =>
        (await store.send('POST', '/v1/search', { body: { query: 'wombat', mode: 'keyword' } })).json;
      for (const id of ['w-kept', 'w-deleted', 'w-replaced', 'w-expired', 'w-erased'])
        await put(id, markdown('A wombat.'));
      expect(idsOf(await search('wombat', { mode: 'keyword' })).sort()).toHaveLength(5);
      await store.send('DELETE', '/v1/contexts/w-deleted');
      await store.send('DELETE', '/v1/contexts/w-erased?erase=true');
      await put('w-replaced', markdown('A quokka.'));
      await put('w-expired', markdown('A wombat.', { ttlSeconds: 0.001 }));
      await new Promise((resolve) => setTimeout(resolve, 20));
      const before = await find();
      expect(before).toMatchObject({ pending: 4 });
      expect(idsOf(before)).toEqual(['w-kept']);
      expect(idsOf(await search('wombat', { mode: 'keyword' }))).toEqual(['w-kept']);
      expect(idsOf(await search('quokka', { mode: 'keyword' }))).toEqual(['w-replaced']);
    });

    test('a new version that still holds the text is found before it is indexed, where it stands now', async () => {
      const id = newId('moved');
      const paragraph = 'Numbats eat termites. '.repeat(40);
      await put(id, markdown(paragraph));
      await search('numbats');
      await put(id, markdown(`Something new stands here first. ${'Filling. '.repeat(80)}\n\n${paragraph}`));
      const { json } = await store.send('POST', '/v1/search', { body: { query: 'numbats', mode: 'keyword' } });
      expect(json.pending).toBe(1);
      expect(json.hits[0]).toMatchObject({ id, version: 2 });
      const { start, end } = json.hits[0].chunk;
      const content = await store.send('GET', `/v1/contexts/${id}/content`, {
        headers: { range: `bytes=${start}-${end - 1}` },
      });
      expect(content.text.trim()).toBe(paragraph.trim());
    });

    test('an erase takes the text out of the index at once', async () => {
      await put('secret', markdown('The passphrase is xyzzyplugh.'));
      await search('xyzzyplugh');
      const { json } = await store.send('DELETE', '/v1/contexts/secret?erase=true');
      expect(json.erased.vectors).toBe(1);
      const rows = await store.database
        .in(store.ref)
        .run([{ text: `select count(*) as n from chunk where text like '%xyzzy%'`, params: [] }]);
      expect(rows[0]?.[0]?.['n']).toBe('0');
      const held = weaviate?.standIn?.contents(tenantOf(store.ref)) ?? [];
      expect(held.filter((text) => text.includes('xyzz'))).toEqual([]);
      if (weaviate?.standIn) expect(held.length).toBeGreaterThan(0);
    });

    test('one space never finds what another holds', async () => {
      const other = await openStore(engine, { ...beside, database: store.database });
      await put('hidden', markdown('Axolotls regenerate.'));
      await search('axolotls');
      expect(idsOf(await searching(other)('axolotls'))).toEqual([]);
      await other.send('PUT', '/v1/contexts/own', { body: markdown('An axolotl of our own.') });
      expect(idsOf(await searching(other)('axolotls'))).toEqual(['own']);
    });

    test('a turn of a transcript is found by what stands beside it, and a paragraph is not', async () => {
      const turns = ['An okapi?', 'At the zoo.', 'Really?', 'Yes.', 'Nice.', 'Indeed.'];
      const content = turns.map((text, at) => `${at % 2 ? 'Ben' : 'Ann'}: ${text}`).join('\n');
      await put('talk', { content, contentType: 'text/plain', kind: 'transcript' });
      await put('page', markdown('# An okapi\n\nHere.\n\n# The zoo\n\nThere.'));
      const { hits } = await search('okapi', { mode: 'keyword', groupBy: 'chunk' });
      const of = (id: string) => hits.filter((hit) => hit.id === id).map(({ chunk }) => chunk.ordinal);
      expect([of('talk'), of('page')]).toEqual([[0, 1, 2], [0]]);
      const [first, second, third] = hits.filter((hit) => hit.id === 'talk').map(({ score }) => score);
      expect(Number(second) / Number(first)).toBeCloseTo(0.4, 3);
      expect(Number(third) / Number(first)).toBeCloseTo(0.15, 3);
    });

    test('a space that is deleted leaves nothing in the index', async () => {
      const other = await openStore(engine, { ...beside, database: store.database });
      await other.send('PUT', '/v1/contexts/gone', { body: markdown('A dugong.') });
      expect(idsOf(await searching(other)('dugong'))).toEqual(['gone']);
      const { status } = await other.send('DELETE', `/v1/spaces/${other.space}?erase=true`, {
        token: other.ownerToken,
      });
      expect(status).toBe(200);
      expect(weaviate?.standIn?.contents(tenantOf(other.ref)) ?? []).toEqual([]);
      const tables = ['chunk', 'vector_entry', 'search_document', 'chunk_term', 'chunk_term_pending', 'search_state'];
      const counts = tables.map((table) => ({
        text: `select count(*) as n from ${table}`,
        params: [],
      }));
      const left = await store.database.in({ space: other.space }).run(counts);
      expect(left.map(([row]) => row?.['n'])).toEqual(tables.map(() => '0'));
    });

    test('filters choose before ranking, as choosing by hand would', async () => {
      const teams = ['red', 'green', 'blue'];
      const made = Array.from({ length: 60 }, (_, n) => ({
        n,
        id: `f-${n}`,
        team: teams[n % 3] as string,
        kind: n % 2 === 0 ? 'note' : 'task',
      }));
      const items = made.map(({ n, id, team, kind }) => ({
        op: 'put',
        id,
        kind,
        parentId: n >= 30 ? 'f-0' : undefined,
        ...markdown(`A pangolin, the ${n}th.`),
        metadata: { team, size: n, tags: [team, `t${n % 5}`], at: `2026-01-${String((n % 28) + 1).padStart(2, '0')}` },
      }));
      const { status } = await store.send('POST', '/v1/batch/write', { body: { operations: items, atomic: true } });
      expect(status).toBe(200);
      const expectFound = async (filter: object, isChosen: (one: (typeof made)[number]) => boolean) => {
        const expected = made.filter(isChosen).map(({ id }) => id);
        for (const mode of ['keyword', 'hybrid']) {
          const found = await search('pangolin', { mode, limit: 100, filter });
          expect(idsOf(found).sort()).toEqual(expected.sort());
        }
      };
      await expectFound({ kind: 'task' }, ({ kind }) => kind === 'task');
      await expectFound({ parentId: 'f-0' }, ({ n }) => n >= 30);
      await expectFound({ subtreeOf: 'f-0' }, ({ n }) => n >= 30);
      await expectFound({ ids: ['f-3', 'f-9', 'nobody'] }, ({ n }) => n === 3 || n === 9);
      await expectFound({ metadata: { team: 'red' } }, ({ team }) => team === 'red');
      await expectFound({ metadata: { tags: 't3' } }, ({ n }) => n % 5 === 3);
      await expectFound({ metadata: { size: 7 } }, ({ n }) => n === 7);
      await expectFound({ metadata: { size: { gte: 10, lt: 13.5 } } }, ({ n }) => n >= 10 && n <= 13);
      await expectFound({ metadata: { at: { gt: '2026-01-27' } } }, ({ n }) => n % 28 === 27);
      await expectFound({ metadata: { size: { gt: 'x' } } }, () => false);
      await expectFound({ updatedBefore: '2020-01-01T00:00:00Z' }, () => false);
      await expectFound(
        { updatedAfter: '2020-01-01T00:00:00Z', kind: 'note', metadata: { team: 'blue', size: { lte: 20 } } },
        (one) => one.kind === 'note' && one.team === 'blue' && one.n <= 20,
      );
    });

    test('is one request to PostgreSQL, and none while nothing is written', async () => {
      await search('pangolin');
      const ask = () => store.send('POST', '/v1/search', { body: { query: 'pangolin in a window', limit: 3 } });
      const first = await store.counting(ask);
      expect(first.requests).toBe(1);
      const again = await store.counting(ask);
      // Without vectors an answer is degraded, and not worth keeping.
      expect(again.requests).toBe(first.value.json.degraded.length);
      expect(again.value.json).toEqual(first.value.json);
      await put(newId(), markdown('A pangolin in a window'));
      await store.manager.index({ only: store.ref, budgetMs: 10_000 });
      expect((await ask()).json.hits[0].snippet).toBe('A pangolin in a window');
    });

    test('embeds nothing where there is no place for vectors', async () => {
      let texts = 0;
      const inner = createStaticEmbedder();
      const counted: Embedder = {
        ...inner,
        id: 'counted:100',
        async embed(...asked) {
          if (asked[1].purpose === 'document') texts += asked[0].length;
          return inner.embed(...asked);
        },
      };
      const other = await openStore(engine, { ...beside, embedders: [counted], database: store.database });
      await other.send('PUT', '/v1/contexts/one', { body: markdown('A tarsier.') });
      await other.manager.index({ only: other.ref, budgetMs: 10_000 });
      const [rows] = await store.database
        .in(store.ref)
        .run([{ text: `select to_regclass('chunk_vector') as there`, params: [] }]);
      expect(texts).toBe(rows?.[0]?.['there'] || isBeside ? 1 : 0);
      expect(idsOf(await searching(other)('tarsier', { mode: 'keyword' }))).toEqual(['one']);
    });

    test('whatever is wrong with a request is a 400 that says what', async () => {
      const wrong = [
        {},
        { query: 7 },
        { query: 'a', limit: 0 },
        { query: 'a', limit: 101 },
        { query: 'a', mode: 'magic' },
        { query: 'a', filter: { colour: 'red' } },
        { query: 'a', filter: { updatedAfter: 'yesterday' } },
        { query: 'a', filter: { metadata: 'red' } },
        { query: 'a', filter: { metadata: { team: null } } },
        { query: 'a', filter: { metadata: { team: {} } } },
        { query: 'a', filter: { metadata: { team: { near: 3 } } } },
        { query: 'a', filter: { metadata: { 'a..b': 1 } } },
        { query: 'a', filter: { metadata: { team: 'a\u0000' } } },
        { query: 'a', filter: { metadata: { 'te\u0000am': 1 } } },
        { query: 'a', filter: { metadata: { team: { gt: '\u0000' } } } },
        { query: 'a', filter: { ids: [] } },
        { query: 'a', include: ['everything'] },
        { query: 'a', consistency: 'sometimes' },
        { query: 'x'.repeat(10_001) },
      ];
      for (const body of wrong) {
        const { status, json } = await store.send('POST', '/v1/search', { body });
        expect([status, json.code], JSON.stringify(body).slice(0, 80)).toEqual([400, 'invalid_request']);
      }
      for (const number of ['1e-20000', '1e-999999999999', '0.0000e-17000', '0e99999999999999999999', '1e309']) {
        for (const filter of [number, `{"gte":${number}}`]) {
          const raw = `{"query":"a","filter":{"metadata":{"n":${filter}}}}`;
          const { status, json } = await store.send('POST', '/v1/search', { raw });
          expect([status, json.code], raw).toEqual([400, 'invalid_request']);
        }
      }
    });

    test('tells contents where they are asked for, and every chunk by itself', async () => {
      const id = newId('long');
      const parts = Array.from(
        { length: 6 },
        (_, n) => `Part ${n} is about the capybara. ${'More is said here. '.repeat(50)}`,
      );
      await put(id, markdown(parts.join('\n\n')));
      const { hits } = await search('capybara', { mode: 'keyword', groupBy: 'chunk' });
      expect(new Set(hits.map(({ chunk }) => chunk.ordinal)).size).toBe(6);
      const whole = await search('capybara', { mode: 'keyword', include: ['content'] });
      expect(whole.hits).toHaveLength(1);
      expect(whole.hits[0]).toMatchObject({ id, contentType: 'text/markdown', content: parts.join('\n\n') });
    });

    test('no hit is anything but a head as a plain read has it, however late the index is', async () => {
      const command = fc.record({
        id: fc.integer({ min: 0, max: 2 }),
        word: fc.constantFrom('kea', 'kaka', 'kakapo'),
        act: fc.constantFrom(
          'put',
          'put',
          'put',
          'delete',
          'erase',
          'restore',
          'expire',
          'index',
          'index',
          'search',
          'search',
        ),
      });
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 40 }), async (commands) => {
          const prefix = `g${++runs}`;
          for (const { id: n, word, act } of commands) {
            const id = `${prefix}-${n}`;
            if (act === 'put')
              await store.send('PUT', `/v1/contexts/${id}`, { body: markdown(`The ${word} of ${prefix}.`) });
            if (act === 'expire')
              await store.send('PUT', `/v1/contexts/${id}`, {
                body: markdown(`The ${word} of ${prefix}.`, { ttlSeconds: 0.001 }),
              });
            if (act === 'delete') await store.send('DELETE', `/v1/contexts/${id}`);
            if (act === 'erase') await store.send('DELETE', `/v1/contexts/${id}?erase=true`);
            if (act === 'restore') await store.send('POST', `/v1/contexts/${id}/versions/1/restore`);
            if (act === 'index') await store.manager.index({ only: store.ref, budgetMs: 10_000 });
            if (act !== 'search') continue;
            await new Promise((resolve) => setTimeout(resolve, 3));
            const found = await store.send('POST', '/v1/search', {
              body: { query: `${word} ${prefix}`, mode: isBeside ? 'hybrid' : 'keyword', limit: 50 },
            });
            for (const hit of found.json.hits as Hit[]) {
              const head = await store.send('GET', `/v1/contexts/${hit.id}`, {
                headers: { 'cache-control': 'no-cache' },
              });
              expect([head.status, head.json.version]).toEqual([200, hit.version]);
              if (hit.id.startsWith(`${prefix}-`)) expect(head.json.content).toContain(hit.snippet);
            }
          }
          const all = await search(`kea kaka kakapo`, { mode: 'keyword', limit: 100 });
          for (let n = 0; n <= 2; n++) {
            const { status } = await store.send('GET', `/v1/contexts/${prefix}-${n}`);
            expect(idsOf(all).includes(`${prefix}-${n}`)).toBe(status === 200);
          }
        }),
        { numRuns: 20 },
      );
    });

    test('totals are exact, and an index made anew is the same', async () => {
      const state = async () => {
        const statements = [
          'select s.chunks = (select count(*) from chunk c where c.space_id = s.space_id) and s.words = (select coalesce(sum(words), 0) from chunk c where c.space_id = s.space_id) as good from search_state s',
          `select coalesce(bool_and(t.chunks is not distinct from h.chunks), true) as good from chunk_term t full join (
            select term, count(*) as chunks from chunk cross join unnest(terms) term group by term) h using (term)`,
          'select md5(string_agg(d::text, chr(10) order by id)) as sum from search_document d',
        ].map((text) => ({ text, params: [] }));
        return (await store.database.in(store.ref).run(statements)).map(([row]) => Object.values(row ?? {})[0]);
      };
      await store.manager.index({ only: store.ref, budgetMs: 30_000 });
      const before = await state();
      expect(before.slice(0, 2)).toEqual(['t', 't']);
      const { json } = await store.send('POST', '/v1/maintenance/run', { body: { task: 'reindex' } });
      expect(json).toMatchObject({ task: 'reindex', unfinished: false, chunks: 0 });
      expect(await state()).toEqual(before);
    });
  });
}

describe('the index', () => {
  /** The built-in embedder under a name of its own, counted, and away while it is told to be. */
  function createWatched(id: string): Embedder & { texts: number; isAway: boolean } {
    const inner = createStaticEmbedder();
    const watched = {
      ...inner,
      id,
      texts: 0,
      isAway: false,
      async embed(...[texts, options]: Parameters<Embedder['embed']>) {
        if (watched.isAway) throw new Error('away');
        if (options.purpose === 'document') watched.texts += texts.length;
        return inner.embed(texts, options);
      },
    };
    return watched;
  }

  test('an edit of one paragraph of ten megabytes embeds that paragraph alone', async () => {
    const embedder = createWatched('watched:1');
    const store = await openStore(pgliteEngine, { embedders: [embedder] });
    const paragraphs = Array.from({ length: 10_000 }, (_, n) =>
      Array.from(
        { length: 15 },
        (_, m) => `Sentence ${n}-${m} tells of thing ${n * 31 + m} and of nothing else at all.`,
      ).join(' '),
    );
    const write = async () => {
      const content = { bytes: Buffer.from(paragraphs.join('\n\n')), contentType: 'text/plain' };
      expect(content.bytes.length).toBeGreaterThan(9_000_000);
      await writeOne(store.manager.contexts, systemRequest(store.ref, 'test'), { op: 'put', id: 'large', content });
    };
    await write();
    await store.manager.index({ only: store.ref, budgetMs: 120_000 });
    expect(embedder.texts).toBe(10_000);
    paragraphs[5000] = paragraphs[5000]?.replace('nothing', 'everything') ?? '';
    await write();
    await store.manager.index({ only: store.ref, budgetMs: 120_000 });
    expect(embedder.texts).toBe(10_001);
  });

  test('finds by meaning what shares no word with the query', async () => {
    const store = await openStore(pgliteEngine);
    const search = searching(store);
    await store.send('PUT', '/v1/contexts/pets', { body: markdown('Kittens and puppies need vaccines.') });
    await store.send('PUT', '/v1/contexts/money', { body: markdown('Shares fell on Wall Street.') });
    expect(idsOf(await search('animals', { mode: 'semantic' }))[0]).toBe('pets');
    expect(idsOf(await search('stock market', { mode: 'semantic' }))[0]).toBe('money');
    expect((await search('zzzqq', { mode: 'semantic' })).hits).toEqual([]);
  });

  test('by words and meaning together finds at least what words alone find, on a set of our own', async () => {
    const store = await openStore(pgliteEngine);
    const [collection] = JSON.parse(await readFile(new URL('questions.json', import.meta.url), 'utf8')) as Collection[];
    const { manager } = store;
    const of = {
      request: systemRequest(store.ref, 'test'),
      number: 0,
      ways: [
        { name: 'keyword', manager, mode: 'keyword' },
        { name: 'hybrid', manager, mode: 'hybrid' },
      ],
    } as const;
    const measured: Measured[] = [];
    await answerQuestions(of, collection as Collection, (one) => measured.push(one));
    expect(measured).toHaveLength(26);
    for (const figure of ['recall10', 'ndcg10'] as const) {
      const [words, both] = [meanOf(measured, 'keyword', figure), meanOf(measured, 'hybrid', figure)];
      expect(words).toBeGreaterThan(0.6);
      expect(both).toBeGreaterThanOrEqual(words);
    }
    expect(meanOf(measured, 'hybrid', 'recall10')).toBeGreaterThan(0.9);
  });

  test('with the embedder away words alone answer, which is said, and it comes back by itself', async () => {
    const embedder = createWatched('watched:2');
    let nowMs = Date.now();
    const store = await openStore(pgliteEngine, { embedders: [embedder], clock: () => nowMs });
    const search = searching(store);
    embedder.isAway = true;
    await store.send('PUT', '/v1/contexts/pets', { body: markdown('Kittens need vaccines.') });
    expect(await search('kittens')).toMatchObject({ hits: [{ id: 'pets' }], degraded: ['semantic'], pending: 0 });
    embedder.isAway = false;
    nowMs += 60_000;
    await store.manager.index({ only: store.ref, budgetMs: 10_000 });
    expect(await search('animals', { mode: 'semantic' })).toMatchObject({ hits: [{ id: 'pets' }], degraded: [] });
  });

  test('a new embedder takes over in the background, and both are searched meanwhile', async () => {
    const [first, second] = [createWatched('watched:3'), createWatched('watched:4')];
    const old = await openStore(pgliteEngine, { embedders: [first] });
    const texts = ['Kittens need vaccines.', 'Shares fell on Wall Street.'];
    for (const [n, text] of texts.entries()) await old.send('PUT', `/v1/contexts/e${n}`, { body: markdown(text) });
    await old.manager.index({ only: old.ref, budgetMs: 10_000 });
    const next = await openStore(pgliteEngine, { embedders: [second, first], database: old.database, isBare: true });
    const search = searching(Object.assign(next, { token: old.token, ref: old.ref }));
    const { json } = await next.send('POST', '/v1/search', { body: { query: 'animals', mode: 'semantic' } });
    expect(json).toMatchObject({ embedder: 'watched:4', hits: [{ id: 'e0' }, { id: 'e1' }] });
    await next.send('PUT', '/v1/contexts/e2', { body: markdown('Puppies bark.') });
    expect(idsOf(await search('animals', { mode: 'semantic' })).sort()).toEqual(['e0', 'e1', 'e2']);
    expect(second.texts).toBe(3);
    const rows = await next.database
      .in(old.ref)
      .run([{ text: 'select distinct embedder from chunk_vector', params: [] }]);
    expect(rows[0]).toEqual([{ embedder: 'watched:4' }]);
  });

  test('looks by an approximate index in a big space, which finds what comparing each does', async () => {
    // Under a name of its own: of what other suites have of equal texts an approximate index would find less.
    const embedders = [{ ...createStaticEmbedder(), id: 'static:apart:100:1' }] as const;
    const store = await openStore(pgliteEngine, { embedders, settings: { search: { hnswChunks: 500 } } });
    // As a database elsewhere is, which keeps such an index.
    const database = { ...store.database, isEmbedded: false };
    const bare = { database, isBare: true, embedders } as const;
    const other = await openStore(pgliteEngine, { ...bare, settings: { search: { hnswChunks: 500 } } });
    const words = ['kittens', 'shares', 'ships', 'music', 'rivers', 'letters', 'bread', 'winter', 'glass', 'horses'];
    const sentence = (n: number) => words.filter((_, at) => (n >> at) & 1).join(' ');
    const write = async (from: number, to: number, rest: object = {}) => {
      const operations = Array.from({ length: to - from }, (_, n) => ({
        op: 'put',
        id: `n${from + n}`,
        content: sentence(from + n),
        contentType: 'text/plain',
        ...rest,
      }));
      for (let at = 0; at < operations.length; at += 100)
        expect(
          (await store.send('POST', '/v1/batch/write', { body: { operations: operations.slice(at, at + 100) } }))
            .status,
        ).toBe(200);
      await other.manager.index({ only: store.ref, budgetMs: 60_000 });
    };
    const plan = async () => {
      const [rows] = await database.in(store.ref).run([
        {
          text: `select to_regclass(vector_index('${embedders[0].id}')) is not null as there, (select chunks from search_state) as chunks`,
          params: [],
        },
      ]);
      return rows?.[0];
    };
    await write(1, 400);
    expect(await plan()).toEqual({ there: 't', chunks: '399' });
    await write(400, 1000);
    // Another space under the same index.
    const stranger = await openStore(pgliteEngine, { database: store.database, embedders });
    await stranger.send('PUT', '/v1/contexts/near', { body: markdown('kittens and ships') });
    await stranger.manager.index({ only: stranger.ref, budgetMs: 60_000 });
    const exact = await openStore(pgliteEngine, { ...bare, settings: { search: { hnswChunks: null } } });
    let shared = 0;
    const queries = ['kittens ships', 'music in winter', 'bread', 'horses and rivers', 'glass letters'];
    for (const query of queries) {
      const body = { query, mode: 'semantic', limit: 10 };
      const [found, expected] = await Promise.all(
        [other, exact].map((of) =>
          of.send('POST', '/v1/search', { body, token: store.token, headers: { 'cache-control': 'no-cache' } }),
        ),
      );
      const ids = new Set(idsOf(expected?.json));
      expect(idsOf(found?.json)).toHaveLength(10);
      shared += idsOf(found?.json).filter((id) => ids.has(id)).length;
    }
    expect(shared / (10 * queries.length)).toBeGreaterThan(0.9);
    await database.owner.run([{ text: 'select pg_stat_force_next_flush()', params: [] }]);
    const [scans] = await database.owner.run([
      {
        text: `select idx_scan as n from pg_stat_user_indexes where indexrelname = vector_index('${embedders[0].id}')`,
        params: [],
      },
    ]);
    expect(Number(scans?.[0]?.['n'])).toBeGreaterThanOrEqual(queries.length);
    // More of the dead than the index gives at a time hide nobody.
    const operations = Array.from({ length: 300 }, (_, n) => ({
      op: 'put',
      id: `d${n}`,
      content: 'bread',
      contentType: 'text/plain',
    }));
    for (let at = 0; at < 300; at += 100)
      expect(
        (await store.send('POST', '/v1/batch/write', { body: { operations: operations.slice(at, at + 100) } })).status,
      ).toBe(200);
    await other.manager.index({ only: store.ref, budgetMs: 60_000 });
    const deleting = operations.map(({ id }) => ({ op: 'delete', id }));
    for (let at = 0; at < 300; at += 100)
      expect(
        (await store.send('POST', '/v1/batch/write', { body: { operations: deleting.slice(at, at + 100) } })).status,
      ).toBe(200);
    const living = await other.send('POST', '/v1/search', {
      body: { query: 'bread', mode: 'semantic' },
      token: store.token,
      headers: { 'cache-control': 'no-cache' },
    });
    expect(living.json.pending).toBe(300);
    expect(idsOf(living.json)).toHaveLength(10);
    await store.send('DELETE', '/v1/contexts/n5');
    const found = await other.send('POST', '/v1/search', {
      body: { query: 'kittens ships', mode: 'semantic' },
      token: store.token,
    });
    expect(idsOf(found.json)).not.toContain('n5');
    const [rows] = await database.owner.run([
      { text: `select vector_index('${embedders[0].id}') as name`, params: [] },
    ]);
    await database.owner.run([{ text: `drop index ${rows?.[0]?.['name']}`, params: [] }]);
  });

  test('follows what is written by itself in a process that stays', async () => {
    const store = await openStore(pgliteEngine);
    const stop = store.manager.search.indexing.follow();
    await store.send('PUT', '/v1/contexts/soon', { body: markdown('The okapi.') });
    await expect
      .poll(async () => (await store.send('POST', '/v1/search', { body: { query: 'okapi' } })).json, { timeout: 5000 })
      .toMatchObject({ pending: 0, hits: [{ id: 'soon' }] });
    await stop();
  });

  test('broken anywhere it goes on, and ends as it would have', async () => {
    const store = await openStore(pgliteEngine);
    for (let n = 0; n < 30; n++)
      await store.send('PUT', `/v1/contexts/b${n}`, { body: markdown(`Tapir number ${n}.`) });
    let calls = 0;
    const breaking = intercept(store.database, async (run) => {
      if (++calls % 3 === 0) throw new Error('killed before');
      const answer = await run();
      if (calls % 7 === 0) throw new Error('killed after');
      return answer;
    });
    const other = await openStore(pgliteEngine, { database: breaking, isBare: true });
    for (let attempt = 0; attempt < 60; attempt++)
      await other.manager.search.indexing.index(store.ref, 1000).catch(() => {});
    expect((await searching(store)('tapir', { mode: 'keyword', limit: 100 })).hits).toHaveLength(30);
  });
});
