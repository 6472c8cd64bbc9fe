import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { defaultSettings } from '../../lib/config/settings.ts';
import type { Change } from '../../lib/contexts/context.ts';
import { items } from '../../lib/contexts/items.ts';
import { createContextKinds } from '../../lib/contexts/kinds.ts';
import { runOne } from '../../lib/postgres/database.ts';
import { createInProcessRedis } from '../../lib/redis/in-process.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines, pgliteEngine } from '../support/engines.ts';

describe.each(engines)('answers made of several contexts on $name', (engine) => {
  let one: TestStore;
  let two: TestStore;

  beforeAll(async () => {
    const redis: { shared?: ReturnType<typeof createInProcessRedis> } = {};
    const options: Parameters<typeof openStore>[1] = {
      database: await engine.open(),
      settings: { cache: { windowMs: 0, layer3Bytes: 0 } },
      redis: (bounds) => {
        redis.shared ??= createInProcessRedis({ bounds, clock: Date.now });
        return redis.shared;
      },
    };
    one = await openStore(engine, options);
    two = Object.assign(await openStore(engine, { ...options, isBare: true }), { token: one.token, space: one.space });
  });

  test('are on every instance what PostgreSQL would answer, after any write', async () => {
    const prefix = newId('d');
    const ids = ['a', 'b', 'c', 'd'].map((name) => `${prefix}-${name}`);
    const id = fc.constantFrom(...ids);
    const operation = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ op: fc.constant('put' as const), id, parent: fc.option(id), value: fc.nat(3) }),
      },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('tag' as const), id, value: fc.nat(1) }) },
      {
        weight: 1,
        arbitrary: fc.record({ op: fc.constant('delete' as const), id, children: fc.constantFrom('delete', 'orphan') }),
      },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('erase' as const), id }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('restore' as const), id }) },
    );
    const paths = [
      ...ids.flatMap((of) => [
        `/v1/contexts/${of}`,
        `/v1/contexts/${of}?resolve=ancestors`,
        `/v1/contexts/${of}/ancestors`,
        `/v1/contexts/${of}/children`,
        `/v1/contexts/${of}/children?include=content`,
        `/v1/contexts/${of}/tree`,
        `/v1/contexts/${of}/tree?depth=1`,
        `/v1/contexts?subtreeOf=${of}`,
      ]),
      '/v1/contexts?kind=note',
      '/v1/contexts?metadata.tags=t1&include=content',
      '/v1/contexts?order=updated&limit=2',
    ];
    const show = async (store: TestStore, path: string, headers = {}) => {
      const { status, json } = await store.send('GET', path, { headers });
      return JSON.stringify([path, status, status === 200 ? json : [json.code, json.version]]);
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        async (operations, isFirst) => {
          for (const step of operations) {
            const [writer, reader] = isFirst ? [one, two] : [two, one];
            const path = `/v1/contexts/${step.id}`;
            if (step.op === 'put')
              await writer.send('PUT', path, {
                body: { content: { [step.id]: step.value, shared: step.value }, parentId: step.parent },
              });
            if (step.op === 'tag')
              await writer.send('PUT', path, { body: { content: {}, metadata: { tags: [`t${step.value}`] } } });
            if (step.op === 'delete') await writer.send('DELETE', `${path}?children=${step.children}`);
            if (step.op === 'erase') await writer.send('DELETE', `${path}?erase=true&children=orphan`);
            if (step.op === 'restore') await writer.send('POST', `${path}/restore`, { body: { version: 1 } });
            for (const store of [reader, writer]) {
              const cached = await Promise.all(paths.map((of) => show(store, of)));
              const truth = await Promise.all(paths.map((of) => show(store, of, { 'cache-control': 'no-cache' })));
              expect(cached).toEqual(truth);
            }
          }
        },
      ),
      { numRuns: engine === pgliteEngine ? 8 : 12 },
    );
  }, 120_000);

  test('change with every context above, however far', async () => {
    const ids = ['1', '2', '3', '4', '5'].map(() => newId('far'));
    for (const [at, id] of ids.entries())
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: { [id]: 0 }, parentId: ids[at - 1] ?? null } });
    const leaf = `/v1/contexts/${ids.at(-1)}`;
    for (const [at, id] of ids.entries()) {
      for (const store of [one, two]) await store.send('GET', `${leaf}?resolve=ancestors`);
      for (const store of [one, two]) await store.send('GET', `${leaf}/ancestors`);
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: { [id]: at + 1 } } });
      for (const store of [one, two]) {
        const { content, resolvedFrom } = (await store.send('GET', `${leaf}?resolve=ancestors`)).json;
        expect([id, content[id], resolvedFrom[at].version]).toEqual([id, at + 1, 2]);
        const { items: above } = (await store.send('GET', `${leaf}/ancestors`)).json;
        expect(above[at]?.version ?? 2).toBe(2);
      }
    }
  });

  test('come from the caches as long as nothing touches them', async () => {
    const warm = await openStore(engine, { settings: { cache: { windowMs: 60_000, repairMs: 120_000 } } });
    const [root, leaf] = [newId(), newId()];
    await warm.send('PUT', `/v1/contexts/${root}`, { body: { content: { a: 1 }, metadata: { tags: ['x'] } } });
    await warm.send('PUT', `/v1/contexts/${leaf}`, { body: { content: { b: 2 }, parentId: root } });
    const paths = ['?resolve=ancestors', '/ancestors', '/tree'].map((of) => `/v1/contexts/${leaf}${of}`);
    paths.push(`/v1/contexts/${root}/children`, '/v1/contexts?kind=note');
    const requests = async (path: string) => (await warm.counting(() => warm.send('GET', path))).requests;
    const counted = async () => {
      const counts: number[] = [];
      for (const path of paths) counts.push(await requests(path));
      return counts;
    };
    await counted();
    expect(await counted()).toEqual([0, 0, 0, 0, 0]);
    // A write elsewhere touches the lists of the space and nothing else.
    await warm.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 1 } });
    expect(await counted()).toEqual([0, 0, 0, 0, 1]);
    // An invalidation of any part, by whatever names it, covers all that were made of it.
    for (const what of [{ ids: [root] }, { tags: ['x'] }, { pattern: `${root}*` }, { all: true }]) {
      for (const path of paths) await warm.send('GET', path);
      await warm.send('POST', '/v1/cache/invalidate', { body: what });
      // Everything is the key itself, too.
      const firstly = 'all' in what ? 2 : 1;
      expect([what, await counted()]).toEqual([what, [firstly, 1, 1, 1, 1]]);
    }
  });

  test('end with the first of their parts that expires', async () => {
    let now = Date.now();
    const store = await openStore(engine, {
      clock: () => now,
      settings: { cache: { windowMs: 60_000, repairMs: 120_000 } },
    });
    const [root, leaf] = [newId(), newId()];
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: { a: 1 }, ttlSeconds: 2 } });
    await store.send('PUT', `/v1/contexts/${leaf}`, { body: { content: { b: 2 }, parentId: root } });
    const read = async () => (await store.send('GET', `/v1/contexts/${leaf}?resolve=ancestors`)).json.content;
    const listed = async () => (await store.send('GET', '/v1/contexts')).json.items.length;
    expect([await read(), await listed()]).toEqual([{ a: 1, b: 2 }, 2]);
    // PostgreSQL has its own clock, so it is waited for.
    await new Promise((resolve) => setTimeout(resolve, 2100));
    now = Date.now();
    expect([await read(), await listed()]).toEqual([{ b: 2 }, 1]);
  });

  test('know of the expiry of what has its part in them without standing in them', async () => {
    const store = await openStore(engine, {
      settings: { cache: { windowMs: 60_000, repairMs: 120_000, layer3Bytes: 0 } },
    });
    const [root, middle, leaf, late] = ['r', 'm', 'l', 'z'].map((name) => newId(name)) as [
      string,
      string,
      string,
      string,
    ];
    const put = (id: string, body: object) =>
      store.send('PUT', `/v1/contexts/${id}`, { body: { content: { [id]: 'secret' }, ...body } });
    await put(root, { ttlSeconds: 2 });
    await put(middle, { parentId: root, kind: 'middle', ttlSeconds: 2 });
    await put(leaf, { parentId: middle, kind: 'leafy' });
    await put(late, { ttlSeconds: 2 });
    const paths = [
      `/v1/contexts?subtreeOf=${root}&kind=leafy`,
      `/v1/contexts?subtreeOf=${middle}`,
      '/v1/contexts?limit=3',
      `/v1/contexts/${leaf}?resolve=ancestors`,
      `/v1/contexts/${leaf}/ancestors`,
    ];
    const read = async (headers = {}) => {
      const answers = [];
      for (const path of paths) answers.push((await store.send('GET', path, { headers })).text);
      return answers;
    };
    const before = await read();
    expect(await read()).toEqual(before);
    expect(before[3]).toContain(`"${root}":"secret"`);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const after = await read();
    expect(after).toEqual(await read({ 'cache-control': 'no-cache' }));
    expect(after[3]).not.toContain(`"${root}":"secret"`);
  });

  test('of layer 3 are passed over when they are damaged or asked past, and put right', async () => {
    const database = await engine.open();
    const settings = { cache: { windowMs: 0, layer3Bytes: 0, kinds: { effective: { layers: ['l3'] } } } };
    const store = await openStore(engine, { database, settings });
    const [root, leaf] = [newId(), newId()];
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: { a: 1 } } });
    await store.send('PUT', `/v1/contexts/${leaf}`, { body: { content: { b: 1 }, parentId: root } });
    const read = async (headers = {}) => {
      const {
        status,
        json,
        headers: answered,
      } = await store.send('GET', `/v1/contexts/${leaf}?resolve=ancestors`, { headers });
      return [status, json.content, answered.get('cache-status')?.includes('l3; hit') ?? false];
    };
    await read();
    expect(await read()).toEqual([200, { a: 1, b: 1 }, true]);
    const tamper = (text: string) =>
      database.in({ space: store.space }).run([{ text: `update cache_entry set body = ${text}`, params: [] }]);
    await tamper('replace(body, \'"a":1\', \'"a":9\')');
    expect(await read({ 'cache-control': 'no-cache' })).toEqual([200, { a: 1, b: 1 }, false]);
    for (const damage of ["'nonsense'", "'c1' || substr(body, 3)", 'substr(body, 1, 20)']) {
      await tamper(damage);
      expect([damage, await read()]).toEqual([damage, [200, { a: 1, b: 1 }, false]]);
      expect([damage, await read()]).toEqual([damage, [200, { a: 1, b: 1 }, true]]);
    }
    expect((await store.send('GET', '/v1/cache')).json.layers.l2.unreadable).toBeGreaterThan(2);
  });

  test('too large to be kept are loaded each time, and nobody waits for another to keep them', async () => {
    const store = await openStore(engine, { settings: { cache: { windowMs: 0, leaseMs: 5000 } } });
    const root = newId();
    await store.send('PUT', `/v1/contexts/${root}`, { body: { content: 1 } });
    for (let batch = 0; batch < 6; batch++) {
      const operations = Array.from({ length: 100 }, (_, at) => ({
        op: 'put',
        id: `${root}.${batch}.${at}`,
        content: 1,
        parentId: root,
      }));
      await store.send('POST', '/v1/batch/write', { body: { operations } });
    }
    const started = performance.now();
    for (let read = 0; read < 4; read++) {
      const { requests } = await store.counting(() => store.send('GET', `/v1/contexts/${root}/tree`));
      expect(requests).toBe(1);
    }
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('lie in layer 3 as well, as far as they are dear, and are true there by the same rule', async () => {
    // Two processes that share nothing but the database.
    const database = await engine.open();
    const settings = { cache: { windowMs: 0, layer3Bytes: 100 } };
    const first = await openStore(engine, { database, settings });
    const second = Object.assign(await openStore(engine, { database, settings, isBare: true }), { token: first.token });
    const [root, leaf] = [newId(), newId()];
    const content = { text: 'x'.repeat(500) };
    await first.send('PUT', `/v1/contexts/${root}`, { body: { content } });
    await first.send('PUT', `/v1/contexts/${leaf}`, { body: { content: { b: 1 }, parentId: root } });
    const path = `/v1/contexts/${leaf}?resolve=ancestors`;
    const cold = await first.send('GET', path);
    expect(cold.headers.get('cache-status')).toMatch(/^l2; fwd=miss/);
    const found = await second.send('GET', path);
    expect(found.headers.get('cache-status')).toMatch(/^l3; hit, l2; fwd=miss; stored, l1; fwd=miss; stored$/);
    expect(found.json).toEqual(cold.json);
    const { layers } = (await second.send('GET', '/v1/cache')).json;
    expect([layers.l3.hits, layers.l3.entries]).toEqual([1, 1]);
    expect(layers.l3.bytes).toBeGreaterThan(500);
    const explain = async () => (await second.send('GET', `/v1/cache/explain?id=${leaf}&kind=effective`)).json;
    expect((await explain()).l3).toMatchObject({ held: true, why: 'found by who asks PostgreSQL' });
    expect((await second.send('GET', `/v1/cache/explain?id=${leaf}`)).json.l3.held).toBe(false);
    // Touched, it is as if it were not there; the next reader puts the new one in its place.
    const written = await first.send('PUT', `/v1/contexts/${root}`, { body: { content: { ...content, c: 1 } } });
    expect((await explain()).l3).toMatchObject({ held: true, why: 'held, and touched since' });
    const headers = { 'context-seq': written.headers.get('context-seq') as string };
    const fresh = await second.send('GET', path, { headers });
    expect([fresh.json.content.c, fresh.headers.get('cache-status')?.includes('l3')]).toEqual([1, false]);
    // An erase empties it.
    await first.send('DELETE', `/v1/contexts/${root}?erase=true&children=orphan`);
    const rows = await runOne(database.in({ space: first.space }), { text: 'select key from cache_entry', params: [] });
    expect(rows).toEqual([]);
  });

  test('enter layer 3 only as long as they are true, and never over a newer one', async () => {
    const database = await engine.open();
    const store = await openStore(engine, { database });
    const seqOf = async (id: string) =>
      Number(
        (await store.send('PUT', `/v1/contexts/${id}`, { body: { content: Math.random() } })).headers.get(
          'context-seq',
        ),
      );
    const at = await seqOf('kept');
    const keep = async (tick: number, deps: string[], body: string, key = 'k') =>
      (
        await runOne(database.in({ space: store.space }), {
          text: "select keep_entry('test', $1, $2, $3::jsonb, $4, 60) as kept",
          params: [key, tick, JSON.stringify(deps), body],
        })
      )[0]?.['kept'];
    const held = async (key = 'k') =>
      JSON.parse(
        (
          await runOne(database.in({ space: store.space }), {
            text: "select cached_entry('test', $1) as body",
            params: [key],
          })
        )[0]?.['body'] ?? 'null',
      )?.body;
    expect([await keep(at, ['c:kept'], 'one'), await held()]).toEqual(['t', 'one']);
    expect([await keep(at - 1, ['c:other'], 'older'), await held()]).toEqual(['f', 'one']);
    const next = await seqOf('kept');
    expect(await held()).toBeUndefined();
    expect(await keep(at, ['c:kept'], 'late')).toBe('f');
    expect([await keep(next, ['c:kept'], 'two'), await held()]).toEqual(['t', 'two']);
    await seqOf('unrelated');
    expect(await held()).toBe('two');
    await store.send('POST', '/v1/cache/invalidate', { body: { all: true } });
    expect(await held()).toBeUndefined();
    // What was made of nothing that changes is true for its time.
    expect([await keep(1, [], 'pure', 'p'), await held('p')]).toEqual(['t', 'pure']);
  });
});

