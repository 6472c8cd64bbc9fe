import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('lists on $name', (engine) => {
  let store: TestStore;
  const ids: string[] = [];
  beforeAll(async () => {
    store = await openStore(engine);
    const operations = Array.from({ length: 25 }, (_, at) => {
      ids.push(newId('l'));
      const parentId = at > 0 ? ids[Math.floor((at - 1) / 2)] : undefined;
      const metadata = {
        team: at % 2 ? 'odd' : 'even',
        deep: { n: at, flag: at % 3 === 0 },
        tags: [`t${at % 5}`, 'all'],
      };
      return { op: 'put', id: ids[at], content: { at }, kind: at % 4 === 0 ? 'four' : 'note', metadata, parentId };
    });
    await store.send('POST', '/v1/batch/write', { body: { operations, atomic: true } });
  });
  const list = async (query: string) => (await store.send('GET', `/v1/contexts?${query}`)).json;
  const pages = async (query: string, from = '') => {
    const found: string[] = [];
    for (let cursor: string | null = from; cursor !== null; ) {
      const page: { items: { id: string }[]; nextCursor: string | null } = await list(
        `${query}${cursor ? `&cursor=${cursor}` : ''}`,
      );
      found.push(...page.items.map((one) => one.id));
      cursor = page.nextCursor;
    }
    return found;
  };
  const at = (predicate: (place: number) => boolean) => ids.filter((_, place) => predicate(place)).sort();

  test('pages by id hold everything once, whatever their size', async () => {
    for (const limit of [1, 7, 25, 200]) expect(await pages(`limit=${limit}`)).toEqual([...ids].sort());
  });

  test('pages stay right while contexts are added', async () => {
    const first = await list('limit=10');
    const added = ['a-before', 'zz-after'];
    for (const id of added) await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
    const rest = await pages('limit=10', first.nextCursor);
    expect([...first.items.map((one: { id: string }) => one.id), ...rest]).toEqual([...[...ids].sort(), 'zz-after']);
    for (const id of added) await store.send('DELETE', `/v1/contexts/${id}`);
  });

  test('newest first, with contexts of one instant neither lost nor doubled', async () => {
    const found = await pages('order=updated&limit=4');
    expect([...found].sort()).toEqual([...ids].sort());
    expect(new Set(found).size).toBe(25);
  });

  test('by kind, parent, subtree and time', async () => {
    expect(await pages('kind=four&limit=2')).toEqual(at((place) => place % 4 === 0));
    expect(await pages(`parentId=${ids[0]}`)).toEqual([ids[1], ids[2]].sort());
    expect(await pages(`subtreeOf=${ids[1]}&limit=3`)).toEqual(at((place) => inSubtree(place, 1)));
    expect(await pages(`subtreeOf=nowhere`)).toEqual([]);
    expect(await pages(`updatedSince=2100-01-01T00:00:00Z`)).toEqual([]);
    expect(await pages(`updatedSince=2001-01-01T00:00:00Z&limit=200`)).toHaveLength(25);
  });

  test('by metadata: text at a path, numbers and flags as text, membership of an array', async () => {
    expect(await pages('metadata.team=odd')).toEqual(at((place) => place % 2 === 1));
    expect(await pages('metadata.deep.n=7')).toEqual([ids[7]]);
    expect(await pages('metadata.deep.n=7.0')).toEqual([]);
    expect(await pages('metadata.deep.flag=true')).toEqual(at((place) => place % 3 === 0));
    expect(await pages('metadata.tags=t2')).toEqual(at((place) => place % 5 === 2));
    expect(await pages('metadata.tags=all&metadata.team=even&kind=note')).toEqual(
      at((place) => place % 2 === 0 && place % 4 !== 0),
    );
    expect(await pages(`metadata.team=${encodeURIComponent("o'dd\\")}`)).toEqual([]);
  });

  test('by metadata of any length, and with characters that paths and terms are made of', async () => {
    const id = newId();
    const number = '0.1234567890123456789012345678901234567890';
    const long = 'ü'.repeat(400);
    await store.send('PUT', `/v1/contexts/${id}`, {
      raw: `{"content":1,"metadata":{"n":${number},"long":"${long}","a":{"b=c":"d"},"list":[true,"${long}",3]}}`,
    });
    const found = async (path: string, value: string) => {
      const query = `metadata.${encodeURIComponent(path)}=${encodeURIComponent(value)}`;
      return (await store.send('GET', `/v1/contexts?${query}`)).json.items.map((one: { id: string }) => one.id);
    };
    for (const [path, value] of [
      ['n', number],
      ['long', long],
      ['a.b=c', 'd'],
      ['list', 'true'],
      ['list', long],
      ['list', '3'],
    ] as const) {
      expect([path, await found(path, value)]).toEqual([path, [id]]);
    }
    expect(await found('a', 'b=c=d')).toEqual([]);
    await store.send('PUT', `/v1/contexts/${id}`, { body: { metadata: { n: 2 } } });
    expect([await found('n', number), await found('n', '2')]).toEqual([[], [id]]);
    await store.send('DELETE', `/v1/contexts/${id}`);
    expect(await found('n', '2')).toEqual([]);
  });

  test('contents come when they are asked for', async () => {
    expect((await list('limit=1')).items[0]).not.toHaveProperty('content');
    expect((await list('limit=1&include=content')).items[0].content).toEqual({ at: expect.any(Number) });
  });

  test('a cursor belongs to the list that gave it out', async () => {
    const { nextCursor } = await list('limit=1');
    for (const query of [`kind=four&cursor=${nextCursor}`, 'cursor=abc', `order=updated&cursor=${nextCursor}`]) {
      expect((await list(query)).errors).toEqual([{ path: 'cursor', message: expect.any(String) }]);
    }
  });

  function inSubtree(place: number, root: number): boolean {
    if (place <= root) return false;
    const parent = Math.floor((place - 1) / 2);
    return parent === root || inSubtree(parent, root);
  }
});
