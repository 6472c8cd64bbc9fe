import { beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../../lib/base/hash.ts';
import type { WriteOptions } from '../../lib/contexts/write.sql.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { line, openSession, read, work } from './session.ts';

const entityId = (name: string) => `entity:${sha256(name).slice(0, 40)}`;

describe.each(engines)('working hook events on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { factory: { attempts: 2, retryMs: 1 } } });
  });
  const events = async (query: string) => (await store.send('GET', `/v1/events${query}`)).json.items;
  /** An event that cannot be worked as long as something else stands in the place of its entity. */
  async function poison(session = openSession(store)) {
    const name = `poison ${session.id}`;
    const id = entityId(name);
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 'in the way', contentType: 'text/plain' } });
    await session.event('PostToolUse', {
      tool_name: 'mcp__memory__create_entities',
      tool_input: { entities: [{ name, entityType: 't', observations: ['token=sesame-open-sesame'] }] },
    });
    return { session, id, name };
  }
  /** Works until nothing is due any more, retries included. */
  async function workAll(of = store) {
    const sum = { events: 0, failed: 0, dead: 0 };
    for (let round = 0; round < 200; round++) {
      const report = await work(of);
      for (const name of ['events', 'failed', 'dead'] as const) sum[name] += report?.[name] ?? 0;
      if (report?.nextMs === null) return sum;
      await new Promise((resolve) => setTimeout(resolve, Math.min(report?.nextMs ?? 0, 50)));
    }
    throw new Error('There is no end of it.');
  }

  test('one that fails is tried again, then dead with its reason; the session goes on, and it can be replayed', async () => {
    const { session, id, name } = await poison();
    await session.stream('Stop', line('later', 'user', 'this still arrives'), 0);
    expect(await workAll()).toEqual({ events: 1, failed: 2, dead: 1 });
    expect((await session.messages()).map((one) => one.id)).toEqual(['later']);
    const [dead] = await events('?status=dead');
    expect(dead).toMatchObject({
      event: 'PostToolUse',
      sessionId: session.id,
      status: 'dead',
      attempts: 2,
      nextAt: null,
    });
    expect(dead.reason).toMatch(/^already_exists: /);
    expect(JSON.stringify(dead)).not.toContain('sesame');
    const [row] =
      (
        await store.database.in(store.ref).run([{ text: 'select pending, dead from event_statistics', params: [] }])
      )[0] ?? [];
    expect(row).toEqual({ pending: '0', dead: '1' });

    await store.send('DELETE', `/v1/contexts/${id}`);
    const replayed = await store.send('POST', `/v1/events/dead/${dead.id}/replay`);
    expect(replayed.json).toMatchObject({ id: dead.id, status: 'pending', attempts: 0 });
    expect(await workAll()).toEqual({ events: 1, failed: 0, dead: 0 });
    expect((await read(store, id)).json.content).toMatchObject({ name });
    expect(await events('?status=dead')).toEqual([]);
    const done = await store.send('POST', `/v1/events/dead/${dead.id}/replay`);
    expect([done.status, done.json.code]).toEqual([422, 'unprocessable']);
    expect((await store.send('POST', '/v1/events/dead/nobody/replay')).json.code).toBe('not_found');
  });

  test('events are listed in pages, newest first', async () => {
    const session = openSession(store);
    for (let at = 0; at < 5; at++) await session.event('Notification', { message: `${at}` });
    const [first] = await events('?limit=2&status=pending');
    expect(first.sessionId).toBe(session.id);
    let seen = 0;
    for (let cursor = ''; ; ) {
      const { items, nextCursor } = (await store.send('GET', `/v1/events?limit=2&status=pending${cursor}`)).json;
      seen += items.length;
      if (nextCursor === null) break;
      cursor = `&cursor=${nextCursor}`;
    }
    expect(seen).toBe(5);
    expect((await store.send('GET', '/v1/events?status=unknown')).status).toBe(400);
    await workAll();
  });

  test('a process that ends between receipt and work loses nothing: another one goes on', async () => {
    const session = openSession(store);
    await session.stream('UserPromptSubmit', line('w1', 'user', 'remember: it survives'), 0, {
      prompt: 'remember: it survives',
    });
    const second = await openStore(engine, { database: store.database, isBare: true });
    const report = await second.manager.work({ only: store.ref, budgetMs: 10_000 });
    expect(report[store.space]).toMatchObject({ events: 1 });
    expect((await session.messages()).map(({ id }) => id)).toEqual(['w1']);
  });

  test('one that ends in the midst of the work leaves it whole: nothing is written twice, nothing lost', async () => {
    const session = openSession(store);
    await session.stream('Stop', line('m1', 'user', 'one'), 0);
    await session.stream('Stop', line('m2', 'user', 'two'), line('m1', 'user', 'one').length);
    // The connection breaks before anybody hears that the first event was committed.
    const { contexts } = store.manager;
    const original = contexts.write;
    let writes = 0;
    contexts.write = async (request, operations, options: WriteOptions) => {
      const answer = await original(request, operations, options);
      if (++writes === 1) throw new Error('the connection broke');
      return answer;
    };
    try {
      await workAll();
    } finally {
      contexts.write = original;
    }
    expect((await session.messages()).map(({ id }) => id)).toEqual(['m1', 'm2']);
    expect((await events('?status=dead')).filter((one: { sessionId: string }) => one.sessionId === session.id)).toEqual(
      [],
    );
  });

  test('workers side by side do each event once, those of a session in order', async () => {
    const others = await Promise.all(
      [1, 2, 3].map(() => openStore(engine, { database: store.database, isBare: true })),
    );
    const sessions = Array.from({ length: 4 }, () => openSession(store));
    for (const session of sessions) {
      let offset = 0;
      for (let at = 0; at < 6; at++) {
        const text = line(`o${at}`, 'user', `turn ${at}`, { timestamp: undefined });
        await session.stream('Stop', text, offset);
        offset += text.length;
      }
    }
    const reports = await Promise.all(
      [store, ...others].map((one) => one.manager.work({ only: store.ref, budgetMs: 20_000 })),
    );
    await workAll();
    const done = reports.map((report) => report[store.space]?.events ?? 0);
    expect(done.reduce((sum, one) => sum + one, 0)).toBe(24);
    for (const session of sessions) {
      expect((await session.messages()).map(({ id }) => id)).toEqual(['o0', 'o1', 'o2', 'o3', 'o4', 'o5']);
    }
  });

  test('a session that another worker holds is left alone until its lease is over', async () => {
    const session = openSession(store);
    await session.event('SessionStart', { source: 'startup' });
    const lease = (until: string) => ({
      text: `update factory_session set worker = 'somebody', lease_until = clock_timestamp() + interval '${until}' where id = $1`,
      params: [session.id],
    });
    await store.database.in(store.ref).run([lease('60 seconds')]);
    const held = await work(store);
    expect(held?.events).toBe(0);
    expect(held?.nextMs).toBeGreaterThan(50_000);
    await store.database.in(store.ref).run([lease('-1 seconds')]);
    expect((await work(store))?.events).toBe(1);
  });

  test('one that its workers do not survive is dead in the end, and the session goes on', async () => {
    const session = openSession(store);
    await session.stream('Stop', line('k1', 'user', 'deadly'), 0);
    await session.stream('Stop', line('k2', 'user', 'harmless'), line('k1', 'user', 'deadly').length);
    const reports = [];
    for (const [at, worker] of ['first', 'second'].entries()) {
      const [row] = await store.database
        .in(store.ref)
        .run([{ text: `select claim_events($1, 0, 16, 1000000, 2)::text as answer`, params: [worker] }]);
      reports.push(JSON.parse(String(row?.[0]?.['answer'])).claim.events.length);
      expect(at).toBeLessThan(2);
    }
    expect(reports).toEqual([2, 2]);
    expect(await work(store)).toEqual({ events: 1, failed: 1, dead: 1, nextMs: null });
    const [dead] = await events('?status=dead');
    expect(dead).toMatchObject({
      sessionId: session.id,
      attempts: 2,
      reason: 'unavailable: Its worker ended in the midst of it.',
    });
    expect((await session.messages()).map(({ id }) => id)).toEqual(['k2']);
    await store.send('POST', `/v1/events/dead/${dead.id}/replay`);
    expect((await session.messages()).map(({ id }) => id).sort()).toEqual(['k1', 'k2']);
  });

  test('one that hangs is given up when its lease is over', async () => {
    const own = await openStore(engine, { settings: { factory: { attempts: 1, leaseMs: 1000 } } });
    const session = openSession(own);
    await session.event('Stop', { transcript: { offset: 0, lines: [line('h1', 'user', 'x').trim()] } });
    const { contexts } = own.manager;
    const original = contexts.readMany;
    contexts.readMany = (request) =>
      new Promise((_resolve, reject) => {
        const signal = request.signal?.();
        signal?.addEventListener('abort', () => reject(signal.reason));
      });
    try {
      expect(await work(own)).toMatchObject({ failed: 1, dead: 1 });
    } finally {
      contexts.readMany = original;
    }
  });

  test('an event of a hundred thousand members is worked like any other', async () => {
    const own = await openStore(engine);
    const session = openSession(own);
    await session.event('Notification', Object.fromEntries(Array.from({ length: 100_000 }, (_, at) => [`m${at}`, at])));
    expect(await work(own)).toMatchObject({ events: 1, failed: 0 });
  });

  test('the last event of a session is tried as often as any other where somebody keeps writing', async () => {
    const session = openSession(store);
    await session.event('SessionStart', { source: 'startup' });
    await work(store);
    await session.stream('Stop', line('b1', 'user', 'mine'), 0);
    const { contexts } = store.manager;
    const original = contexts.readMany;
    let reads = 0;
    contexts.readMany = async (...args) => {
      const found = await original(...args);
      if (++reads <= 3)
        await store.send('PUT', `/v1/contexts/${session.root}`, { body: { metadata: { by: `another ${reads}` } } });
      return found;
    };
    try {
      expect(await workAll()).toEqual({ events: 1, failed: 0, dead: 0 });
    } finally {
      contexts.readMany = original;
    }
    expect(reads).toBe(4);
    expect((await session.messages()).map(({ id }) => id)).toEqual(['b1']);
  });

  test('what somebody says of the contexts of a session stays said', async () => {
    const session = openSession(store);
    const first = line('u1', 'user', 'one');
    await session.stream('UserPromptSubmit', first, 0, { prompt: 'remember: it moves' });
    await session.event('Stop');
    await work(store);
    const put = (id: string, body: object) => store.send('PUT', `/v1/contexts/${id}`, { body });
    const { parentId, metadata } = (await read(store, session.root)).json;
    const { items } = (await store.send('GET', `/v1/contexts?parentId=${parentId}&kind=note&include=content`)).json;
    const note = items.find(({ content }: { content: string }) => content === 'it moves').id;
    await put('elsewhere', { content: {} });
    await put(session.root, { parentId: 'elsewhere', kind: 'log', metadata: { ...metadata, tags: ['mine'] } });
    await put(session.summary, { parentId: 'elsewhere', kind: 'digest', metadata: { tags: ['mine'] } });
    await put(note, { parentId: 'elsewhere', kind: 'rule' });
    await session.stream('UserPromptSubmit', line('u2', 'user', 'two'), first.length, { prompt: 'Remember: it moves' });
    await session.event('SessionEnd', { reason: 'other' });
    await work(store);
    for (const [id, kind] of [
      [session.root, 'log'],
      [session.summary, 'digest'],
      [note, 'rule'],
    ] as const) {
      const { json } = await read(store, id);
      expect([id, json.parentId, json.kind]).toEqual([id, 'elsewhere', kind]);
      if (id !== note) expect(json.metadata.tags).toEqual(['mine']);
    }
    expect((await session.messages()).map(({ id }) => id)).toEqual(['u1', 'u2']);
  });

  test('a session whose place has no room for it is kept elsewhere', async () => {
    const session = openSession(store, { cwd: '/home/dev/deep' });
    await session.event('SessionStart', { source: 'startup' });
    await work(store);
    const { parentId: project } = (await read(store, session.root)).json;
    let above: string | null = null;
    for (let level = 1; level < 32; level++) {
      await store.send('PUT', `/v1/contexts/deep-${level}`, { body: { content: {}, parentId: above } });
      above = `deep-${level}`;
    }
    await store.send('DELETE', `/v1/contexts/${session.root}`);
    expect((await store.send('PUT', `/v1/contexts/${project}`, { body: { parentId: above } })).status).toBe(200);
    const other = openSession(store, { cwd: '/home/dev/deep' });
    await other.stream('Stop', line('n1', 'user', 'it has to go somewhere'), 0);
    expect(await workAll()).toEqual({ events: 1, failed: 0, dead: 0 });
    expect((await read(store, other.root)).json).toMatchObject({ parentId: null, kind: 'session' });
  });

  test('somebody who writes the session at the same time is not overwritten', async () => {
    const session = openSession(store);
    await session.event('SessionStart', { source: 'startup' });
    await work(store);
    await session.stream('Stop', line('r1', 'user', 'mine'), 0);
    const { contexts } = store.manager;
    const original = contexts.readMany;
    let reads = 0;
    contexts.readMany = async (...args) => {
      const found = await original(...args);
      if (++reads === 1)
        await store.send('PUT', `/v1/contexts/${session.root}`, { body: { metadata: { by: 'another' } } });
      return found;
    };
    try {
      expect(await workAll()).toEqual({ events: 1, failed: 0, dead: 0 });
    } finally {
      contexts.readMany = original;
    }
    expect((await session.messages()).map(({ id }) => id)).toEqual(['r1']);
    expect((await read(store, session.root)).json).toMatchObject({ version: 3, metadata: { by: 'another' } });
  });

  test('cleanup takes what was done, and dead, for long enough, and sessions nobody hears of', async () => {
    const own = await openStore(engine, { settings: { factory: { attempts: 1 } } });
    const session = openSession(own);
    await session.stream('Stop', line('c1', 'user', 'x'), 0);
    await work(own);
    const age = (column: string, table: string, days: number) => ({
      text: `update ${table} set ${column} = ${column} - interval '${days} days' where ${column} is not null`,
      params: [],
    });
    const clean = async () => (await own.manager.cleanup({ only: own.ref, budgetMs: 10_000 }))[own.space];
    expect(await clean()).toMatchObject({ events: 0, sessions: 0 });
    await own.database.in(own.ref).run([age('finished_at', 'inbox', 4)]);
    expect(await clean()).toMatchObject({ events: 1, sessions: 0 });
    await own.database.in(own.ref).run([age('updated_at', 'factory_session', 401)]);
    expect(await clean()).toMatchObject({ events: 0, sessions: 1 });
    expect((await own.send('DELETE', `/v1/spaces/${own.space}?erase=true`, { token: own.ownerToken })).status).toBe(
      200,
    );
  });

  test('a process that stays works what it receives at once, and what failed when it is due', async () => {
    const metrics = createMetrics();
    const own = await openStore(engine, { metrics, settings: { factory: { attempts: 3, retryMs: 20 } } });
    const stop = own.manager.factory.follow();
    try {
      const session = openSession(own);
      const name = `blocked ${session.id}`;
      await own.send('PUT', `/v1/contexts/${entityId(name)}`, { body: { content: 1 } });
      await session.event('PostToolUse', {
        tool_name: 'mcp__memory__create_entities',
        tool_input: { entities: [{ name, entityType: 't', observations: [] }] },
      });
      await session.event('Stop');
      const until = performance.now() + 10_000;
      const states = async () =>
        (await own.send('GET', '/v1/events')).json.items.map(({ status }: { status: string }) => status);
      while ((await states()).includes('pending') && performance.now() < until)
        await new Promise((r) => setTimeout(r, 20));
      expect(await states()).toEqual(['done', 'dead']);
    } finally {
      await stop();
    }
    const { text } = await own.manager.printMetrics();
    expect(text).toMatch(/lamina_hook_event_seconds_count\{stage="receipt",event="Stop",outcome="done"\} 1/);
    expect(text).toMatch(/lamina_hook_event_seconds_count\{stage="work",event="PostToolUse",outcome="dead"\} 1/);
  });
});