test('a change touches the same items in SQL as here', async () => {
  const database = await pgliteEngine.open();
  const text = fc.option(fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme-ascii' }));
  const change = fc.record({
    kind: fc.constantFrom('context' as const, 'invalidation' as const, 'key' as const, 'erased' as const),
    id: text,
    parentBefore: text,
    parentAfter: text,
    items: fc.array(fc.constantFrom('c:a', 't:b', '*', 'absent'), { minLength: 1 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 20 }), async (changes) => {
      const rows = await runOne(database.owner, {
        text: `select change_items(row('s', 1, c.kind, c.id, null, 'put', null, c.before, c.after, c.items, null, null, null, now())::change)::text as items
          from jsonb_to_recordset($1::jsonb) as c (kind text, id text, before text, after text, items jsonb)`,
        params: [
          JSON.stringify(
            changes.map(({ kind, id, parentBefore, parentAfter, items: of }) => ({
              kind,
              id,
              before: parentBefore,
              after: parentAfter,
              items: of,
            })),
          ),
        ],
      });
      const inSql = await Promise.all(
        rows.map(async (row) => {
          const [json] = await runOne(database.owner, {
            text: 'select to_jsonb($1::text[])::text as items',
            params: [row['items'] ?? '{}'],
          });
          return new Set(JSON.parse(json?.['items'] ?? '[]') as string[]);
        }),
      );
      expect(inSql).toEqual(changes.map((one) => new Set(items(one as unknown as Change))));
    }),
    { numRuns: 50 },
  );
});

describe('what travels to layer 2', () => {
  const kinds = createContextKinds(defaultSettings);
  const head = (id: string, content?: string) => ({
    id,
    parentId: null,
    kind: 'note',
    contentType: 'application/json',
    metadata: '{"a":1e400}',
    version: 3,
    hash: 'ab'.repeat(32),
    sizeBytes: content === undefined ? 5 : Buffer.byteLength(content),
    createdMs: 1,
    updatedMs: 2,
    expiresMs: null,
    actor: { kind: 'api' as const, id: 'key_a' },
    state: 'live' as const,
    ...(content === undefined ? {} : { content: Buffer.from(content) }),
  });

  test('comes back as it was, whatever it holds', async () => {
    const contents = ['"\u0000\n\u{1f600}"', '{}', '"é\n"', 'x'.repeat(20_000)];
    const items = contents.map((content, at) => head(`i${at}`, content));
    const list = { items: [...items, head('none')], hasMore: true, of: head('parent'), expiresMs: 99 };
    const text = (await kinds.list.encode(list, 'l')) as string;
    expect(kinds.list.decode(text, 'l')).toEqual(list);
    expect(kinds.head.decode((await kinds.head.encode(null, 'n')) as string, 'n')).toBeNull();
    const effective = { context: head('e', '{"folded":true}'), resolvedFrom: [{ id: 'e', version: 3 }], expiresMs: 7 };
    expect(kinds.effective.decode((await kinds.effective.encode(effective, 'e')) as string, 'e')).toEqual(effective);
  });

  test('is refused when it is damaged, of another id, of another kind or another format', async () => {
    const text = (await kinds.head.encode(head('a', '{"x":1}'), 'a')) as string;
    const large = (await kinds.head.encode(head('a', JSON.stringify('y'.repeat(30_000))), 'a')) as string;
    expect(large.length).toBeLessThan(1000);
    for (const [of, id] of [
      [text, 'b'],
      [text.slice(0, -1), 'a'],
      [`${text}x`, 'a'],
      [text.replace('c2\n', 'h1\n'), 'a'],
      [large.slice(0, -40), 'a'],
      [large.replace('c2z', 'c2\n'), 'a'],
      ['', 'a'],
      [text.replace('"state":"live"', '"state":"odd"'), 'a'],
    ] as const) {
      expect(() => kinds.head.decode(of, id)).toThrow();
    }
    expect(await kinds.head.encode(head('a', Buffer.alloc(20_000_000, 'z').toString()), 'a')).toBeNull();
  });
});
