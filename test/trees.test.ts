import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('trees on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const put = (id: string, body: unknown) => store.send('PUT', `/v1/contexts/${id}`, { body });
  const get = (id: string, path = '') => store.send('GET', `/v1/contexts/${id}${path}`);
  const remove = (id: string, query = '') => store.send('DELETE', `/v1/contexts/${id}${query}`);
  const chain = async (length: number) => {
    const ids: string[] = [];
    for (let depth = 0; depth < length; depth++) {
      const id = newId('t');
      await put(id, { content: depth, parentId: ids.at(-1) ?? null });
      ids.push(id);
    }
    return ids;
  };

  test('a tree is 32 deep and no deeper, whichever end is moved', async () => {
    const ids = await chain(32);
    expect((await put(newId(), { content: 1, parentId: ids[31] })).json).toMatchObject({ code: 'unprocessable' });
    const pair = await chain(2);
    expect((await put(pair[0]!, { parentId: ids[30] })).json).toMatchObject({ code: 'unprocessable' });
    expect((await put(pair[0]!, { parentId: ids[29] })).status).toBe(200);
    expect((await get(pair[1]!, '/ancestors')).json.items).toHaveLength(31);
  });

  test('ancestors come root first, children by id, the tree nested', async () => {
    const [root, middle, leaf] = await chain(3);
    const second = newId('t');
    await put(second, { content: 1, parentId: root });
    expect((await get(leaf!, '/ancestors')).json.items.map((one: { id: string }) => one.id)).toEqual([root, middle]);
    expect((await get(root!, '/children')).json.items.map((one: { id: string }) => one.id)).toEqual(
      [middle, second].sort(),
    );
    const tree = (await get(root!, '/tree')).json;
    expect(tree.truncated).toBe(false);
    expect(tree.children.find((one: { id: string }) => one.id === middle).children[0].id).toBe(leaf);
    expect(
      (await get(root!, '/tree?depth=1')).json.children.every(
        (one: { children: unknown[] }) => one.children.length === 0,
      ),
    ).toBe(true);
    for (const path of ['/children', '/ancestors', '/tree'])
      expect((await get(newId(), path)).json.code).toBe('context_not_found');
  });

  test('a parent must exist and be alive; nothing becomes its own ancestor', async () => {
    const [root, middle, leaf] = await chain(3);
    expect((await put(newId(), { content: 1, parentId: 'nowhere' })).json.code).toBe('parent_not_found');
    expect((await put(root!, { parentId: root })).json.code).toBe('parent_cycle');
    expect((await put(root!, { parentId: leaf })).json.code).toBe('parent_cycle');
    expect((await put(leaf!, { parentId: root })).status).toBe(200);
    await remove(middle!);
    expect((await put(leaf!, { parentId: middle })).json.code).toBe('parent_not_found');
  });

  test('a delete minds the children: fails by default, takes them along, or sets them free', async () => {
    const first = await chain(3);
    expect((await remove(first[0]!)).json).toMatchObject({ code: 'has_children', children: [first[1]] });
    expect((await remove(first[0]!, '?children=delete')).status).toBe(200);
    for (const id of first) expect((await get(id)).status).toBe(410);
    const second = await chain(3);
    const before = Number((await get(second[0]!)).headers.get('context-seq'));
    const freed = await remove(second[0]!, '?children=orphan');
    expect(Number(freed.headers.get('context-seq'))).toBe(before + 2);
    expect((await get(second[1]!)).json).toMatchObject({ parentId: null, version: 2 });
    expect((await get(second[2]!)).json).toMatchObject({ parentId: second[1], version: 1 });
  });

  test('one step takes at most 1,000 contexts along, and nothing when there are more', async () => {
    const small = await openStore(engine, { settings: { limits: { cascadeContexts: 3 } }, database: store.database });
    const root = newId('t');
    const operations = [{ op: 'put', id: root, content: 0 }];
    for (let count = 0; count < 4; count++)
      operations.push({ op: 'put', id: newId('t'), content: 0, parentId: root } as never);
    await small.send('POST', '/v1/batch/write', { body: { operations, atomic: true } });
    for (const children of ['delete', 'orphan']) {
      expect((await small.send('DELETE', `/v1/contexts/${root}?children=${children}`)).json.code).toBe('unprocessable');
    }
    expect((await small.send('GET', `/v1/contexts/${root}/children`)).json.items).toHaveLength(4);
  });

  test('what has expired is in no tree, counts for no depth, and cannot come back above its own child', async () => {
    const [parent, child, other] = [newId(), newId(), newId()];
    await put(parent, { content: 1, ttlSeconds: 0.3 });
    await put(child, { content: 1, parentId: parent });
    await put(other, { content: 1 });
    await sleep(350);
    expect((await store.send('GET', `/v1/contexts/${child}/ancestors`)).json.items).toEqual([]);
    expect((await put(parent, { content: 2, parentId: child })).json.code).toBe('parent_cycle');
    await store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect((await put(parent, { content: 2, parentId: child })).json.code).toBe('parent_cycle');
    expect((await put(parent, { content: 2, parentId: other })).status).toBe(201);
    // A chain of 32 whose last has expired may move below one more.
    const ids = Array.from({ length: 32 }, () => newId());
    for (const [at, id] of ids.entries()) {
      await put(id, {
        content: at,
        ...(at > 0 ? { parentId: ids[at - 1] } : {}),
        ...(at === 31 ? { ttlSeconds: 0.3 } : {}),
      });
    }
    await sleep(350);
    expect((await put(ids[0]!, { parentId: other })).status).toBe(200);
    // An erase minds the living children only.
    const [top, dead] = [newId(), newId()];
    await put(top, { content: 1 });
    await put(dead, { content: 1, parentId: top, ttlSeconds: 0.2 });
    await sleep(250);
    expect((await store.send('DELETE', `/v1/contexts/${top}?erase=true`)).json.erased.versions).toBe(1);
  });
});
