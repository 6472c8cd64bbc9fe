import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Problem } from '../lib/base/problem.ts';
import { type Database, databaseError, databaseUnavailable, runOne } from '../lib/postgres/database.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { newId, openStore, type Reply, type TestStore } from './support/client.ts';
import { createDatabase, hasPostgres, realPostgres } from './support/engines.ts';
import { intercept } from './support/intercept.ts';

/** Lets every `nth` call fail, before its effect or after it. */
function chaotic(
  database: Database,
  fail: (call: number) => 'none' | '40001' | '40P01' | 'before' | 'after',
): Database {
  let calls = 0;
  return intercept(database, async (run) => {
    const how = fail(++calls);
    if (how === '40001' || how === '40P01') throw databaseError({ message: 'chaos', sqlState: how });
    if (how === 'before') throw databaseUnavailable(new Error('chaos'));
    const answers = await run();
    if (how === 'after') throw databaseUnavailable(new Error('chaos'));
    return answers;
  });
}

describe.skipIf(!hasPostgres)('many sessions on a real PostgreSQL', () => {
  let store: TestStore;
  let database: Database;
  let admin: pg.Client;
  beforeAll(async () => {
    const { server, endpoint } = await realPostgres();
    const name = await createDatabase();
    database = createNeonDatabase({ url: server.url(name), endpoint: endpoint.url });
    store = await openStore({ name: 'real', open: async () => database });
    admin = new pg.Client({ connectionString: server.url(name) });
    await admin.connect();
  });
  afterAll(() => admin?.end());
  const put = (id: string, body: unknown, headers = {}) => store.send('PUT', `/v1/contexts/${id}`, { body, headers });
  const clock = async () => Number((await store.send('GET', '/v1/changes?since=latest')).json.nextCursor);

  /** The whole feed after `since`: gapless, each change once. */
  async function readFeed(since: number): Promise<{ id: string; version: number; cursor: string }[]> {
    const all = [];
    for (let cursor = since; ; ) {
      const { changes, nextCursor } = (await store.send('GET', `/v1/changes?since=${cursor}&limit=200`)).json;
      if (changes.length === 0) return all;
      all.push(...changes);
      cursor = nextCursor;
    }
  }

  test('20 writers of one context lose nothing, and every refusal names the version that is there', async () => {
    const id = newId();
    await put(id, { content: { count: 0 } });
    const before = await clock();
    let conflicts = 0;
    await Promise.all(
      Array.from({ length: 20 }, async (_, writer) => {
        for (let done = 0; done < 20; ) {
          const head = await store.send('GET', `/v1/contexts/${id}`);
          const next = { content: { count: head.json.content.count + 1, writer } };
          const written = await put(id, next, { 'if-match': head.headers.get('etag')! });
          if (written.status === 200) done++;
          else {
            expect(written.json.code).toBe('version_conflict');
            expect(written.json.currentVersion).toBeGreaterThan(head.json.version);
            conflicts++;
            await sleep(Math.random() * 4);
          }
        }
      }),
    );
    const head = (await store.send('GET', `/v1/contexts/${id}`)).json;
    expect([head.version, head.content.count]).toEqual([401, 400]);
    expect(conflicts).toBeGreaterThan(0);
    expect((await readFeed(before)).map(({ version }) => version)).toEqual(
      Array.from({ length: 400 }, (_, at) => at + 2),
    );
  });

  test('20 creations of one id make one context, 20 puts of it 20 versions', async () => {
    const id = newId();
    const made = await Promise.all(
      Array.from({ length: 20 }, (_, at) => store.send('POST', '/v1/contexts', { body: { id, content: at } })),
    );
    expect(made.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(made.filter(({ json }) => json.code === 'already_exists')).toHaveLength(19);
    const other = newId();
    const puts = await Promise.all(Array.from({ length: 20 }, (_, at) => put(other, { content: at })));
    expect(puts.map(({ json }) => json.version).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, at) => at + 1),
    );
  });

  test('patches at once all arrive', async () => {
    const id = newId();
    await put(id, { content: {} });
    const patch = (raw: string) =>
      store.send('PATCH', `/v1/contexts/${id}`, { raw, headers: { 'content-type': 'application/merge-patch+json' } });
    const answers = await Promise.all(Array.from({ length: 6 }, (_, at) => patch(`{"k${at}":${at}}`)));
    const arrived = answers.filter(({ status }) => status === 200).length;
    expect(Object.keys((await store.send('GET', `/v1/contexts/${id}`)).json.content)).toHaveLength(arrived);
    // Five lost races in a row are the caller's to hear of.
    expect(answers.every(({ status }) => status === 200 || status === 412)).toBe(true);
  });

  test('re-parentings that race never close a circle', async () => {
    for (let round = 0; round < 25; round++) {
      const ids = [newId(), newId(), newId()];
      for (const id of ids) await put(id, { content: 1 });
      const moves = await Promise.all(ids.map((id, at) => put(id, { parentId: ids[(at + 1) % 3] })));
      expect(moves.filter(({ json }) => json.code === 'parent_cycle')).toHaveLength(1);
      expect(moves.filter(({ status }) => status === 200)).toHaveLength(2);
    }
  });

  test('a parent deleted while children are put below it leaves none behind', async () => {
    for (let round = 0; round < 15; round++) {
      const parent = newId();
      await put(parent, { content: 1 });
      const children = Array.from({ length: 4 }, () => newId());
      const [removed, ...made] = await Promise.all([
        store.send('DELETE', `/v1/contexts/${parent}`),
        ...children.map((id) => put(id, { content: 1, parentId: parent })),
      ]);
      const alive = made.filter(({ status }) => status === 201).length;
      if (removed!.status === 200) expect(alive).toBe(0);
      else expect([removed!.json.code, alive > 0]).toEqual(['has_children', true]);
    }
  });

  test('batches over the same contexts in every order neither deadlock nor lose a change', async () => {
    const ids = Array.from({ length: 8 }, () => newId());
    const before = await clock();
    const batch = (seed: number) => {
      const order = [...ids].sort(
        (a, b) =>
          ((a.charCodeAt(a.length - 1) * seed) % 7) - ((b.charCodeAt(b.length - 1) * seed) % 7) ||
          a.localeCompare(b) * (seed % 2 ? 1 : -1),
      );
      const operations = order.map((id) => ({ op: 'put', id, content: { seed, id } }));
      return store.send('POST', '/v1/batch/write', { body: { operations, atomic: seed % 3 === 0 } });
    };
    const singles = (seed: number) => put(ids[seed % 8]!, { content: { single: seed } });
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, seed) => (seed % 4 === 3 ? singles(seed) : batch(seed))),
    );
    expect(answers.every(({ status }) => status < 300)).toBe(true);
    const feed = await readFeed(before);
    expect(feed.map(({ cursor }) => Number(cursor))).toEqual(
      Array.from({ length: feed.length }, (_, at) => before + at + 1),
    );
    expect(feed).toHaveLength(30 * 8 + 10);
  });

  test('contents that come and go between contexts are never collected while somebody needs them', async () => {
    const frugal = await openStore(
      { name: 'real', open: async () => database },
      { settings: { versions: { retained: 1 } } },
    );
    const ids = Array.from({ length: 4 }, () => newId());
    await Promise.all(
      ids.flatMap((id) =>
        Array.from({ length: 3 }, async () => {
          for (let at = 0; at < 25; at++) {
            const content = `shared ${Math.floor(Math.random() * 3)}`;
            await frugal.send('PUT', `/v1/contexts/${id}`, { body: { content, contentType: 'text/plain' } });
          }
        }),
      ),
    );
    for (const id of ids) {
      const head = await frugal.send('GET', `/v1/contexts/${id}`);
      expect(head.json.content).toMatch(/^shared \d$/);
      expect((await frugal.send('GET', `/v1/contexts/${id}/versions`)).json.items).toHaveLength(1);
    }
    await frugal.manager.cleanup({ only: frugal.ref, budgetMs: 10_000 });
    const [left] = await runOne(database.in({ space: frugal.space }), {
      text: 'select count(*) as n from content',
      params: [],
    });
    expect(Number(left!['n'])).toBeLessThanOrEqual(3);
  });

  test('ticks have no gap and followers miss nothing while writers are killed', async () => {
    const before = await clock();
    const acknowledged: { id: string; version: number }[] = [];
    let isWriting = true;
    const seen: { id: string; version: number; cursor: string }[] = [];
    const follow = async () => {
      for (let cursor = before; ; ) {
        const isLast = !isWriting;
        const page: Reply = await store.send('GET', `/v1/changes?since=${cursor}&limit=7`);
        // The killing may hit a reader as well.
        if (page.status !== 200) continue;
        seen.push(...page.json.changes);
        cursor = page.json.nextCursor;
        if (isLast && page.json.changes.length === 0) return;
      }
    };
    const kill = async () => {
      for (let round = 0; round < 30; round++) {
        await admin.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() order by random() limit 3`,
        );
        await sleep(15);
      }
    };
    const write = async (writer: number) => {
      for (let at = 0; at < 40; at++) {
        const id = `shared-${(writer + at) % 5}`;
        const answer =
          at % 5 === 4
            ? await store.send('POST', '/v1/batch/write', {
                body: {
                  operations: [
                    { op: 'put', id, content: `${writer}-${at}` },
                    { op: 'put', id: newId(), content: at },
                  ],
                  atomic: true,
                },
              })
            : await put(id, { content: `${writer}-${at}` });
        expect([200, 201, 503]).toContain(answer.status);
        const made = answer.json?.results
          ? answer.json.results.map((one: { context: object }) => one.context)
          : [answer.json];
        if (answer.status < 300) acknowledged.push(...made);
      }
    };
    const following = [follow(), follow()];
    await Promise.all([kill(), ...Array.from({ length: 12 }, (_, writer) => write(writer))]);
    isWriting = false;
    await Promise.all(following);
    const feed = await readFeed(before);
    expect(feed.map(({ cursor }) => Number(cursor))).toEqual(
      Array.from({ length: feed.length }, (_, at) => before + at + 1),
    );
    const told = new Set(feed.map(({ id, version }) => `${id}@${version}`));
    expect(told.size).toBe(feed.length);
    for (const { id, version } of acknowledged) expect(told.has(`${id}@${version}`)).toBe(true);
    // Two followers: each saw every change exactly once.
    expect(seen.map(({ cursor }) => Number(cursor)).sort((a, b) => a - b)).toEqual(
      feed.flatMap(({ cursor }) => [Number(cursor), Number(cursor)]),
    );
    expect(acknowledged.length).toBeGreaterThan(100);
  });

  test('a write waits for who holds the context, and goes on from what that one left', async () => {
    const id = newId();
    await put(id, { content: 1 });
    await admin.query('begin');
    await admin.query('select from context where space_id = $1 and id = $2 for update', [store.space, id]);
    const waiting = put(id, { content: 2 }, { 'if-match': '"1"' });
    await sleep(60);
    await admin.query('commit');
    expect((await waiting).status).toBe(200);
  });

  test('a write that is away too long is 503 with Retry-After, and is there once or not at all', async () => {
    const { server, endpoint } = await realPostgres();
    const [{ current_database: name }] = (await admin.query('select current_database()')).rows;
    const hasty = createNeonDatabase({ url: server.url(name), endpoint: endpoint.url, timeoutMs: 150 });
    const impatient = await openStore({ name: 'real', open: async () => hasty });
    const id = newId();
    await impatient.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
    await admin.query('begin');
    await admin.query('select from context where space_id = $1 and id = $2 for update', [impatient.space, id]);
    const refused = await impatient.send('PUT', `/v1/contexts/${id}`, { body: { content: 2 } });
    expect([refused.status, refused.json.code, refused.headers.get('retry-after')]).toEqual([503, 'unavailable', '1']);
    await admin.query('commit');
    await sleep(100);
    const { version } = (await impatient.send('GET', `/v1/contexts/${id}`)).json;
    expect([1, 2]).toContain(version);
  });

  test('what a read tells and the tick it tells it for are of one snapshot, whoever writes meanwhile', async () => {
    const alone = await openStore({ name: 'real', open: async () => database });
    const id = newId();
    const first = await alone.send('PUT', `/v1/contexts/${id}`, { body: { content: 0 } });
    const opened = Number(first.headers.get('context-seq'));
    let isOver = false;
    // Every tick of the space is a version of this context, so each tells the other.
    const writing = Promise.all(
      [1, 2, 3].map(async (writer) => {
        for (let at = 0; at < 40; at++)
          await alone.send('PUT', `/v1/contexts/${id}`, { body: { content: [writer, at] } });
      }),
    ).then(() => {
      isOver = true;
    });
    let reads = 0;
    while (!isOver) {
      for (const cached of [{}, { 'cache-control': 'no-cache' }]) {
        const read = await alone.send('GET', `/v1/contexts/${id}`, { headers: cached });
        expect(read.json.version).toBe(1 + Number(read.headers.get('context-seq')) - opened);
        reads++;
      }
    }
    await writing;
    expect(reads).toBeGreaterThan(20);
  });

  test('batches and single writers of equal contents under a short history wait for one another, and never in a circle', async () => {
    const small = await openStore(
      { name: 'real', open: async () => database },
      { settings: { versions: { retained: 1 } } },
    );
    const ids = Array.from({ length: 8 }, () => newId());
    const before = await deadlocks();
    for (let round = 0; round < 10; round++) {
      const content = { round };
      const shuffled = (by: number) => ids.map((_, at) => ids[(at * 3 + by) % ids.length]!);
      const batches = [0, 5].map((by) =>
        small.send('POST', '/v1/batch/write', {
          body: { operations: shuffled(by).map((id) => ({ op: 'put', id, content })) },
        }),
      );
      const singles = ids.map((id) =>
        small.send('PUT', `/v1/contexts/${id}`, { body: { content: round % 2 ? content : {} } }),
      );
      for (const answer of await Promise.all([...batches, ...singles])) expect(answer.status).toBeLessThan(300);
    }
    expect(await deadlocks()).toBe(before);
  });

  async function deadlocks(): Promise<number> {
    await admin.query('select pg_stat_clear_snapshot()');
    const { rows } = await admin.query('select deadlocks from pg_stat_database where datname = current_database()');
    return Number(rows[0].deadlocks);
  }

  test('what is moved away while its parent is deleted with everything below stays', async () => {
    for (let round = 0; round < 10; round++) {
      const [parent, child] = [newId(), newId()];
      await put(parent, { content: 1 });
      await put(child, { content: 1, parentId: parent });
      const erase = round % 2 ? '&erase=true' : '';
      const [moved, deleted] = await Promise.all([
        put(child, { parentId: null }),
        store.send('DELETE', `/v1/contexts/${parent}?children=delete${erase}`),
      ]);
      expect(deleted.status).toBe(200);
      const found = (await store.send('GET', `/v1/contexts/${child}`)).status;
      // Whoever came first decides: a move that was acknowledged before is not undone.
      expect(moved.status === 200 ? found : 200).toBe(200);
    }
  });

  test('a space that is removed under its writers is gone, whole, and its name begins anew', async () => {
    const owner = { token: store.ownerToken };
    const name = `doomed-${process.pid}`;
    const { token } = (await store.send('POST', '/v1/spaces', { body: { name }, ...owner })).json.key;
    let isGone = false;
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      for (let at = 0; !isGone; at++) {
        const body = { content: { at, writer }, metadata: { writer } };
        const { status } = await store.send('PUT', `/v1/contexts/w-${writer}-${at % 5}`, { body, token });
        expect([200, 201, 401]).toContain(status);
      }
    });
    await sleep(150);
    expect((await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner)).status).toBe(200);
    isGone = true;
    await Promise.all(writers);
    for (const table of [
      'context',
      'context_version',
      'context_term',
      'memory_node',
      'content',
      'change',
      'garbage',
      'api_key',
      'audit',
    ]) {
      const { rows } = await admin.query(`select count(*)::int as left from ${table} where space_id = $1`, [name]);
      expect([table, rows[0].left]).toEqual([table, 0]);
    }
    const again = (await store.send('POST', '/v1/spaces', { body: { name }, ...owner })).json.key.token;
    expect((await store.send('PUT', '/v1/contexts/first', { body: { content: 1 }, token: again })).json.version).toBe(
      1,
    );
    expect((await store.send('GET', '/v1/changes', { token: again })).json.changes).toHaveLength(1);
    await store.send('DELETE', `/v1/spaces/${name}?erase=true`, owner);
  });

  test('cleanup of long histories holds few locks, and nobody waits for it', async () => {
    const id = newId();
    const operations = (round: number) =>
      Array.from({ length: 100 }, (_, at) => ({ op: 'put', id: `${id}-${at}`, content: { round, at } }));
    for (let round = 0; round < 30; round++)
      await store.send('POST', '/v1/batch/write', { body: { operations: operations(round) } });
    const trimming = await openStore(
      { name: 'real', open: async () => database },
      { settings: { versions: { retained: 2 } }, isBare: true },
    );
    const blocker = new pg.Client({ connectionString: (await realPostgres()).server.url(await databaseName()) });
    await blocker.connect();
    await blocker.query('begin');
    await blocker.query('select from context where space_id = $1 and id = $2 for update', [store.space, `${id}-7`]);
    const first = await trimming.manager.cleanup({ only: store.ref, budgetMs: 60_000 });
    expect(first[store.space]).toMatchObject({ isUnfinished: false });
    const counts = await admin.query(
      `select n, count(*)::int from (select count(*)::int as n from context_version where space_id = $1 and id like $2 group by id) kept group by n order by n`,
      [store.space, `${id}-%`],
    );
    expect(counts.rows).toEqual([
      { n: 2, count: 99 },
      { n: 30, count: 1 },
    ]);
    await blocker.query('rollback');
    await blocker.end();
    expect((await trimming.manager.cleanup({ only: store.ref, budgetMs: 60_000 }))[store.space]).toMatchObject({
      versions: 28,
    });
    const { rows } = await admin.query(
      `select count(*)::int as orphans from content o where space_id = $1
        and not exists (select from context_version v where v.space_id = o.space_id and v.hash = o.hash)`,
      [store.space],
    );
    expect(rows).toEqual([{ orphans: 0 }]);
  });

  async function databaseName(): Promise<string> {
    return (await admin.query('select current_database() as name')).rows[0].name;
  }

  test('deadlocks and serialisation failures are tried again, five times at most', async () => {
    for (const state of ['40001', '40P01'] as const) {
      const flaky = chaotic(database, (call) => (call < 5 ? state : 'none'));
      const patient = await openStore({ name: 'real', open: async () => flaky });
      const id = newId();
      const written = await patient.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
      expect([written.status, written.json.version]).toEqual([201, 1]);
    }
    const never = chaotic(database, () => '40001');
    const hopeless = await openStore({ name: 'real', open: async () => never });
    expect((await hopeless.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 1 } })).json.code).toBe(
      'unavailable',
    );
  });

  test('an answer that was lost is made good by the same request under its key', async () => {
    let isLosing = false;
    const lossy = await openStore({
      name: 'real',
      open: async () => chaotic(database, () => (isLosing ? 'after' : 'none')),
    });
    const id = newId();
    const send = () =>
      lossy.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers: { 'idempotency-key': id } });
    isLosing = true;
    expect((await send()).status).toBe(503);
    isLosing = false;
    const again = await send();
    expect([again.status, again.json.version]).toEqual([201, 1]);
  });
});

describe('an error nobody foresaw', () => {
  test('tells the caller its request id and nothing else', async () => {
    const { pgliteEngine } = await import('./support/engines.ts');
    const database = await pgliteEngine.open();
    let isBroken = false;
    const logged: unknown[] = [];
    const broken = intercept(database, async (run) => {
      if (!isBroken) return run();
      throw databaseError({
        message: 'relation "secret_table" does not exist',
        sqlState: '42P01',
        detail: 'secret detail',
      });
    });
    const store = await openStore(pgliteEngine, {
      database: broken,
      telemetry: { engineCall() {}, cacheRead() {}, syncRun() {}, hookEvent() {}, log: (event) => logged.push(event) },
    });
    isBroken = true;
    const answer = await store.send('GET', '/v1/contexts/x');
    expect([answer.status, answer.json.code]).toEqual([500, 'internal']);
    expect(answer.text).not.toMatch(/secret/);
    expect(logged).toMatchObject([
      { level: 'error', event: 'http.failed', facts: { requestId: answer.json.requestId } },
    ]);
    expect(new Problem('internal', 'x').status).toBe(500);
  });
});
