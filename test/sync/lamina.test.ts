import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openLaminaPeer } from '../../lib/sync/lamina-peer.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';

/** Serves a store of this process on the loopback address. */
async function serve(store: TestStore): Promise<{ server: Server; url: string }> {
  const server = createServer(getRequestListener(store.fetch));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

describe.each(engines)('another Lamina as a peer, $name', (engine) => {
  let here: TestStore;
  let there: TestStore;
  let server: Server;
  let url: string;
  let peer: string;
  let root: string;

  beforeAll(async () => {
    [here, there] = [await openStore(engine), await openStore(engine)];
    ({ server, url } = await serve(there));
  });
  afterAll(() => server.close());
  beforeEach(async () => {
    peer = newId('peer');
    root = newId('root');
    await putPeer({ subtree: root });
    await put(here, root, { content: { name: 'root' } });
    return () => here.send('DELETE', `/v1/peers/${peer}`);
  });

  const putPeer = (more: object) => {
    const transport = { url, headers: { authorization: `Bearer ${there.token}` } };
    return here.send('PUT', `/v1/peers/${peer}`, { body: { type: 'lamina', transport, ...more } });
  };
  const put = async (store: TestStore, id: string, body: object) => {
    const reply = await store.send('PUT', `/v1/contexts/${id}`, { body });
    expect(reply.status, reply.text).toBeLessThan(300);
    return reply.json;
  };
  const get = async (store: TestStore, id: string) => (await store.send('GET', `/v1/contexts/${id}`)).json;
  const sync = async (body?: object) => {
    const reply = await here.send('POST', `/v1/peers/${peer}/sync`, body ? { body } : {});
    expect(reply.status, reply.text).toBe(200);
    return reply.json;
  };
  const same = ['content', 'contentType', 'kind', 'parentId', 'metadata', 'expiresAt', 'hash'] as const;
  const expectSame = async (id: string) => {
    const [left, right] = [await get(here, id), await get(there, id)];
    for (const name of same) expect([name, left[name]]).toEqual([name, right[name]]);
    return left;
  };
  const nothing = { pulled: 0, pushed: 0, merged: 0, conflicts: 0, skipped: 0 };

  test('trees travel whole, byte for byte, and offline edits of both sides are merged', async () => {
    const [a, b, c] = [newId('z'), newId('a'), newId('m')];
    await put(here, a, {
      parentId: root,
      content: { n: 1.0 },
      metadata: { tags: ['x'], n: 1e2 },
      kind: 'instructions',
    });
    // Its id comes before its parent's.
    await put(here, b, { parentId: a, contentType: 'text/markdown', content: 'one\ntwo\nthree\n' });
    await put(here, c, { parentId: a, content: [1, 2, 3], expiresAt: '2099-01-01T00:00:00Z' });
    expect(await sync()).toMatchObject({ pushed: 4, skipped: 0 });
    for (const id of [root, a, b, c]) await expectSame(id);
    expect(await sync()).toMatchObject(nothing);

    await put(here, b, { contentType: 'text/markdown', content: 'ONE\ntwo\nthree\n' });
    await put(there, b, { contentType: 'text/markdown', content: 'one\ntwo\nTHREE\n' });
    await put(there, a, { metadata: { tags: ['x', 'y'], n: 1e2 } });
    expect(await sync()).toMatchObject({ merged: 1, pulled: 1, pushed: 0, conflicts: 0 });
    expect((await expectSame(b)).content).toBe('ONE\ntwo\nTHREE\n');
    await expectSame(a);
    expect(await sync()).toMatchObject(nothing);
  });

  test('deletes and moves travel, parents after their children', async () => {
    const [a, b, c] = [newId('a'), newId('b'), newId('c')];
    await put(here, a, { parentId: root, content: 1 });
    await put(here, b, { parentId: a, content: 2 });
    await put(here, c, { parentId: b, content: 3 });
    await sync();
    await here.send('DELETE', `/v1/contexts/${a}?children=delete`);
    expect(await sync()).toMatchObject({ pushed: 3, skipped: 0 });
    for (const id of [a, b, c]) expect((await there.send('GET', `/v1/contexts/${id}`)).status).toBe(410);
    await put(there, a, { parentId: root, content: 4 });
    expect(await sync()).toMatchObject({ pulled: 1 });
    await expectSame(a);
  });

  test('a child of what the other side has deleted is not lost: it comes to stand at the root', async () => {
    const [a, b] = [newId('a'), newId('b')];
    await put(here, a, { parentId: root, content: 1 });
    await sync();
    await put(there, b, { parentId: a, content: 'child' });
    await here.send('DELETE', `/v1/contexts/${a}`);
    await sync();
    await sync();
    expect((await expectSame(b)).parentId).toBe(root);
    expect((await there.send('GET', `/v1/contexts/${a}`)).status).toBe(410);
  });

  test('what lies outside the subtree is neither read nor written, whatever the peer tells', async () => {
    const [ours, theirs] = [newId('ours'), newId('theirs')];
    await put(here, ours, { content: 'private' });
    await put(there, theirs, { content: 'private' });
    await sync();
    // The peer puts into its subtree what is another context here.
    await put(there, ours, { parentId: root, content: 'overwritten' });
    const report = await sync();
    expect(report).toMatchObject({ pulled: 0, skipped: 1 });
    expect(report.left).toEqual([
      { id: ours, reason: 'A context of this id lies here, outside the subtree of the peer.' },
    ]);
    expect((await get(here, ours)).content).toBe('private');
    expect((await here.send('GET', `/v1/contexts/${theirs}`)).status).toBe(404);
    expect((await here.send('GET', `/v1/peers/${peer}`)).json.waiting).toHaveLength(1);
  });

  test('what is moved out of the subtree here goes away there', async () => {
    const a = newId('a');
    await put(here, a, { parentId: root, content: 1 });
    await sync();
    await put(here, a, { parentId: null });
    await sync();
    expect((await there.send('GET', `/v1/contexts/${a}`)).status).toBe(410);
    expect((await get(here, a)).content).toBe(1);
  });

  test('what lies below goes out of the subtree with what is moved, and comes back with it, on either side', async () => {
    const [a, b, c] = [newId('a'), newId('b'), newId('c')];
    await put(here, a, { parentId: root, content: 'a' });
    await put(here, b, { parentId: a, content: 'b' });
    await put(here, c, { parentId: b, content: 'c' });
    await sync();
    for (const [from, to] of [
      [here, there],
      [there, here],
    ] as const) {
      const statuses = async () =>
        Promise.all([a, b, c].map(async (id) => (await to.send('GET', `/v1/contexts/${id}`)).status));
      await put(from, a, { parentId: null });
      expect(await sync()).toMatchObject({ skipped: 0 });
      expect(await statuses()).toEqual([410, 410, 410]);
      expect((await get(from, c)).content).toBe('c');
      expect(await sync()).toMatchObject(nothing);
      await put(from, a, { parentId: root });
      expect(await sync()).toMatchObject({ skipped: 0 });
      for (const id of [a, b, c]) await expectSame(id);
      expect(await sync()).toMatchObject(nothing);
    }
  });

  test('large contexts travel a few at a time', async () => {
    const ids = Array.from({ length: 12 }, () => newId('large'));
    await put(there, root, { content: { name: 'root' } });
    for (const [at, id] of ids.entries())
      await put(there, id, { parentId: root, contentType: 'text/plain', content: `${at}`.repeat(900_000) });
    const headers = { authorization: `Bearer ${there.token}` };
    const definition = {
      type: 'lamina',
      transport: { url, headers },
      strategy: 'three-way',
      direction: 'both',
    } as const;
    const { signal } = new AbortController();
    const session = await openLaminaPeer(
      { ...definition, subtree: root },
      { answerMs: 5000, contextBytes: 10_485_760, signal },
    );
    await session.survey(null);
    expect((await session.read(ids, 2_000_000)).size).toBe(3);
    expect((await session.read(ids, 1)).size).toBe(1);
    await session.close();
    expect(await sync()).toMatchObject({ skipped: 0 });
    for (const id of ids) await expectSame(id);
  });

  test('pull takes and never sends; push sends and never takes', async () => {
    const [a, b] = [newId('a'), newId('b')];
    await sync();
    await putPeer({ subtree: root, direction: 'pull' });
    await put(here, a, { parentId: root, content: 'ours' });
    await put(there, b, { parentId: root, content: 'theirs' });
    expect(await sync()).toMatchObject({ pulled: 1, pushed: 0 });
    await expectSame(b);
    expect((await there.send('GET', `/v1/contexts/${a}`)).status).toBe(404);
    await putPeer({ subtree: root, direction: 'push' });
    await put(there, b, { content: 'theirs, changed' });
    await put(here, a, { content: 'ours, changed' });
    await sync();
    expect((await get(here, b)).content).toBe('theirs');
    expect((await get(there, a)).content).toBe('ours, changed');
  });

  test('latest: the later change is on both sides, and the other one in the history', async () => {
    const a = newId('a');
    await put(here, a, { parentId: root, content: 'base' });
    await sync();
    await putPeer({ subtree: root, strategy: 'latest' });
    await put(there, a, { content: 'theirs, first' });
    await put(here, a, { content: 'ours, later' });
    expect(await sync()).toMatchObject({ merged: 1, conflicts: 0 });
    expect((await expectSame(a)).content).toBe('ours, later');
    const { items } = (await here.send('GET', `/v1/contexts/${a}/versions`)).json;
    const overruled = items.find((one: { message?: string }) => one.message?.includes('overruled'));
    expect((await here.send('GET', `/v1/contexts/${a}?version=${overruled.version}`)).json.content).toBe(
      'theirs, first',
    );
  });

  test('another key is the same store, another url is another one', async () => {
    await put(here, newId('a'), { parentId: root, content: 1 });
    await sync();
    const before = (await here.send('GET', `/v1/peers/${peer}`)).json;
    expect(before.transport).toEqual({ url, headers: { authorization: null } });
    // What is null keeps the secret.
    expect(
      (
        await here.send('PUT', `/v1/peers/${peer}`, {
          body: { type: 'lamina', transport: before.transport, subtree: root },
        })
      ).status,
    ).toBe(200);
    expect(await sync()).toMatchObject(nothing);
    const other = { url: `${url}/`, headers: { authorization: `Bearer ${there.token}` } };
    await here.send('PUT', `/v1/peers/${peer}`, { body: { type: 'lamina', transport: other, subtree: root } });
    expect(await sync({ dryRun: true })).toMatchObject(nothing);
  });

  test('a wrong token, a wrong address and what is no Lamina are told as they are, and noted', async () => {
    const run = () => here.send('POST', `/v1/peers/${peer}/sync`);
    for (const [transport, status, said] of [
      [{ url, headers: { authorization: 'Bearer wrong' } }, 422, 'does not take the token'],
      [{ url: 'http://127.0.0.1:9' }, 503, 'does not answer'],
      [{ url: `${url}/nowhere`, headers: { authorization: `Bearer ${there.token}` } }, 422, 'is it a Lamina?'],
    ] as const) {
      await here.send('PUT', `/v1/peers/${peer}`, { body: { type: 'lamina', transport } });
      const reply = await run();
      expect(reply.status).toBe(status);
      expect(reply.json.detail).toContain(said);
    }
    const { items } = (await here.send('GET', `/v1/peers/${peer}/runs`)).json;
    expect(items.map((one: { outcome: string }) => one.outcome)).toContain('failed');
    expect(JSON.stringify(items)).not.toContain('wrong');
  });
});
