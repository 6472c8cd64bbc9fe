import { beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../../lib/base/hash.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { line, openSession, read, type TestSession, work } from './session.ts';

const digest = (text: string) => sha256(text).slice(0, 40);
const entityId = (name: string) => `entity:${digest(name)}`;

describe.each(engines)('what was deleted or erased, on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { factory: { attempts: 1 } } });
  });
  const erase = (id: string, children = 'delete') =>
    store.send('DELETE', `/v1/contexts/${id}?erase=true&children=${children}`);
  const remove = (id: string) => store.send('DELETE', `/v1/contexts/${id}?children=delete`);
  const textOf = async (id: string) => (await store.send('GET', `/v1/contexts/${id}/content`)).text;
  const messages = async (session: TestSession) => (await session.messages()).map(({ id }) => id);
  /** What the tables of this door hold. */
  const held = async () => {
    const tables = ['inbox', 'factory_session'].map((table) => ({
      text: `select coalesce(string_agg(t::text, ' '), '') as all from ${table} t`,
      params: [],
    }));
    return (await store.database.in(store.ref).run(tables)).map(([row]) => row?.['all']).join(' ');
  };
  const noteWith = async (word: string) =>
    (await store.send('GET', '/v1/contexts?kind=note&include=content&limit=200')).json.items.find(
      ({ content }: { content: string }) => String(content).includes(word),
    )?.id;
  /** A call that cannot be worked as long as something else stands in the place of its entity. */
  async function poison(session: TestSession, observation: string) {
    const name = `poison ${session.id}`;
    await store.send('PUT', `/v1/contexts/${entityId(name)}`, {
      body: { content: 'in the way', contentType: 'text/plain' },
    });
    const tool_input = { entities: [{ name, entityType: 't', observations: [observation] }] };
    const first = line('p1', 'user', 'the pangolin speaks');
    await session.stream('PostToolUse', first, 0, { tool_name: 'mcp__memory__create_entities', tool_input });
    await work(store);
    const [dead] = (await store.send('GET', '/v1/events?status=dead')).json.items;
    expect(dead.sessionId).toBe(session.id);
    await store.send('DELETE', `/v1/contexts/${entityId(name)}`);
    return { dead, name, offset: first.length };
  }

  test('what was deleted does not come back with what follows', async () => {
    const session = openSession(store);
    const first = line('d1', 'user', 'we decided to keep the old heron');
    await session.stream('Stop', first, 0, { prompt: 'x' });
    await work(store);
    const root = (await read(store, session.root)).json;
    await store.send('DELETE', `/v1/contexts/${session.root}?children=delete`);
    await session.stream('Stop', line('d2', 'user', 'something new'), first.length);
    await work(store);
    expect((await session.messages()).map(({ id }) => id)).toEqual(['d2']);
    const { text } = await store.send('GET', `/v1/contexts/${session.summary}/content`);
    expect(text).toContain('something new');
    expect(text).not.toContain('heron');
    // The project, too, comes back with the next event.
    await store.send('DELETE', `/v1/contexts/${root.parentId}?children=delete`);
    await session.stream(
      'Stop',
      line('d3', 'user', 'newer'),
      first.length + line('d2', 'user', 'something new').length,
    );
    await work(store);
    expect((await session.messages()).map(({ id }) => id)).toEqual(['d3']);
  });

  test('a dead event that is replayed brings nothing back into a session that was deleted since', async () => {
    const session = openSession(store);
    const { dead, offset } = await poison(session, 'x');
    await session.stream('Stop', line('p2', 'user', 'more'), offset);
    await work(store);
    await remove(session.root);
    await store.send('POST', `/v1/events/dead/${dead.id}/replay`);
    expect(await work(store)).toMatchObject({ events: 1, failed: 0 });
    expect((await read(store, session.root)).status).toBe(410);
    await session.stream('Stop', line('p3', 'user', 'from now on'), offset + line('p2', 'user', 'more').length);
    expect(await messages(session)).toEqual(['p3']);
    expect(await textOf(session.summary)).not.toContain('pangolin');
  });

  test('nor does what was received before it was deleted, and worked after', async () => {
    const session = openSession(store);
    const first = line('l1', 'user', 'first');
    await session.stream('UserPromptSubmit', first, 0, { prompt: 'remember: the lemur is late' });
    await work(store);
    await session.stream('UserPromptSubmit', line('l2', 'user', 'second'), first.length, {
      prompt: 'remember: the lemur is late',
    });
    await session.event('Stop');
    await remove(session.root);
    const note = await noteWith('lemur');
    await remove(note);
    expect(await work(store)).toMatchObject({ events: 2, failed: 0 });
    for (const id of [session.root, note]) expect([id, (await read(store, id)).status]).toEqual([id, 410]);
    await session.event('UserPromptSubmit', { prompt: 'remember: the lemur is late' });
    await work(store);
    expect((await read(store, note)).status).toBe(200);
  });

  test('an erased session leaves no copy in the inbox, waiting or done', async () => {
    const session = openSession(store);
    await session.event('UserPromptSubmit', { prompt: 'the quokka is in the vault' });
    const { name } = await poison(session, 'token=sesame-open-sesame');
    await session.stream('Stop', line('e1', 'user', 'quokka again'), line('p1', 'user', 'the pangolin speaks').length);
    expect(await held()).toContain('quokka');
    expect(await held()).not.toContain('sesame');
    expect((await erase(session.root)).status).toBe(200);
    expect(await held()).not.toContain('quokka');
    expect(await held()).not.toContain(name);
    expect(await work(store)).toMatchObject({ events: 0, nextMs: null });
    expect((await read(store, session.root)).status).toBe(404);
    // What was sent before is known again, and stays away.
    await session.stream('Stop', line('e1', 'user', 'quokka again'), 0, { again: 1 });
    await work(store);
    expect(JSON.stringify(await session.messages())).not.toContain('quokka');
  });

  test('a session that was erased stays away when its transcript comes again, long after', async () => {
    const session = openSession(store);
    const said = line('z1', 'user', 'the erased dugong', { timestamp: '2020-01-01T00:00:00.000Z' });
    const untimed = line('z2', 'user', 'the untimed dugong', { timestamp: undefined });
    await session.stream('Stop', said + untimed, 0);
    await work(store);
    await erase(session.root);
    const old = `update factory_session set updated_at = updated_at - interval '500 days' where id = $1`;
    await store.database.in(store.ref).run([{ text: old, params: [session.id] }]);
    await store.manager.cleanup({ only: store.ref, budgetMs: 10_000 });
    const later = line('z3', 'user', 'said after that', { timestamp: '2099-01-01T00:00:00.000Z' });
    await session.stream('Stop', said + untimed + later, 0, { again: 1 });
    expect(await messages(session)).toEqual(['z3']);
    expect(await held()).not.toContain('dugong');
  });

  test('what is done leaves no copy of what it said', async () => {
    const session = openSession(store);
    await session.event('UserPromptSubmit', { prompt: 'remember: the okapi hides' });
    await session.event('PostToolUse', {
      tool_name: 'mcp__memory__create_relations',
      tool_input: { relations: [{ from: 'okapi', to: 'forest', relationType: 'lives in' }] },
    });
    await session.event('SessionEnd', { reason: 'other' });
    await work(store);
    expect(await held()).not.toContain('okapi');
    const { items } = (await store.send('GET', '/v1/events?limit=3')).json;
    expect(items.flatMap(({ contexts }: { contexts: string[] }) => contexts)).toContain(
      `relation:${digest('okapi')}:${digest('forest')}:${digest('lives in')}`,
    );
  });

  test('an erased note or relation takes what waits for it, and nothing of what was said beside it', async () => {
    const session = openSession(store);
    const relation = { from: 'narwhal', to: 'ice', relationType: 'below' };
    const tell = async (at: number) => {
      const first = line(`n${at}`, 'user', `beside ${at}`);
      await session.stream('UserPromptSubmit', first, at * first.length, { prompt: 'remember: the narwhal sings' });
      const tool_input = { relations: [relation] };
      await session.event('PostToolUse', { tool_name: 'mcp__memory__create_relations', tool_input });
    };
    await tell(0);
    await work(store);
    await tell(1);
    const ids = [await noteWith('narwhal'), `relation:${digest('narwhal')}:${digest('ice')}:${digest('below')}`];
    for (const id of ids) expect((await erase(id)).status).toBe(200);
    expect(await held()).not.toContain('narwhal');
    expect(await work(store)).toMatchObject({ events: 2, failed: 0 });
    for (const id of ids) expect((await read(store, id)).status).toBe(404);
    expect(await messages(session)).toEqual(['n0', 'n1']);
    // Nor does a summary tell of it again.
    await session.event('Stop');
    await work(store);
    expect((await read(store, session.summary)).text).not.toContain('narwhal');
  });

  test('all entities of a call are known, however many they are', async () => {
    const session = openSession(store);
    const entities = Array.from({ length: 600 }, (_, at) => ({
      name: `numbat ${at}`,
      entityType: 't',
      observations: [],
    }));
    await session.event('PostToolUse', { tool_name: 'mcp__memory__create_entities', tool_input: { entities } });
    await store.manager.memory.createEntities(
      { ...store.ref, actor: { kind: 'api', id: 't' }, seq: 0, noCache: true },
      [{ name: 'numbat 599', entityType: 't', observations: [] }],
    );
    expect((await erase(entityId('numbat 599'))).status).toBe(200);
    expect(await held()).not.toContain('numbat');
  });

  test('an erased summary, part or project loses nothing that waits for the rest', async () => {
    const session = openSession(store, { cwd: '/home/dev/erased' });
    const first = line('s1', 'user', 'the axolotl is first');
    await session.stream('Stop', first, 0);
    await work(store);
    await session.stream('Stop', line('s2', 'user', 'acknowledged'), first.length);
    await erase(session.summary);
    const project = (await read(store, session.root)).json.parentId;
    await erase(project, 'orphan');
    expect(await work(store)).toMatchObject({ events: 1, failed: 0 });
    expect(await messages(session)).toEqual(['s1', 's2']);
    const summary = await textOf(session.summary);
    expect(summary).toContain('acknowledged');
    expect(summary).not.toContain('axolotl');
  });

  test('a worker that has read what is erased meanwhile does not write it', async () => {
    const session = openSession(store);
    const first = line('w1', 'user', 'the wombat is first');
    await session.stream('Stop', first, 0);
    await work(store);
    await session.stream('Stop', line('w2', 'user', 'second'), first.length);
    const { contexts } = store.manager;
    const original = contexts.readMany;
    let reads = 0;
    contexts.readMany = async (...args) => {
      const found = await original(...args);
      if (++reads === 1) await erase(session.summary);
      return found;
    };
    try {
      await work(store);
    } finally {
      contexts.readMany = original;
    }
    await work(store);
    expect(await messages(session)).toEqual(['w1', 'w2']);
    expect(await textOf(session.summary)).not.toContain('wombat');
    expect(await held()).not.toContain('wombat');
  });

  test('what is due is noted with each session, whatever has become of its events', async () => {
    const [failing, waiting, erased] = [openSession(store), openSession(store), openSession(store)];
    const { dead } = await poison(failing, 'x');
    await waiting.event('Stop');
    await erased.event('Stop');
    await store.send('POST', `/v1/events/dead/${dead.id}/replay`);
    await store.send('PUT', `/v1/contexts/${erased.root}`, { body: { content: 1 } });
    await erase(erased.root);
    const wrong = async () => {
      const text = `select id from factory_session s where next_at is distinct from (select i.next_at from inbox i
        where i.session_id = s.id and i.state = 'pending' order by i.position limit 1)`;
      return (await store.database.in(store.ref).run([{ text, params: [] }]))[0];
    };
    expect(await wrong()).toEqual([]);
    expect(await work(store)).toMatchObject({ events: 2, nextMs: null });
    expect(await wrong()).toEqual([]);
  });
});
