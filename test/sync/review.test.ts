import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../lib/base/clock.ts';
import { defaultSettings } from '../../lib/config/settings.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
import { createSync, type Sync } from '../../lib/sync/sync.ts';
import { createWholeLens } from '../../lib/sync/value.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { createFakePeer, type FakePeer, noFaults } from './fake-peer.ts';

// What a review with fresh eyes has broken, one by one.
let here: TestStore;
let there: TestStore;
const servers: Server[] = [];
beforeAll(async () => {
  [here, there] = [await openStore(pgliteEngine), await openStore(pgliteEngine)];
});
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

type Change = (request: IncomingMessage, answer: Response) => Promise<Response> | Response;
/** The other Lamina, with its answers changed on their way. */
async function behind(change: Change): Promise<string> {
  const serve = (request: Request, env: unknown) => {
    const { incoming } = env as { incoming: IncomingMessage };
    return there.fetch(request).then((answer) => change(incoming, answer));
  };
  const server = createServer(getRequestListener(serve as never));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
async function peerAt(url: string, more: object = {}): Promise<string> {
  const name = newId('peer');
  const transport = { url, headers: { authorization: `Bearer ${there.token}` } };
  await here.send('PUT', `/v1/peers/${name}`, { body: { type: 'lamina', transport, ...more } });
  return name;
}
const sync = (name: string) => here.send('POST', `/v1/peers/${name}/sync`);
const put = (store: TestStore, id: string, body: object) => store.send('PUT', `/v1/contexts/${id}`, { body });
const read = async (store: TestStore, id: string) => (await store.send('GET', `/v1/contexts/${id}`)).json;

test('what lies outside the subtree at the peer is not written over', async () => {
  const [root, id] = [newId('root'), newId()];
  const name = await peerAt(await behind((_, answer) => answer), { subtree: root });
  await put(here, root, { content: {} });
  await put(here, id, { parentId: root, content: 'ours' });
  await put(there, id, { content: 'their private' });
  expect((await sync(name)).json).toMatchObject({ skipped: 1 });
  expect((await read(there, id)).content).toBe('their private');
});

test('a refusal is no absence: nothing is deleted because a route is forbidden', async () => {
  const [root, above, id] = [newId('root'), newId('above'), newId()];
  let isForbidden = false;
  const url = await behind((request, answer) =>
    isForbidden && request.url?.includes('/ancestors') ? new Response('{}', { status: 403 }) : answer,
  );
  const name = await peerAt(url, { subtree: root });
  await put(here, root, { content: {} });
  await put(here, above, { parentId: root, content: {} });
  await put(here, id, { parentId: above, content: 'kept' });
  await sync(name);
  isForbidden = true;
  await put(there, id, { content: 'changed there' });
  expect((await sync(name)).status).toBe(422);
  expect((await read(here, id)).content).toBe('kept');
});

test('answers in another order are not taken for each other', async () => {
  const [root, a, b] = [newId('root'), newId('a'), newId('b')];
  const url = await behind(async (request, answer) => {
    if (!request.url?.includes('/batch/get')) return answer;
    const { items } = (await answer.json()) as { items: unknown[] };
    return Response.json({ items: items.reverse() });
  });
  const name = await peerAt(url, { subtree: root });
  await put(there, root, { content: {} });
  await put(there, a, { parentId: root, content: 'a' });
  await put(there, b, { parentId: root, content: 'b' });
  await put(here, root, { content: {} });
  await sync(name);
  for (const [id, content] of [
    [a, 'a'],
    [b, 'b'],
  ] as const)
    expect([content, undefined]).toContain((await read(here, id)).content);
});

test('the token goes to nobody else, whoever the peer points at', async () => {
  const heard: string[] = [];
  const other = createServer((request, answer) => {
    heard.push(String(request.headers.authorization));
    answer.end('{}');
  });
  servers.push(other);
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const elsewhere = `http://127.0.0.1:${(other.address() as AddressInfo).port}/v1/contexts/x/content`;
  const [root, id] = [newId('root'), newId()];
  await put(there, root, { content: {} });
  await put(there, id, { parentId: root, content: 1 });
  const pointing = await behind(async (request, answer) => {
    if (!request.url?.includes('/batch/get')) return answer;
    const { items } = (await answer.json()) as { items: object[] };
    return Response.json({ items: items.map((item) => ({ ...item, content: null, contentUrl: elsewhere })) });
  });
  const redirecting = await behind(() => Response.redirect(elsewhere, 302));
  for (const url of [pointing, redirecting])
    expect((await sync(await peerAt(url, { subtree: root }))).status).toBeGreaterThan(400);
  // Nor does a secret that is kept go where it never went.
  const name = await peerAt(pointing);
  const transport = { url: elsewhere, headers: { authorization: null } };
  await here.send('PUT', `/v1/peers/${name}`, { body: { type: 'lamina', transport } });
  await sync(name);
  expect(heard.filter((one) => one.includes('Bearer'))).toEqual([]);
});

test('pages without end are ended', async () => {
  const url = await behind((request, answer) => {
    const isChanges = request.url?.includes('/v1/changes?since=latest');
    return isChanges ? answer : Response.json({ items: [], changes: [{ id: 'a' }], nextCursor: 'again' });
  });
  const reply = await sync(await peerAt(url));
  expect([reply.status, reply.json.detail]).toEqual([422, expect.stringContaining('do not come to an end')]);
});

const fakeDefinition = {
  type: 'lamina',
  transport: { url: 'http://127.0.0.1' },
  strategy: 'three-way',
  direction: 'both',
} as const;
const nothing = { kind: 'note', contentType: 'application/json', metadata: '{}', parentId: null, expiresMs: null };

/** A fake peer of a store, as `runs.test.ts` has it. */
async function fake(): Promise<{ peer: FakePeer; runs: Sync; name: string; user: RequestContext }> {
  const user: RequestContext = { ...here.ref, actor: { kind: 'api', id: 'user' }, seq: 0, noCache: true };
  const peer = createFakePeer({ lens: createWholeLens(undefined), isWhole: false, random: () => 0.5 });
  const { contexts, feed, ids } = here.manager;
  const runs = createSync({
    database: here.database,
    contexts,
    feed,
    connectors: { lamina: peer.connector, 'mcp-memory': peer.connector },
    mayStartCommands: false,
    settings: defaultSettings,
    telemetry: noTelemetry,
    clock: systemClock,
    ids,
  });
  const name = newId('peer');
  await runs.putPeer(user, name, fakeDefinition);
  await runs.run(user, name, { trigger: 'request', isForced: true });
  return { peer, runs, name, user };
}

test.each(['', '?erase=true'])(
  'what was sent without an answer and then deleted%s does not come back',
  async (query) => {
    const { peer, runs, name, user } = await fake();
    const id = newId();
    await put(here, id, { content: 'secret' });
    peer.setFaults({ ...noFaults, mute: 1 });
    await expect(runs.run(user, name, { trigger: 'request' })).rejects.toMatchObject({ code: 'unavailable' });
    expect(peer.items.has(id)).toBe(true);
    const deleted = await here.send('DELETE', `/v1/contexts/${id}${query}`);
    if (query !== '') expect(deleted.json.pendingPeers).toContain(name);
    peer.setFaults(noFaults);
    expect(await runs.run(user, name, { trigger: 'request' })).toMatchObject({ pulled: 0, pushed: 1 });
    expect([peer.items.has(id), (await read(here, id)).content]).toEqual([false, undefined]);
  },
);

test('what is erased while it is being sent leaves nothing in what was agreed on', async () => {
  const { peer, runs, name, user } = await fake();
  const id = newId();
  await put(here, id, { content: 'secret of erase' });
  peer.setFaults({ ...noFaults, meanwhile: 1 });
  peer.onMeanwhile(async () => {
    await here.send('DELETE', `/v1/contexts/${id}?erase=true`);
  });
  await runs.run(user, name, { trigger: 'request' }).catch(() => {});
  const [rows = []] = await here.database
    .in(user)
    .run([{ text: 'select state, value from peer_base where space_id = $1 and id = $2', params: [here.space, id] }]);
  expect(rows.filter((row) => row['value'] !== null)).toEqual([]);
  peer.setFaults(noFaults);
  await runs.run(user, name, { trigger: 'request' });
  expect(peer.items.has(id)).toBe(false);
});

test('a conflict whose settling was refused stays open', async () => {
  const { peer, runs, name, user } = await fake();
  const id = newId();
  await put(here, id, { content: 'base' });
  await runs.run(user, name, { trigger: 'request' });
  peer.edit(id, { ...nothing, bytes: Buffer.from('"theirs"') });
  await put(here, id, { content: 'ours' });
  expect(await runs.run(user, name, { trigger: 'request' })).toMatchObject({ conflicts: 1 });
  const { items } = await runs.conflicts.list(user, { peer: name, isOpen: true, limit: 10 });
  await put(here, id, { content: 'ours, later' });
  await expect(runs.conflicts.resolve(user, items[0]?.id ?? '', { choose: 'theirs' })).rejects.toMatchObject({
    code: 'version_conflict',
  });
  expect((await runs.conflicts.list(user, { peer: name, isOpen: true, limit: 10 })).items).toHaveLength(1);
});

test('another direction or strategy finds what the old one left out', async () => {
  const root = newId('root');
  const url = await behind((_, answer) => answer);
  const name = await peerAt(url, { subtree: root, direction: 'pull' });
  await put(there, root, { content: {} });
  await sync(name);
  const id = newId();
  await put(here, id, { parentId: root, content: 'ours' });
  expect((await sync(name)).json).toMatchObject({ pushed: 0 });
  const transport = { url, headers: { authorization: null } };
  await here.send('PUT', `/v1/peers/${name}`, { body: { type: 'lamina', transport, subtree: root } });
  expect((await sync(name)).json).toMatchObject({ pushed: 1 });
});

test('a Lamina below a path of its host is found there', async () => {
  const id = newId();
  await put(there, id, { content: 'below' });
  const server = createServer(
    getRequestListener((request) => {
      const url = new URL(request.url);
      if (!url.pathname.startsWith('/lamina/v1/')) return new Response('elsewhere', { status: 404 });
      url.pathname = url.pathname.slice('/lamina'.length);
      return there.fetch(new Request(url, request));
    }),
  );
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const name = await peerAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}/lamina/`);
  expect((await sync(name)).status).toBe(200);
  expect((await read(here, id)).content).toBe('below');
});

test('an answer without end is not read to its end', async () => {
  const piece = new Uint8Array(1_048_576).fill(32);
  let sent = 0;
  const endlessly = () =>
    new ReadableStream({
      pull(controller) {
        sent += piece.length;
        controller.enqueue(piece);
      },
    });
  const url = await behind((request, answer) =>
    request.url?.includes('since=latest') ? answer : new Response(endlessly()),
  );
  const reply = await sync(await peerAt(url));
  expect([reply.status, reply.json.detail]).toEqual([422, expect.stringContaining('more than there can be')]);
  expect(sent).toBeLessThan(200_000_000);
});

test('an open conflict ends where both sides delete it before any run came to its end', async () => {
  const { peer, runs, name, user } = await fake();
  const id = newId();
  await put(here, id, { content: 'ours' });
  peer.edit(id, { ...nothing, bytes: Buffer.from('"theirs"') });
  expect(await runs.run(user, name, { trigger: 'request' })).toMatchObject({ conflicts: 1 });
  // Another strategy has both sides listed anew, as before the first run.
  await runs.putPeer(user, name, { ...fakeDefinition, strategy: 'manual' });
  await here.send('DELETE', `/v1/contexts/${id}`);
  peer.edit(id, null);
  await runs.run(user, name, { trigger: 'request' });
  expect((await runs.conflicts.list(user, { peer: name, isOpen: true, limit: 10 })).items).toEqual([]);
});

test('what is overruled by an intersection and has lost its place is settled all the same', async () => {
  const { peer, runs, name, user } = await fake();
  const [parent, id] = [newId('parent'), newId()];
  await runs.putPeer(user, name, { ...fakeDefinition, strategy: 'intersection' });
  await put(here, parent, { content: {} });
  await put(here, id, { content: { c: 1 } });
  await runs.run(user, name, { trigger: 'request' });
  peer.edit(id, { ...nothing, bytes: Buffer.from('{"c":1}'), parentId: parent });
  await here.send('DELETE', `/v1/contexts/${parent}`);
  await put(here, id, { content: { c: 1, d: 2 } });
  expect(await runs.run(user, name, { trigger: 'request' })).toMatchObject({ skipped: 0 });
  expect((await read(here, id)).content).toEqual({ c: 1 });
  expect([peer.items.has(parent), peer.items.get(id)?.parentId]).toEqual([false, null]);
});

test('what is settled twice under one Idempotency-Key is settled once, and answered alike', async () => {
  const name = await peerAt(await behind((_, answer) => answer), { strategy: 'manual' });
  const id = newId();
  await put(here, id, { content: 'ours' });
  await put(there, id, { content: 'theirs' });
  await sync(name);
  const { items } = (await here.send('GET', `/v1/conflicts?peer=${name}&limit=200`)).json;
  const conflict = items.find((one: { contextId: string }) => one.contextId === id);
  const resolve = (body: object, key: string) =>
    here.send('POST', `/v1/conflicts/${conflict.id}/resolve`, { body, headers: { 'idempotency-key': key } });
  const key = newId('key');
  const first = await resolve({ choose: 'theirs' }, key);
  expect([first.status, first.json.context.content]).toEqual([200, 'theirs']);
  const again = await resolve({ choose: 'theirs' }, key);
  expect([again.status, again.json]).toEqual([200, first.json]);
  expect((await resolve({ choose: 'ours' }, key)).json.code).toBe('idempotency_mismatch');
  // Who has not heard the answer may ask for the same again, whatever became of the key.
  expect((await resolve({ choose: 'theirs' }, newId('key'))).json.context.version).toBe(first.json.context.version);
  expect((await resolve({ choose: 'both' }, newId('key'))).json.code).toBe('not_found');
  // An erase leaves nothing under the key.
  await here.send('DELETE', `/v1/contexts/${id}?erase=true`);
  const erased = await resolve({ choose: 'theirs' }, key);
  expect(erased.text).not.toContain('theirs');
  expect(erased.status).toBe(404);
});
