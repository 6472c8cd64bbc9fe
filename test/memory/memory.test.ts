import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Actor } from '../../lib/contexts/context.ts';
import { entityId, relationId } from '../../lib/contexts/node-ids.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
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

  test('no operation makes more than two requests, whatever its size', async () => {
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
    expect(await counted(() => memory().addObservations(request, additions))).toBe(2);
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
    await expect(failing).rejects.toMatchObject({ code: 'context_too_large', facts: { limitBytes: 1024 } });
    expect((await small.manager.memory.openNodes(of, ['big 7'])).entities).toEqual([named('big 7')]);
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
