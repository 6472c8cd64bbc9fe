import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ContextHead } from '../../lib/contexts/context.ts';
import { systemRequest } from '../../lib/contexts/request.ts';
import { writeOne } from '../../lib/contexts/written.ts';
import { databaseError } from '../../lib/postgres/database.ts';
import { splitWords } from '../../lib/search/analysis.ts';
import { chunkContext } from '../../lib/search/chunk.ts';
import type { Embedder } from '../../lib/search/embedder.ts';
import { createStaticEmbedder } from '../../lib/search/embedders/static.ts';
import type { IndexReport } from '../../lib/search/indexing.ts';
import { readQuery } from '../../lib/search/query.ts';
import { snippetOf } from '../../lib/search/snippet.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { createGate, intercept } from '../support/intercept.ts';

const json = 'application/json';
const markdown = 'text/markdown';

function cut(content: string, contentType: string, metadata: object = {}) {
  const head = { contentType, metadata: JSON.stringify(metadata) } as ContextHead;
  return chunkContext(head, Buffer.from(content)).chunks;
}

const wordsOf = (text: string) => new Set(splitWords(text, 'index').map(({ text: word }) => word));

describe('cutting', () => {
  const hard: readonly [name: string, contentType: string, content: string][] = [
    ['a run of full stops', 'text/plain', `Begin ${'.'.repeat(2_000_000)} end`],
    ['a line of number signs', markdown, `# ${'#'.repeat(2_000_000)}x\n\nend`],
    ['a heading of blanks', markdown, `# a${' '.repeat(2_000_000)}b\n\nend`],
    ['headings without blank lines between', markdown, '# heading\ntext\n'.repeat(150_000)],
    ['long paragraphs without a stop', 'text/plain', `${'word '.repeat(400)}\n\n`.repeat(3000)],
    ['one line of 10 MB', 'text/plain', 'x'.repeat(10_000_000)],
    ['what looks like no text', 'text/plain', '\u0000\u0001\ufffd\u009f'.repeat(500_000)],
    ['a string of 9 MB', json, JSON.stringify('word '.repeat(1_800_000))],
    ['a string of 9 MB with escapes', json, JSON.stringify('wo"rd\n'.repeat(1_000_000))],
    ['a name of megabytes', json, JSON.stringify({ ['name '.repeat(1_000_000)]: { of: [1, 'value'] } })],
    [
      'long names above many values',
      json,
      JSON.stringify({ ['n'.repeat(5000)]: Array.from({ length: 20_000 }, (_, n) => ({ ['m'.repeat(500)]: [[n]] })) }),
    ],
    ['four million numbers', json, `[${'1,'.repeat(4_000_000)}2]`],
    ['backslashes', json, JSON.stringify('\\'.repeat(2_000_000))],
    ['a depth of 200', json, `${'{"deeper and deeper":['.repeat(100)}"end"${']}'.repeat(100)}`],
  ];
  for (const [name, contentType, content] of hard) {
    test(`of ${name} ends, and makes little of much`, () => {
      const chunks = cut(content, contentType);
      const total = chunks.reduce((sum, { text, header }) => sum + text.length + header.length, 0);
      expect(total).toBeLessThan(5 * content.length + 10_000);
      for (const { text, header } of chunks) {
        expect(text.length).toBeLessThanOrEqual(4800);
        expect(header.length).toBeLessThanOrEqual(2000);
      }
    });
  }

  test('halves no character, wherever it falls', () => {
    for (let shift = 0; shift < 4; shift++) {
      const long = `${'x'.repeat(shift)}${'💩𝔘'.repeat(2000)}`;
      const contents = [
        [markdown, `# ${long}\n\n${long}`],
        [json, JSON.stringify({ [long]: long, list: [long, { [long]: 1 }] })],
        ['text/plain', `A: ${long}\nB: ${long}\nA: x\nB: y`],
      ] as const;
      for (const [contentType, content] of contents) {
        for (const { header, text } of cut(content, contentType, { title: long })) {
          expect(`${header}${text}`.includes('\ufffd')).toBe(false);
          expect(`${header}${text}`.isWellFormed()).toBe(true);
        }
      }
      const words = `${'𝔘'.repeat(40)}${'𐐀'.repeat(200)}`;
      for (const { text } of splitWords(words.slice(2 * shift), 'index')) expect(text.isWellFormed()).toBe(true);
      expect(readQuery(`"${words}" -${words}`).must?.isWellFormed()).toBe(true);
      expect(snippetOf(long, []).isWellFormed()).toBe(true);
      expect(snippetOf(`${long} end`, ['end']).isWellFormed()).toBe(true);
    }
  });

  test('loses no word of a text or a document, and tells where each piece stands', () => {
    const word = fc.stringMatching(/^[a-zé]{1,12}$/);
    const prose = fc
      .array(
        fc.tuple(
          fc.array(word, { maxLength: 60 }),
          fc.constantFrom(' ', '\n', '. ', '\n\n', '\n# ', '\n```\n', '! ', ': '),
        ),
      )
      .map((parts) => parts.map(([words, end]) => words.join(' ') + end).join(''));
    fc.assert(
      fc.property(prose, fc.constantFrom(markdown, 'text/plain'), (content, contentType) => {
        const bytes = Buffer.from(content);
        const chunks = cut(content, contentType);
        const found = wordsOf(chunks.map(({ header, text }) => `${header}\n${text}`).join('\n'));
        expect([...wordsOf(content)].filter((one) => !found.has(one))).toEqual([]);
        for (const { text, start, end } of chunks) expect(bytes.subarray(start, end).toString().trim()).toBe(text);
      }),
      { numRuns: 200 },
    );
    fc.assert(
      fc.property(fc.json({ stringUnit: 'grapheme-ascii', maxDepth: 6 }), (content) => {
        const found = wordsOf(
          cut(content, json)
            .map(({ header, text }) => `${header}\n${text}`)
            .join('\n'),
        );
        const said = JSON.stringify(JSON.parse(content), (_, value: unknown) => value).replaceAll(/\\./g, ' ');
        const lost = [...wordsOf(said)].filter(
          (one) => !found.has(one) && content.replaceAll(/\\./g, ' ').toLowerCase().includes(one),
        );
        // What JSON escapes is read as what it stands for.
        expect(lost.filter((one) => !/^u?[0-9a-f]{4}$/.test(one) && one.length > 2)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });
});

describe('an index', () => {
  let store: TestStore;
  const write = async (id: string, text: string, contentType: string) => {
    const content = { bytes: Buffer.from(text), contentType };
    await writeOne(store.manager.contexts, systemRequest(store.ref, 'test'), { op: 'put', id, content });
  };
  const search = async (query: string, rest: object = {}) => {
    const { status, json: answer } = await store.send('POST', '/v1/search', {
      body: { query, consistency: 'indexed', ...rest },
    });
    expect(status).toBe(200);
    return answer as { hits: { id: string; version: number; snippet: string }[]; pending: number; degraded: string[] };
  };
  const writeMany = async (operations: readonly object[], of: TestStore = store) => {
    for (let at = 0; at < operations.length; at += 100) {
      const { status } = await of.send('POST', '/v1/batch/write', {
        body: { operations: operations.slice(at, at + 100) },
      });
      expect(status).toBe(200);
    }
  };
  const idsOf = ({ hits }: { hits: { id: string }[] }) => hits.map(({ id }) => id);
  const indexNow = (of: TestStore = store) => of.manager.index({ only: store.ref, budgetMs: 30_000 });
  beforeAll(async () => {
    store = await openStore(pgliteEngine);
  });

  test('takes in what is hard, and what comes after it', async () => {
    const long = '💩𝔘𐐀'.repeat(300);
    await write('hard-title', `# x${long}\n\nquagga one`, markdown);
    await write('hard-string', JSON.stringify({ text: 'quagga '.repeat(1_300_000) }), json);
    await write('hard-name', JSON.stringify({ ['quagga name '.repeat(300_000)]: 1 }), json);
    await write('hard-bytes', `quagga \u0000\u0001${'\u0000'.repeat(100_000)}`, 'text/plain');
    await write('soft', 'The last quagga.', 'text/plain');
    const found = await search('quagga', { mode: 'keyword' });
    expect(idsOf(found).sort()).toEqual(['hard-bytes', 'hard-name', 'hard-string', 'hard-title', 'soft']);
    expect(found.pending).toBe(0);
    for (const query of [long, `"${long}"`, `-${long} quagga`]) await search(query);
  });

  test('sends what has more words than characters in pieces that are no larger', async () => {
    let sentMax = 0;
    const watching = intercept(store.database, (run, statements) => {
      for (const { params } of statements) sentMax = Math.max(sentMax, ...params.map((one) => String(one).length));
      return run();
    });
    const other = await openStore(pgliteEngine, { database: watching, isBare: true });
    const characters = Array.from({ length: 900_000 }, (_, n) =>
      String.fromCharCode(0x4e00 + ((n * n * 7 + n) % 20_000)),
    );
    await write('unspaced', characters.join(''), 'text/plain');
    await indexNow(other);
    expect(sentMax).toBeGreaterThan(3_000_000);
    expect(sentMax).toBeLessThan(5_500_000);
  });

  test('counts terms once, whoever was first with some of the chunks', async () => {
    // As code of before sent them.
    const hurrying = intercept(store.database, async (run, statements) => {
      const put = statements.find(({ text }) => text.includes('put_chunks'));
      if (put !== undefined) {
        const [chunks, embedder = null] = put.params;
        const some = JSON.stringify((JSON.parse(String(chunks)) as unknown[]).slice(1));
        await store.database.in(store.ref).run([{ text: 'select put_chunks($1::json, $2)', params: [some, embedder] }]);
      }
      return run();
    });
    const other = await openStore(pgliteEngine, { database: hurrying, isBare: true });
    for (const id of ['first', 'second', 'third'])
      await write(`hurried-${id}`, `A hurried pademelon ${id}.`, 'text/plain');
    await indexNow(other);
    const counted = await store.database.in(store.ref).run([
      {
        text: `select count(*) as terms, bool_and(t.chunks = (select count(*) from chunk c where t.term = any (c.terms))) as good
          from chunk_term t where t.term in (select unnest(c.terms) from chunk c where c.context_id like 'hurried-%')`,
        params: [],
      },
      { text: 'select s.chunks = (select count(*) from chunk) as good from search_state s', params: [] },
    ]);
    expect(counted).toEqual([[{ terms: '5', good: 't' }], [{ good: 't' }]]);
  });

  test('counts all that came in before it was broken off, whether that stays or goes', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    let isKilled = false;
    const breaking = intercept(store.database, async (run, statements) => {
      if (isKilled) throw new Error('killed after');
      const answer = await run();
      isKilled = statements.some(({ text }) => text.includes('put_chunks'));
      return answer;
    });
    const other = await openStore(pgliteEngine, { database: breaking, isBare: true });
    const ask = async (text: string) =>
      (await store.database.in({ space: own.space }).run([{ text, params: [] }]))[0]?.[0]?.['n'];
    const miscounted = `select count(*) as n from (
      select term, count(*) as chunks from chunk cross join unnest(terms) term group by term
    ) h full join chunk_term t using (term) where h.chunks is distinct from t.chunks`;
    const text = Array.from({ length: 450_000 }, (_, n) => String.fromCharCode(0x4e00 + ((n * n * 7 + n) % 20_000)));
    for (const id of ['stays', 'goes']) {
      isKilled = false;
      const body = { content: `${id} ${text.join('')}`, contentType: 'text/plain' };
      expect((await own.send('PUT', `/v1/contexts/${id}`, { body })).status).toBe(201);
      await expect(other.manager.search.indexing.index(own.ref, 60_000)).rejects.toThrow('killed after');
      expect(Number(await ask('select count(*) as n from chunk_term_pending'))).toBeGreaterThan(0);
      expect(Number(await ask(miscounted))).toBeGreaterThan(0);
      // An erase counts it at once.
      if (id === 'goes') expect((await own.send('DELETE', `/v1/contexts/${id}?erase=true`)).status).toBe(200);
      else await own.manager.search.indexing.index(own.ref, 60_000);
      expect(await ask('select count(*) as n from chunk_term_pending')).toBe('0');
      expect(await ask(miscounted)).toBe('0');
    }
  });

  test('takes in what has no words, also where another indexer was first with what has', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    await own.send('PUT', '/v1/contexts/smile', { body: { content: '🙂', contentType: 'text/plain' } });
    await own.send('PUT', '/v1/contexts/words', { body: { content: 'A numbat', contentType: 'text/plain' } });
    let isFirst = true;
    const racing = intercept(store.database, async (run, statements) => {
      if (isFirst && statements.some(({ text }) => text.includes('put_chunks'))) {
        isFirst = false;
        await own.send('PUT', '/v1/contexts/words', { body: { content: 'Another numbat', contentType: 'text/plain' } });
      }
      return run();
    });
    const other = await openStore(pgliteEngine, { database: racing, isBare: true });
    await other.manager.search.indexing.index(own.ref, 60_000);
    const body = { query: 'another numbat', consistency: 'indexed' };
    expect((await own.send('POST', '/v1/search', { body })).json.hits).toMatchObject([{ id: 'words', version: 2 }]);
  });

  test('finds by words what is stored, though a later lot fails', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const put = (n: number) => ({ op: 'put', id: `lot-${n}`, content: `Numbat ${n}`, contentType: 'text/plain' });
    await writeMany(
      Array.from({ length: 2100 }, (_, n) => put(n)),
      own,
    );
    let reads = 0;
    const failing = intercept(store.database, async (run, statements) => {
      if (statements.some(({ text }) => text.startsWith('with wanted as')) && ++reads === 3)
        throw new Error('no third');
      return run();
    });
    const other = await openStore(pgliteEngine, { database: failing, isBare: true });
    await expect(other.manager.search.indexing.index(own.ref, 60_000)).rejects.toThrow('no third');
    const body = { query: 'numbat 7', mode: 'keyword', limit: 3 };
    const found = (await own.send('POST', '/v1/search', { body })).json;
    expect(idsOf(found)[0]).toBe('lot-7');
    expect(found.pending).toBe(2100);
  });

  test('finds what lives among many that were deleted, also where the feed has forgotten that they were', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const put = (id: string, content: string) => ({ op: 'put', id, content, contentType: 'text/plain' });
    const strong = Array.from({ length: 300 }, (_, n) => `strong-${n}`);
    await writeMany(
      [...strong.map((id) => put(id, `Elephant elephant elephant ${id}`)), put('alive', 'An elephant is here')],
      own,
    );
    await own.manager.search.indexing.index(own.ref, 60_000);
    await writeMany(
      strong.map((id) => ({ op: 'delete', id })),
      own,
    );
    const alive = async () => {
      for (const mode of ['keyword', 'semantic', 'hybrid']) {
        const { json } = await own.send('POST', '/v1/search', {
          body: { query: 'elephant', mode },
          headers: { 'cache-control': 'no-cache' },
        });
        expect([mode, idsOf(json)]).toEqual([mode, ['alive']]);
      }
    };
    await alive();
    const forget = ['delete from change', 'update space set feed_floor = clock'].map((text) => ({ text, params: [] }));
    await store.database.in({ space: own.space }).run(forget);
    await alive();
  });

  test('to index one write reads a few rows where there are many contexts, before PostgreSQL has statistics', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const put = (id: string) => ({ op: 'put', id, content: `Numbat ${id} ${newId()}`, contentType: 'text/plain' });
    await writeMany(
      Array.from({ length: 1200 }, (_, n) => put(`many-${n}`)),
      own,
    );
    await own.manager.search.indexing.index(own.ref, 60_000);
    // What was planned when there were few.
    await store.database.owner.run([{ text: 'discard plans', params: [] }]);
    let rows = 0;
    const text = `select sum(seq_tup_read + idx_tup_fetch) as n from pg_stat_xact_user_tables
      where relname in ('context', 'chunk', 'chunk_term', 'chunk_vector', 'search_document')`;
    const counting = intercept(store.database, async (_run, statements) => {
      const count = { text, params: [] };
      const answers = await store.database.in(own.ref).run([count, ...statements, count]);
      rows += Number(answers.pop()?.[0]?.['n']) - Number(answers.shift()?.[0]?.['n']);
      return answers;
    });
    const other = await openStore(pgliteEngine, { database: counting, isBare: true });
    await writeMany([put('one-more')], own);
    expect(await other.manager.search.indexing.index(own.ref, 60_000)).toMatchObject({ contexts: 1, embedded: 1 });
    expect(rows).toBeGreaterThan(0);
    expect(rows).toBeLessThan(50);
  });

  test('goes on where PostgreSQL refuses one content, which is then not found', async () => {
    const refusing = intercept(store.database, async (run, statements) => {
      const isBad = statements.some(
        ({ text, params }) => text.includes('put_chunks') && String(params[0]).includes('bandicoot bad'),
      );
      if (isBad) throw databaseError({ message: 'string is too long for tsvector', sqlState: '54000' });
      return run();
    });
    const other = await openStore(pgliteEngine, { database: refusing, isBare: true });
    for (const id of ['bad-1', 'bad-2', 'bad-3'])
      await write(id, `A bandicoot ${id === 'bad-2' ? 'bad' : 'good'}.`, 'text/plain');
    await indexNow(other);
    const found = await search('bandicoot', { mode: 'keyword' });
    expect(found.pending).toBe(0);
    expect(idsOf(found).sort()).toEqual(['bad-1', 'bad-3']);
    await write('bad-2', 'A bandicoot mended.', 'text/plain');
    expect(idsOf(await search('bandicoot', { mode: 'keyword' })).sort()).toEqual(['bad-1', 'bad-2', 'bad-3']);
  });

  test('keeps to its budget where PostgreSQL refuses one content, and gets on', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    let requests = 0;
    const refusing = intercept(store.database, async (run, statements) => {
      requests++;
      if (statements.some(({ text, params }) => text.includes('put_chunks') && String(params[0]).includes('dodo bad')))
        throw databaseError({ message: 'string is too long for tsvector', sqlState: '54000' });
      return run();
    });
    const other = await openStore(pgliteEngine, { database: refusing, isBare: true });
    const operations = Array.from({ length: 20 }, (_, n) => ({
      op: 'put',
      id: `x${String(n).padStart(2, '0')}`,
      content: `A dodo ${n === 7 ? 'bad' : 'good'}.`,
      contentType: 'text/plain',
    }));
    await writeMany(operations, own);
    let runs = 0;
    for (let isUnfinished = true; isUnfinished && runs < 30; runs++) {
      requests = 0;
      ({ isUnfinished } = await other.manager.search.indexing.index(own.ref, 0));
      expect(requests).toBeLessThan(20);
    }
    expect(runs).toBeGreaterThan(7);
    const { json } = await own.send('POST', '/v1/search', { body: { query: 'dodo', mode: 'keyword', limit: 50 } });
    expect([json.pending, json.hits.length]).toEqual([0, 19]);
  });

  test('that cannot go on is told by `pending`, not by an error', async () => {
    await write('waiting', 'A thylacine.', 'text/plain');
    const broken = intercept(store.database, async (run, statements) => {
      if (statements.some(({ text }) => text.includes('put_documents'))) throw new Error('away');
      return run();
    });
    const other = await openStore(pgliteEngine, { database: broken, isBare: true });
    const { status, json: answer } = await other.send('POST', '/v1/search', {
      body: { query: 'thylacine', consistency: 'indexed' },
      token: store.token,
    });
    expect([status, answer.pending, answer.hits]).toEqual([200, 1, []]);
    expect(idsOf(await search('thylacine'))).toEqual(['waiting']);
  });

  /** A store whose next indexing stops where it is about to store what it has read. */
  async function createHeld() {
    const gate = createGate();
    const holding = intercept(store.database, async (run, statements) => {
      if (statements.some(({ text }) => text.includes('put_chunks') || text.includes('put_documents')))
        await gate.pass();
      return run();
    });
    return { of: await openStore(pgliteEngine, { database: holding, isBare: true }), ...gate };
  }
  const count = async (text: string) => {
    const [rows] = await store.database
      .in(store.ref)
      .run([{ text: `select count(*) as n from chunk where text like $1`, params: [`%${text}%`] }]);
    return Number(rows?.[0]?.['n']);
  };

  for (const how of ['index', 'reindex'] as const) {
    test(`what read an older version (${how}) stores nothing of it over a newer one`, async () => {
      const own = await openStore(pgliteEngine, { database: store.database });
      const put = (content: string) =>
        own.send('PUT', '/v1/contexts/race', { body: { content, contentType: 'text/plain' } });
      const index = () => own.manager.index({ only: own.ref, budgetMs: 30_000 });
      const run = (text: string) => own.database.in(own.ref).run([{ text, params: [] }]);
      await put('The okapi of before.');
      if (how === 'reindex') {
        await index();
        await run('delete from chunk');
        await run('delete from search_document');
      }
      const { of, isReached, release } = await createHeld();
      const late = of.manager[how]({ only: own.ref, budgetMs: 30_000 });
      await isReached;
      await put('The okapi of after.');
      await index();
      release();
      await late;
      const { json: answer } = await own.send('POST', '/v1/search', { body: { query: 'okapi', mode: 'keyword' } });
      expect(answer).toMatchObject({ pending: 0, hits: [{ version: 2, snippet: 'The okapi of after.' }] });
      expect((await run('select text from chunk'))[0]).toEqual([{ text: 'The okapi of after.' }]);
    });
  }

  test('takes in nothing of what was erased meanwhile, though its id was written anew', async () => {
    const id = newId('erased');
    await write(id, `The passphrase is ${id} swordfish.`, 'text/plain');
    const { of, isReached, release } = await createHeld();
    const late = of.manager.index({ only: store.ref, budgetMs: 30_000 });
    await isReached;
    await store.send('DELETE', `/v1/contexts/${id}?erase=true`);
    await write(id, 'Nothing to see.', 'text/plain');
    release();
    await late;
    expect(await count(`${id} swordfish`)).toBe(0);
    await search('anything');
    expect(await count(`${id} swordfish`)).toBe(0);
  });

  test('does not take a context that begins anew for the one of that version number it knows', async () => {
    const id = newId('anew');
    await write(id, 'The old aurochs.', 'text/plain');
    await indexNow();
    await store.send('DELETE', `/v1/contexts/${id}`);
    // As the clean-up does when the days of tombstones are over.
    await store.database.in(store.ref).run([
      { text: 'delete from context_version where id = $1', params: [id] },
      { text: 'delete from context where id = $1', params: [id] },
    ]);
    await write(id, 'The new bison.', 'text/plain');
    const { json: answer } = await store.send('POST', '/v1/search', { body: { query: 'aurochs', mode: 'keyword' } });
    expect(answer.hits).toEqual([]);
    expect(answer.pending).toBe(2);
    expect(idsOf(await search('bison', { mode: 'keyword' }))).toEqual([id]);
    expect(await search('aurochs', { mode: 'keyword' })).toMatchObject({ hits: [], pending: 0 });
  });

  test('finds the live ones behind any number of expired ones', async () => {
    const expiring = Array.from({ length: 900 }, (_, n) => ({
      op: 'put',
      id: `dead-${n}`,
      content: 'A eagle. A eagle. A eagle.',
      contentType: 'text/plain',
      ttlSeconds: 3,
    }));
    await writeMany(expiring);
    await write(
      'alive',
      'Once there was, far from here and long ago, one that was called eagle by some.',
      'text/plain',
    );
    expect((await search('eagle', { mode: 'keyword' })).hits).toHaveLength(10);
    await new Promise((resolve) => setTimeout(resolve, 3100));
    for (const mode of ['keyword', 'semantic', 'hybrid']) {
      expect(idsOf(await search('eagle', { mode }))).toContain('alive');
    }
  });

  test('one large context leaves room for the others', async () => {
    const part = (n: number) =>
      `Section ${n}: the horse and the horse. ${'More is said here of other things. '.repeat(25)}`;
    await write('crowd', Array.from({ length: 400 }, (_, n) => part(n)).join('\n\n'), markdown);
    for (let n = 0; n < 5; n++)
      await write(`single-${n}`, `Among much else that is told in this place, number ${n}: a horse.`, markdown);
    const expected = ['crowd', ...Array.from({ length: 5 }, (_, n) => `single-${n}`)];
    for (const mode of ['keyword', 'hybrid']) {
      expect(idsOf(await search('horse', { mode }))).toEqual(expect.arrayContaining(expected));
    }
    expect(idsOf(await search('the horse', { mode: 'semantic', limit: 100 })).length).toBeGreaterThan(5);
    expect((await search('horse', { mode: 'keyword', groupBy: 'chunk', limit: 100 })).hits).toHaveLength(100);
  });

  test('finds what is current behind any number of contexts that changed since', async () => {
    const put = (id: string, content: string) => ({ op: 'put', id, content, contentType: 'text/plain' });
    const operations = Array.from({ length: 120 }, (_, n) => put(`changing-${n}`, 'A quoll. A quoll. A quoll.'));
    await writeMany(operations);
    await write('constant', 'Some say that what was seen there at night was a quoll.', 'text/plain');
    await indexNow();
    const changed = operations.map(({ id }) => put(id, 'Something else.'));
    await writeMany(changed);
    const { json: answer } = await store.send('POST', '/v1/search', { body: { query: 'quoll', mode: 'keyword' } });
    expect([answer.pending, idsOf(answer)]).toEqual([120, ['constant']]);
    await indexNow();
  });

  test('counts what it never saw after the feed forgot it, and makes up for it', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    for (let n = 0; n < 5; n++)
      await own.send('PUT', `/v1/contexts/lost-${n}`, {
        body: { content: `Lost numbat ${n}.`, contentType: 'text/plain' },
      });
    await own.database.in(own.ref).run([{ text: `select prune_feed(-1, 1000)`, params: [] }]);
    const ask = () => own.send('POST', '/v1/search', { body: { query: 'numbat', mode: 'keyword' } });
    expect((await ask()).json).toMatchObject({ pending: 5, hits: [] });
    const first = await own.manager.search.indexing.index(own.ref, 0);
    expect(first.isUnfinished).toBe(true);
    await own.manager.index({ only: own.ref, budgetMs: 10_000 });
    const after = (await ask()).json;
    expect([after.pending, after.hits.length]).toEqual([0, 5]);
  });

  test.each(['index', 'rebuild'] as const)(
    'a budget ends it (%s) between large contexts and within one, and nothing is done twice',
    async (how) => {
      const own = await openStore(pgliteEngine, { database: store.database });
      // Without spaces each two characters are a word, so that it is more than is sent at once.
      const letters = Array.from({ length: 500_000 }, (_, n) => 0x4e00 + ((n * 7919 + (n >> 7)) % 20_000));
      const contents = {
        a: 'A marabou.',
        b: letters.map((one, at) => `${at % 20 === 0 ? ' ibis ibis ibis ' : ''}${String.fromCodePoint(one)}`).join(''),
        c: 'ibis '.repeat(600_000),
        d: 'Another marabou.',
      };
      const put = (id: string, content: string) =>
        own.send('PUT', `/v1/contexts/${id}`, { body: { content, contentType: 'text/plain' } });
      const ask = async (body: object) => (await own.send('POST', '/v1/search', { body })).json;
      for (let n = 0; n < 30; n++) await put(`i${n}`, 'An ibis.');
      const { indexing } = own.manager.search;
      await indexing.index(own.ref, Number.POSITIVE_INFINITY);
      for (const [id, content] of Object.entries(contents)) await put(id, content);
      const reports: IndexReport[] = [];
      while (reports.at(-1)?.isUnfinished !== false && reports.length < 20) {
        reports.push(await indexing[how](own.ref, 0));
        // What is there of a large one is found, and takes no place without being so.
        expect((await ask({ query: 'ibis', mode: 'keyword', groupBy: 'chunk', limit: 20 })).hits).toHaveLength(20);
      }
      expect(reports.length).toBeGreaterThan(2);
      const sum = (of: 'contexts' | 'chunks' | 'embedded') => reports.reduce((total, one) => total + one[of], 0);
      const [rows] = await own.database.in(own.ref).run([{ text: 'select count(*) as n from chunk', params: [] }]);
      const all = Number(rows?.[0]?.['n']) - 30;
      expect([sum('contexts'), sum('chunks'), sum('embedded')]).toEqual([how === 'index' ? 4 : 34, all, all]);
      const found = await ask({ query: 'marabou', mode: 'keyword' });
      // A rebuild stands for no change that the feed still tells.
      expect([found.pending, idsOf(found).sort()]).toEqual([how === 'index' ? 0 : 4, ['a', 'd']]);
    },
    60_000,
  );

  test('a rebuild goes on where its budget ended, and drops what is no more', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const operations = Array.from({ length: 1200 }, (_, n) => ({
      op: 'put',
      id: `r-${String(n).padStart(4, '0')}`,
      content: `Ibex ${n}.`,
      contentType: 'text/plain',
    }));
    await writeMany(operations, own);
    await own.database.in(own.ref).run([
      {
        text: `insert into search_document (space_id, id, version, is_transcript, keys, starts, ends) values ($1, 'zombie', 1, false, '{}', '{}', '{}')`,
        params: [own.space],
      },
    ]);
    const reports: { contexts: number; isUnfinished: boolean }[] = [];
    for (let run = 0; run < 10 && reports.at(-1)?.isUnfinished !== false; run++) {
      reports.push(await own.manager.search.indexing.rebuild(own.ref, 0));
    }
    expect(reports.map(({ contexts }) => contexts).filter(Boolean)).toEqual([500, 500, 200]);
    const [rows] = await own.database.in(own.ref).run([
      {
        text: 'select count(*) as n, count(*) filter (where id = $1) as dead from search_document',
        params: ['zombie'],
      },
    ]);
    expect(rows?.[0]).toEqual({ n: '1200', dead: '0' });
  });

  test('a rebuild that was stopped stands for nothing that was written after it began', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const text = (content: string) => ({ content, contentType: 'text/plain' });
    const operations = Array.from({ length: 600 }, (_, n) => ({
      op: 'put',
      id: `c${String(n).padStart(3, '0')}`,
      ...text(`Ibis ${n}.`),
    }));
    await writeMany(operations, own);
    expect((await own.manager.search.indexing.rebuild(own.ref, 0)).isUnfinished).toBe(true);
    await own.send('PUT', '/v1/contexts/c000', { body: text('A new marabou.') });
    await own.send('PUT', '/v1/contexts/a-new-one', { body: text('Another marabou.') });
    await own.database.in(own.ref).run([{ text: 'select prune_feed(-1, 10000)', params: [] }]);
    await own.manager.index({ only: own.ref, budgetMs: 30_000 });
    const { json: answer } = await own.send('POST', '/v1/search', { body: { query: 'marabou', mode: 'keyword' } });
    expect([answer.pending, idsOf(answer).sort()]).toEqual([0, ['a-new-one', 'c000']]);
  });

  test('two processes with embedders of their own do not take the vectors from each other', async () => {
    const own = await openStore(pgliteEngine, { database: store.database });
    const counted = { first: 0, second: 0 };
    const named = (id: 'first' | 'second'): Embedder => {
      const inner = createStaticEmbedder();
      return {
        ...inner,
        id: `${id}:100`,
        async embed(...asked) {
          if (asked[1].purpose === 'document') counted[id] += asked[0].length;
          return inner.embed(...asked);
        },
      };
    };
    for (let n = 0; n < 20; n++)
      await own.send('PUT', `/v1/contexts/e${n}`, { body: { content: `Ibex ${n}.`, contentType: 'text/plain' } });
    const first = await openStore(pgliteEngine, {
      database: store.database,
      embedders: [named('first')],
      isBare: true,
    });
    await first.manager.search.indexing.index(own.ref, 30_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const second = await openStore(pgliteEngine, {
      database: store.database,
      embedders: [named('second')],
      isBare: true,
    });
    for (let round = 0; round < 4; round++) {
      await second.manager.search.indexing.index(own.ref, 30_000);
      await first.manager.search.indexing.index(own.ref, 30_000);
      // The built-in one, which nobody has named.
      await own.manager.search.indexing.index(own.ref, 30_000);
    }
    expect(counted).toEqual({ first: 20, second: 20 });
    const [rows] = await own.database
      .in(own.ref)
      .run([{ text: 'select embedder, count(*) as n from chunk_vector group by 1', params: [] }]);
    expect(rows).toEqual([{ embedder: 'second:100', n: '20' }]);
  });

  test('a query of thousands of phrases and negations is read as far as 64 words', () => {
    const query = readQuery(`${'"one two three" '.repeat(700)} ${'-no '.repeat(700)}`);
    expect(query.must?.split('<1>')).toHaveLength(1 + 2 * 21);
    expect(query.needed).toEqual(['on', 'two', 'three']);
  });

  test('compiles no statement: a door is without JIT', async () => {
    const [rows] = await store.database.in(store.ref).run([{ text: 'show jit', params: [] }]);
    expect(rows?.[0]?.['jit']).toBe('off');
  });
});
