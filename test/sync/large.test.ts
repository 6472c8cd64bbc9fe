import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runOne } from '../../lib/postgres/database.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { putLarge, randomText, wholeBytes } from '../support/upload.ts';

describe.each(engines)('contents too large for a batch, to another Lamina on $name', (engine) => {
  let here: TestStore;
  let there: TestStore;
  let server: Server;
  let url: string;
  /** What the other side answers instead, where it is said. */
  let instead: (request: Request) => Promise<Response | undefined>;

  beforeAll(async () => {
    [here, there] = [await openStore(engine), await openStore(engine, { settings: { limits: { uploads: 2 } } })];
    server = createServer(getRequestListener(async (request) => (await instead(request)) ?? there.fetch(request)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  const openPeer = async () => {
    instead = async () => undefined;
    const [peer, root] = [newId('peer'), newId('root')];
    const transport = { url, headers: { authorization: `Bearer ${there.token}` } };
    await here.send('PUT', `/v1/peers/${peer}`, { body: { type: 'lamina', transport, subtree: root } });
    await here.send('PUT', `/v1/contexts/${root}`, { body: { content: {} } });
    const sync = async () => (await here.send('POST', `/v1/peers/${peer}/sync`)).json;
    return { root, sync };
  };
  const head = async (store: TestStore, id: string) => {
    const { json } = await store.send('GET', `/v1/contexts/${id}`);
    const { hash, contentType, kind, parentId, metadata, sizeBytes } = json;
    return { hash, contentType, kind, parentId, metadata, sizeBytes };
  };
  const openUploads = async () => {
    const rows = await runOne(there.database.in(there.ref), {
      text: 'select 1 from upload where used_by is null',
      params: [],
    });
    return rows.length;
  };
  const nothing = { pulled: 0, pushed: 0, merged: 0, conflicts: 0, skipped: 0 };

  test('are pushed by an upload, new and changed, below a parent that is pushed with them; and pulled', async () => {
    const { root, sync } = await openPeer();
    const [parent, text, json] = [newId('z'), newId('a'), newId('b')];
    await here.send('PUT', `/v1/contexts/${parent}`, { body: { content: 1, parentId: root } });
    const body = { parentId: parent, kind: 'memo', metadata: { tags: ['x'], n: 1e2 } };
    await putLarge(here, text, randomText(wholeBytes), body);
    const list = (more: string) => JSON.stringify([more, ...Array.from({ length: 300_000 }, (_, at) => `item ${at}`)]);
    await putLarge(here, json, list('one'), { ...body, contentType: 'application/json' });
    expect(await sync()).toMatchObject({ pushed: 4, skipped: 0 });
    for (const id of [parent, text, json]) expect(await head(there, id)).toEqual(await head(here, id));
    expect((await head(there, text)).sizeBytes).toBe(wholeBytes);
    expect(await sync()).toMatchObject(nothing);

    await putLarge(here, json, list('two'), { contentType: 'application/json' });
    await putLarge(there, text, randomText(wholeBytes));
    expect(await sync()).toMatchObject({ pushed: 1, pulled: 1, skipped: 0 });
    for (const id of [text, json]) expect(await head(there, id)).toEqual(await head(here, id));
    expect(await sync()).toMatchObject(nothing);
    expect(await openUploads()).toBe(0);
  });

  test('are left over, and nothing else is, where the other side has no uploads, no room, or was faster', async () => {
    const { root, sync } = await openPeer();
    const [small, large] = [newId(), newId()];
    await here.send('PUT', `/v1/contexts/${small}`, { body: { content: 1, parentId: root } });
    await putLarge(here, large, 'x'.repeat(5_000_000), { parentId: root });
    instead = async (request) =>
      request.url.endsWith('/v1/uploads')
        ? new Response('{"code":"not_found","detail":"There is nothing here."}', { status: 404 })
        : undefined;
    expect(await sync()).toMatchObject({ pushed: 2, skipped: 1 });
    expect((await there.send('GET', `/v1/contexts/${small}`)).status).toBe(200);

    instead = async () => undefined;
    const begin = { body: { sizeBytes: 5, contentType: 'text/plain' } };
    const taken = [await there.send('POST', '/v1/uploads', begin), await there.send('POST', '/v1/uploads', begin)];
    expect(await sync()).toMatchObject({ pushed: 0, skipped: 1 });
    for (const { json } of taken) await there.send('DELETE', `/v1/uploads/${json.uploadId}`);

    // Somebody before it fails at what is large alone.
    const isPart = ({ method, url: asked }: Request) => method === 'PUT' && asked.includes('/v1/uploads/');
    const isTaking = ({ method, url: asked }: Request) => method === 'PUT' && asked.endsWith(`/v1/contexts/${large}`);
    for (const [at, isMeant] of [isPart, isTaking].entries()) {
      await here.send('PUT', `/v1/contexts/${small}`, { body: { content: at + 2, parentId: root } });
      // Where it answers nothing more, the run has failed, and no item is to blame.
      instead = async (request) =>
        isMeant(request) || request.method === 'DELETE' ? new Response('Bad gateway', { status: 502 }) : undefined;
      expect((await sync()).code).toBe('unavailable');
      instead = async (request) => (isMeant(request) ? new Response('Bad gateway', { status: 502 }) : undefined);
      for (const { uploadId } of (await there.send('GET', '/v1/uploads')).json.items)
        await there.send('DELETE', `/v1/uploads/${uploadId}`);
      expect(await sync()).toMatchObject({ skipped: 1 });
      expect((await there.send('GET', `/v1/contexts/${small}`)).json.content).toBe(at + 2);
      expect(await openUploads()).toBe(0);
    }

    // Somebody writes it there while the parts are on their way.
    instead = async (request) => {
      if (request.method === 'PUT' && request.url.endsWith(`/v1/contexts/${large}`))
        await there.send('PUT', `/v1/contexts/${large}`, { body: { content: 'faster', parentId: root } });
      return undefined;
    };
    expect(await sync()).toMatchObject({ pushed: 0, skipped: 1 });
    expect(await openUploads()).toBe(0);
    expect((await there.send('GET', `/v1/contexts/${large}`)).json.content).toBe('faster');
    instead = async () => undefined;
    expect(await sync()).toMatchObject({ conflicts: 1 });
  });
});
