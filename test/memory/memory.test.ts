import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { defaultSettings } from '../../lib/config/settings.ts';
import type { Actor } from '../../lib/contexts/context.ts';
import { entityId, relationId } from '../../lib/contexts/node-ids.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
import type { Database, Statement, Visitor } from '../../lib/postgres/database.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';

describe.each(engines)('the knowledge graph on $name', (engine) => {
  let store: TestStore;
  let request: RequestContext;
  beforeAll(async () => {
    store = await openStore(engine);
    const actor: Actor = { kind: 'mcp', id: 'test' };
    request = { ...store.ref, actor, seq: 0, noCache: false };
  });
  const memory = () => store.manager.memory;
  const named = (name: string, observations: string[] = []) => ({ name, entityType: 'thing', observations });
  const open = async (name: string) => (await memory().openNodes(request, [name])).entities[0];

  test('entities and relations are contexts: versions, restore, expiry and merge work on them', async () => {
    const name = `Ada ${newId()}`;
    const id = entityId(name);
    await memory().createEntities(request, [named(name, ['one'])]);
    await memory().addObservations(request, [{ entityName: name, contents: ['two'] }]);
    const head = (await store.send('GET', `/v1/contexts/${id}`)).json;
    expect(head).toMatchObject({ kind: 'memory.entity', version: 2, actor: { kind: 'mcp', id: 'test' } });
    expect(head.content).toEqual(named(name, ['one', 'two']));
    await store.send('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } });
    expect(await open(name)).toEqual(named(name, ['one']));
    await store.send('PUT', `/v1/contexts/${id}`, { body: { metadata: { tags: ['people'] } } });
    await memory().addObservations(request, [{ entityName: name, contents: ['three'] }]);
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.metadata).toEqual({ tags: ['people'] });
    await store.send('PUT', `/v1/contexts/${id}`, { body: { ttlSeconds: 0.001 } });
    expect(await open(name)).toBeUndefined();
    expect(await memory().createEntities(request, [named(name)])).toEqual([named(name)]);
    expect(await open(name)).toEqual(named(name));
  });

  test('what another door writes counts where its id is the one derived from it, and keeps what else it holds', async () => {
    const name = `Grace ${newId()}`;
    const content = { ...named(name, ['a']), rank: 'admiral' };
    const body = { kind: 'memory.entity', content };
    await store.send('PUT', `/v1/contexts/${entityId(name)}`, { body });
    await store.send('PUT', `/v1/contexts/${entityId(`not ${name}`)}`, { body });
    await store.send('PUT', `/v1/contexts/${newId()}`, { body });
    expect((await memory().searchNodes(request, name.toUpperCase())).entities).toEqual([named(name, ['a'])]);
    await memory().addObservations(request, [{ entityName: name, contents: ['b'] }]);
    const after = (await store.send('GET', `/v1/contexts/${entityId(name)}`)).json.content;
    expect(after).toEqual({ ...content, observations: ['a', 'b'] });
    await store.send('PUT', `/v1/contexts/${entityId(name)}`, { body: { kind: 'note' } });
    expect(await open(name)).toBeUndefined();
  });

  test('an operation is one request to write, whatever its size, and at most one to read', async () => {
    const names = Array.from({ length: 1500 }, (_, at) => `n${at} ${newId()}`);
    const relations = names.slice(1).map((from) => ({ from, to: names[0] as string, relationType: 'knows' }));
    const counted = async (work: () => Promise<unknown>) => (await store.counting(work)).requests;
    expect(
      await counted(() =>
        memory().createEntities(
          request,
          names.map((name) => named(name)),
        ),
      ),
    ).toBe(1);
    expect(await counted(() => memory().createRelations(request, relations))).toBe(1);
    const additions = names.map((entityName) => ({ entityName, contents: ['seen'] }));
    expect(await open(names[1] as string)).toEqual(named(names[1] as string));
    expect(await counted(() => memory().addObservations(request, additions))).toBe(2);
    // More was touched than layer 2 remembers, so it was told to forget all.
    expect(names.length * 3).toBeGreaterThan(defaultSettings.cache.touchedItems);
    expect(await open(names[1] as string)).toEqual(named(names[1] as string, ['seen']));
    expect(await counted(() => memory().readGraph(request))).toBe(1);
    expect(await counted(() => memory().readGraph(request))).toBe(0);
    expect(await counted(() => memory().searchNodes(request, 'SEEN'))).toBe(0);
    const first = names[0] as string;
    expect(await counted(() => memory().openNodes(request, [first]))).toBe(1);
    expect(await counted(() => memory().openNodes(request, [first]))).toBe(0);
    expect((await memory().openNodes(request, [first])).relations).toHaveLength(1499);
    expect(await counted(() => memory().deleteRelations(request, relations.slice(0, 700)))).toBe(1);
    expect(
      await counted(() => memory().deleteObservations(request, [{ entityName: first, observations: ['seen'] }])),
    ).toBe(2);
    expect(await counted(() => memory().deleteEntities(request, names))).toBe(2);
    const left = await memory().readGraph(request);
    expect(left.entities.filter(({ name }) => names.includes(name))).toEqual([]);
    expect(left.relations.filter(({ to }) => to === first)).toEqual([]);
  }, 60_000);

  test('of concurrent writes every acknowledged one is kept', async () => {
    const shared = `shared ${newId()}`;
    const names = Array.from({ length: 50 }, (_, at) => `c${at} ${newId()}`);
    await memory().createEntities(request, [named(shared)]);
    await Promise.all([
      ...names.map((name) => memory().createEntities(request, [named(name), named(shared, ['lost?'])])),
      ...names.map((name) => memory().addObservations(request, [{ entityName: shared, contents: [name] }])),
      ...names.map((name) => memory().createRelations(request, [{ from: name, to: shared, relationType: 'is in' }])),
    ]);
    const { entities, relations } = await memory().openNodes(request, [shared, ...names]);
    expect(entities.map(({ name }) => name).sort()).toEqual([shared, ...names].sort());
    expect([...(entities.find(({ name }) => name === shared)?.observations ?? [])].sort()).toEqual([...names].sort());
    expect(relations).toHaveLength(50);
  });

  test('adding to several is all or nothing', async () => {
    const name = `all ${newId()}`;
    await memory().createEntities(request, [named(name)]);
    const additions = [name, 'nobody at all'].map((entityName) => ({ entityName, contents: ['x'] }));
    const failing = memory().addObservations(request, additions);
    await expect(failing).rejects.toMatchObject({ message: 'Entity with name nobody at all not found' });
    expect(await open(name)).toEqual(named(name));
  });

  test('a cached answer ends with the change that makes it wrong, and with no other', async () => {
    const [a, b] = [`a ${newId()}`, `b ${newId()}`];
    await memory().createEntities(request, [named(a), named(b)]);
    await memory().openNodes(request, [a]);
    const requests = async () => (await store.counting(() => memory().openNodes(request, [a]))).requests;
    expect(await requests()).toBe(0);
    await memory().addObservations(request, [{ entityName: b, contents: ['x'] }]);
    expect(await requests()).toBe(0);
    await memory().createRelations(request, [{ from: b, to: a, relationType: 'likes' }]);
    expect(await requests()).toBe(1);
    await store.send('DELETE', `/v1/contexts/${relationId({ from: b, to: a, relationType: 'likes' })}`);
    expect((await memory().openNodes(request, [a])).relations).toEqual([]);
    await store.send('POST', '/v1/cache/invalidate', { body: { ids: [entityId(a)] } });
    expect(await requests()).toBe(1);
  });

  test('an erased entity leaves nothing of itself', async () => {
    const name = `secret ${newId()}`;
    await memory().createEntities(request, [named(name, ['canary'])]);
    await memory().readGraph(request);
    await store.send('DELETE', `/v1/contexts/${entityId(name)}?erase=true`);
    expect((await memory().searchNodes(request, 'canary')).entities).toEqual([]);
    const [rows] = await store.database
      .in(store.ref)
      .run([{ text: 'select count(*) as left from memory_node where id = $1', params: [entityId(name)] }]);
    expect(rows?.[0]?.['left']).toBe('0');
  });

  test('a graph above the bound is refused with its size, and can still be opened by name', async () => {
    const small = await openStore(engine, { settings: { limits: { graphBytes: 1024 } } });
    const of = { ...request, ...small.ref };
    const names = Array.from({ length: 30 }, (_, at) => `big ${at}`);
    await small.manager.memory.createEntities(
      of,
      names.map((name) => named(name)),
    );
    const failing = small.manager.memory.readGraph(of);
    await expect(failing).rejects.toMatchObject({
      code: 'context_too_large',
      message: expect.stringContaining('npm run export'),
      facts: { limitBytes: 1024 },
    });
    const headers = { authorization: `Bearer ${small.token}` };
    const file = await small.fetch(new Request('http://lamina.test/v1/memory/graph', { headers }));
    expect((await file.text()).split('\n').map((line) => JSON.parse(line).name)).toEqual(names);
    expect((await small.manager.memory.openNodes(of, ['big 7'])).entities).toEqual([named('big 7')]);
    await small.manager.memory.deleteEntities(of, names);
    expect(await small.manager.memory.readGraph(of)).toEqual({ entities: [], relations: [] });
  });

  test('all nodes are listed in order of creation, page by page, entities first', async () => {
    const own = await openStore(engine);
    const of = { ...request, ...own.ref };
    const names = Array.from({ length: 1200 }, (_, at) => `n${at}`);
    const large = ['large 1', 'large 2', 'large 3'].map((name) => named(name, ['x'.repeat(3_000_000)]));
    await own.manager.memory.createRelations(of, [{ from: 'n1', to: 'n2', relationType: 'knows' }]);
    await own.manager.memory.createEntities(of, [...names.map((name) => named(name)), ...large]);
    const found: string[] = [];
    for await (const node of own.manager.memory.listNodes(of)) found.push('name' in node ? node.name : node.from);
    expect(found).toEqual([...names, 'large 1', 'large 2', 'large 3', 'n1']);
  });

  test('opening by name looks at no more rows than it answers with, however many there are', async () => {
    const opened = await engine.open();
    let first: { visitor: Visitor; statements: readonly Statement[] } | undefined;
    const database: Database = {
      ...opened,
      in: (visitor) => ({
        run(statements, options) {
          first ??= { visitor, statements };
          return opened.in(visitor).run(statements, options);
        },
      }),
    };
    const own = await openStore(engine, { database });
    const of = { ...request, ...own.ref };
    const names = Array.from({ length: 600 }, (_, at) => `n${at}`);
    await own.manager.memory.createEntities(
      of,
      names.map((name) => named(name)),
    );
    await own.manager.memory.openNodes(of, ['n1']);
    const opening = async () => own.manager.memory.openNodes(of, ['n7', 'n8']);
    const adding = async () => own.manager.memory.addObservations(of, [{ entityName: 'n9', contents: [] }]);
    for (const run of [opening, adding]) {
      first = undefined;
      await run();
      const { visitor, statements } = first as unknown as { visitor: Visitor; statements: readonly Statement[] };
      const explained = statements.map(({ text, ...one }) => ({
        ...one,
        text: `explain (analyze, format json) ${text}`,
      }));
      const plan = JSON.stringify(await opened.in(visitor).run(explained));
      const rows = [...plan.matchAll(/Actual Rows\\*": ([\d.]+)/g)].map(([, count]) => Number(count));
      expect(rows.length).toBeGreaterThan(3);
      expect(Math.max(...rows)).toBeLessThan(10);
    }
  });

  test('what another door has put in the place of an entity is refused by name, and can be deleted', async () => {
    const [note, damaged, good] = [`note ${newId()}`, `damaged ${newId()}`, `good ${newId()}`];
    await store.send('PUT', `/v1/contexts/${entityId(note)}`, { body: { kind: 'note', content: 1 } });
    await store.send('PUT', `/v1/contexts/${entityId(damaged)}`, { body: { kind: 'memory.entity', content: 1 } });
    await memory().createEntities(request, [named(good)]);
    for (const name of [note, damaged]) {
      const creating = memory().createEntities(request, [named(good, ['more']), named(name)]);
      await expect(creating).rejects.toMatchObject({ code: 'already_exists', facts: { id: entityId(name) } });
    }
    const relation = { from: damaged, to: note, relationType: 'knows' };
    await store.send('PUT', `/v1/contexts/${relationId(relation)}`, { body: { kind: 'memory.relation', content: 1 } });
    await memory().deleteEntities(request, [note, damaged]);
    expect((await store.send('GET', `/v1/contexts/${relationId(relation)}`)).status).toBe(410);
    const entities = [named(note), named(damaged)];
    expect(await memory().createEntities(request, entities)).toEqual(entities);
    expect(await memory().createRelations(request, [relation])).toEqual([relation]);
  });

  test('names of any text', async () => {
    const texts = ['', '\n', '/', '🦊', 'x'.repeat(10_000), '\u0000', '"\\', ' a ', '../../etc', '%00', '*[x]?'];
    await memory().createEntities(
      request,
      texts.map((name) => named(name, [name])),
    );
    const { entities } = await memory().openNodes(request, texts);
    expect(entities.map(({ name }) => name)).toEqual(texts);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (text) => {
        await memory().createEntities(request, [named(`t:${text}`)]);
        expect(await open(`t:${text}`)).toEqual(named(`t:${text}`));
      }),
      { numRuns: 30 },
    );
  });
});
