import { beforeAll, describe, expect, test } from 'vitest';
import { globToRegex } from '../../lib/contexts/invalidation.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';

describe.each(engines)('the cache as operators see it on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { cache: { windowMs: 60_000, repairMs: 120_000 } } });
  });
  const put = (id: string, body: unknown) => store.send('PUT', `/v1/contexts/${id}`, { body });
  const kindOf = async (id: string) => (await store.send('GET', `/v1/contexts/${id}`)).json.kind;
  const invalidate = (body: unknown, headers = {}) => store.send('POST', '/v1/cache/invalidate', { body, headers });
  /** Changes a row behind the back of every cache, as no writer does: only who loads again sees it. */
  const tamper = (id: string, kind: string) =>
    store.database
      .in({ space: store.space })
      .run([{ text: 'update context set kind = $3 where space_id = $1 and id = $2', params: [store.space, id, kind] }]);

  test('an invalidation has what it covers loaded again, and nothing else', async () => {
    const names = { one: `inv:${newId()}:notes`, two: `inv:${newId()}:notes`, other: newId() };
    await put(names.one, { content: 1, metadata: { tags: ['red\nline', 'x'] } });
    await put(names.two, { content: 1, parentId: names.other === '' ? null : null });
    await put(names.other, { content: 1 });
    let generation = 0;
    for (const [what, covered] of [
      [{ ids: [names.one] }, ['one']],
      [{ tags: ['red\nline'] }, ['one']],
      [{ tags: ['kind:nothing-has-this'] }, []],
      [{ pattern: 'inv:*:notes' }, ['one', 'two']],
      [{ pattern: names.other.replace(/.$/, '?') }, ['other']],
      [{ pattern: `${names.other.slice(0, -1)}[0-9]` }, ['other']],
      [{ all: true }, ['one', 'two', 'other']],
    ] as const) {
      // What was there before is in the caches, true as of now.
      await invalidate({ all: true });
      const before = `g${++generation}`;
      for (const id of Object.values(names)) await tamper(id, before);
      for (const id of Object.values(names)) expect(await kindOf(id)).toBe(before);
      const after = `g${++generation}`;
      for (const id of Object.values(names)) await tamper(id, after);
      const { json } = await invalidate(what);
      expect(json.seq).toBe(Number((await store.send('GET', '/v1/changes?since=latest')).json.nextCursor));
      for (const [name, id] of Object.entries(names)) {
        const isCovered = (covered as readonly string[]).includes(name);
        expect([what, name, await kindOf(id)]).toEqual([what, name, isCovered ? after : before]);
      }
    }
  });

  test('it is one request to PostgreSQL, ticks the clock once, and is no change of a context', async () => {
    const before = Number((await store.send('GET', '/v1/changes?since=latest')).json.nextCursor);
    const { value, requests } = await store.counting(() => invalidate({ pattern: '*' }, { 'idempotency-key': 'once' }));
    expect([value.json.seq, requests]).toEqual([before + 1, 1]);
    expect((await invalidate({ pattern: '*' }, { 'idempotency-key': 'once' })).json.seq).toBe(before + 1);
    expect((await invalidate({ all: true }, { 'idempotency-key': 'once' })).json.code).toBe('idempotency_mismatch');
    expect((await store.send('GET', `/v1/changes?since=${before}`)).json.changes).toEqual([]);
  });

  test('a pattern covers what is absent, too', async () => {
    const id = newId('absent-');
    expect(await kindOf(id)).toBeUndefined();
    const missing = await store.counting(() => store.send('GET', `/v1/contexts/${id}`));
    expect(missing.requests).toBe(0);
    await invalidate({ pattern: 'absent-*' });
    expect((await store.counting(() => store.send('GET', `/v1/contexts/${id}`))).requests).toBe(1);
  });

  test('what is no invalidation is refused', async () => {
    for (const body of [
      {},
      { ids: [] },
      { all: false },
      { ids: ['a'], all: true },
      { pattern: '*'.repeat(10_000) },
      { tags: ['a\u0000'] },
      { pattern: '' },
    ]) {
      expect([body, (await invalidate(body)).json.code]).toEqual([body, 'invalid_request']);
    }
    for (const pattern of [
      '*'.repeat(200),
      '[z-a]',
      '[a-c-e]',
      '[\\]',
      '[^]',
      '[]',
      '[[:alpha:]]',
      '(',
      'a{2}',
      '\\',
    ]) {
      expect([pattern, (await invalidate({ pattern })).status]).toEqual([pattern, 200]);
    }
    const { token } = (await store.send('POST', '/v1/keys', { body: { name: 'reader', scopes: ['write'] } })).json;
    expect((await store.send('POST', '/v1/cache/invalidate', { body: { all: true }, token })).json.code).toBe(
      'forbidden',
    );
  });

  test('counts tell hits and misses of each layer, and explain the story of one id', async () => {
    const id = newId();
    const before = (await store.send('GET', '/v1/cache')).json;
    await put(id, { content: 'x', metadata: { tags: ['t'] } });
    for (let read = 0; read < 4; read++) await store.send('GET', `/v1/contexts/${id}`);
    await store.send('GET', `/v1/contexts/${newId()}`);
    const after = (await store.send('GET', '/v1/cache')).json;
    expect(after.layers.l1.hits - before.layers.l1.hits).toBe(4);
    expect(after.layers.l1.misses - before.layers.l1.misses).toBe(1);
    expect(after.combinedHitRate).toBeGreaterThan(0);
    const story = (await store.send('GET', `/v1/cache/explain?id=${id}`)).json;
    expect(story.l1).toMatchObject({ held: true, why: 'served', deps: [`c:${id}`, 't:kind:note', 't:t'] });
    expect(story.l2).toMatchObject({ held: true, why: 'served' });
    expect(story.l2.applied).toBeGreaterThanOrEqual(story.l1.at);
    await tamper(id, 'changed');
    await invalidate({ ids: [id] });
    const touched = (await store.send('GET', `/v1/cache/explain?id=${id}`)).json;
    expect([touched.l1.why, touched.l2.why]).toEqual([
      'not held',
      'not held, or touched since, or older than what is remembered',
    ]);
  });
});

describe('a glob', () => {
  test('matches as shells do, whatever characters ids have', () => {
    const matches = (glob: string, id: string) => new RegExp(globToRegex(glob)).test(id);
    for (const [glob, id, isMatch] of [
      ['*', '', true],
      ['a*c', 'abbc', true],
      ['a*c', 'abb', false],
      ['a.c', 'abc', false],
      ['a.c', 'a.c', true],
      ['a?c', 'abc', true],
      ['[ab]x', 'bx', true],
      ['[!ab]x', 'bx', false],
      ['[a-c]x', 'bx', true],
      ['[', '[', true],
      ['[z-a]x', 'ax', true],
      ['[z-a]x', 'mx', false],
      ['[a-c-e]x', '-x', true],
      ['[a-c-e]x', 'dx', false],
      ['[-a]x', '-x', true],
      ['a~b:c-d_e', 'a~b:c-d_e', true],
      ['a+', 'aa', false],
      ['checkout:*:notes', 'checkout:7:notes', true],
      ['***a***', 'xxax', true],
    ] as const) {
      expect([glob, id, matches(glob, id)]).toEqual([glob, id, isMatch]);
    }
  });
});
