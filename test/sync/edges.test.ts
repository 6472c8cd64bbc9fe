import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../lib/base/clock.ts';
import { defaultSettings } from '../../lib/config/settings.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
import type { Database } from '../../lib/postgres/database.ts';
import type { Connector, PeerDefinition, PeerSession, Reading } from '../../lib/sync/peer.ts';
import { createSessions } from '../../lib/sync/sessions.ts';
import { createSync, type Sync } from '../../lib/sync/sync.ts';
import { createWholeLens } from '../../lib/sync/value.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines, pgliteEngine } from '../support/engines.ts';
import { createGate, intercept } from '../support/intercept.ts';
import { putLarge } from '../support/upload.ts';
import { createFakePeer, type FakePeer } from './fake-peer.ts';

const text = (content: string, parentId: string | null = null) => ({
  kind: 'note',
  contentType: 'text/plain',
  bytes: Buffer.from(content),
  metadata: '{}',
  parentId,
  expiresMs: null,
});

describe('the edge of a subtree', () => {
  let here: TestStore;
  let there: TestStore;
  let server: Server;
  let url: string;
  let instead: (request: Request) => Promise<Response | undefined>;
  const asked: string[] = [];
  beforeAll(async () => {
    [here, there] = [await openStore(pgliteEngine), await openStore(pgliteEngine)];
    server = createServer(
      getRequestListener(async (request) => {
        asked.push(`${request.method} ${new URL(request.url).pathname}${new URL(request.url).search}`);
        return (await instead(request)) ?? there.fetch(request);
      }),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  let root: string;
  let peer: string;
  beforeEach(async () => {
    instead = async () => undefined;
    [peer, root] = [newId('peer'), newId('root')];
    const transport = { url, headers: { authorization: `Bearer ${there.token}` } };
    await here.send('PUT', `/v1/peers/${peer}`, { body: { type: 'lamina', transport, subtree: root } });
    await put(here, root, { content: {} });
    return () => here.send('DELETE', `/v1/peers/${peer}`);
  });
  const put = async (store: TestStore, id: string, body: object) => {
    const reply = await store.send('PUT', `/v1/contexts/${id}`, { body });
    expect(reply.status, reply.text).toBeLessThan(300);
  };
  const statusOf = async (store: TestStore, id: string) => (await store.send('GET', `/v1/contexts/${id}`)).status;
  const sync = async (body?: object) => (await here.send('POST', `/v1/peers/${peer}/sync`, body ? { body } : {})).json;

  test.each(['itself', 'its parent'])(
    'what was erased here is not taken back where %s was moved out and in there',
    async (via) => {
      const [folder, id] = [newId('folder'), newId()];
      await put(here, folder, { parentId: root, content: 1 });
      await put(here, id, { parentId: folder, content: 'secret' });
      await sync();
      await here.send('DELETE', `/v1/contexts/${id}?erase=true`);
      const moved = via === 'itself' ? id : folder;
      await put(there, moved, { parentId: null });
      await sync({ force: true });
      await sync({ force: true });
      await put(there, moved, { parentId: root });
      await sync();
      await sync();
      expect((await here.send('GET', `/v1/contexts/${id}`)).text).not.toContain('secret');
      expect((await there.send('GET', `/v1/contexts/${id}`)).text).not.toContain('secret');
    },
  );

  test.each(['there', 'here'])(
    'much that is moved out %s at once halts the run as if it were deleted',
    async (side) => {
      const [from, to] = side === 'there' ? [there, here] : [here, there];
      const folder = newId('folder');
      const ids = Array.from({ length: 40 }, () => newId());
      await put(here, folder, { parentId: root, content: 1 });
      for (const id of ids) await put(here, id, { parentId: folder, content: 1 });
      await sync();
      await put(from, folder, { parentId: null });
      expect((await sync()).halted).toContain(side === 'there' ? 'are gone at the peer' : 'are gone here');
      for (const id of [folder, ...ids]) expect(await statusOf(to, id)).toBe(200);
      expect(await sync({ force: true })).toMatchObject({ skipped: 0 });
      for (const id of [folder, ...ids]) expect(await statusOf(to, id)).toBe(410);
    },
  );

  test('a root that is deleted there, its children left as orphans, halts the run', async () => {
    const ids = Array.from({ length: 40 }, () => newId());
    for (const id of ids) await put(here, id, { parentId: root, content: 1 });
    await sync();
    await there.send('DELETE', `/v1/contexts/${root}?children=orphan`);
    expect((await sync()).halted).toContain('are gone at the peer');
    for (const id of [root, ...ids]) expect(await statusOf(here, id)).toBe(200);
  });

  test('what comes back into the subtree with what a run itself has moved is looked at by the next', async () => {
    const transport = { url, headers: { authorization: `Bearer ${there.token}` } };
    const definition = { type: 'lamina', transport, subtree: root, strategy: 'latest' };
    await here.send('PUT', `/v1/peers/${peer}`, { body: definition });
    const [folder, id] = [newId('folder'), newId('below')];
    await put(here, folder, { parentId: root, content: 1 });
    await put(here, id, { parentId: folder, content: 1 });
    await sync();
    await put(there, id, { parentId: null, content: 2 });
    await put(here, id, { content: 3 });
    const left = [{ id, reason: 'At the peer a context of this id lies outside the subtree.' }];
    expect(await sync()).toMatchObject({ skipped: 1, left });
    // Out with its folder here, it is nobody's business any more; what the peer has made of the folder brings that back.
    await put(there, folder, { content: 2 });
    await put(here, folder, { parentId: null });
    await sync();
    expect((await here.send('GET', `/v1/contexts/${folder}`)).json).toMatchObject({ parentId: root, content: 2 });
    expect(await sync()).toMatchObject({ skipped: 1, left });
  });

  test('what lies below new contexts is asked for once, whatever is below what', async () => {
    await sync();
    const folder = newId('folder');
    await put(there, folder, { content: 0 });
    await put(there, folder, { parentId: root, content: 1 });
    const ids = Array.from({ length: 20 }, () => newId('below'));
    for (const id of ids) {
      await put(there, id, { parentId: folder, content: 1 });
      await put(there, id, { parentId: folder, content: 2 });
    }
    asked.length = 0;
    expect(await sync()).toMatchObject({ pulled: 21 });
    expect(asked.filter((one) => one.includes('subtreeOf')).length).toBeLessThanOrEqual(1);
  });

  test('what an upload has left at a peer that refuses it is taken away, and the rest goes on', async () => {
    const [large, small] = [newId('a'), newId('z')];
    await putLarge(here, large, 'x'.repeat(5_000_000), { parentId: root });
    await put(here, small, { parentId: root, content: 1 });
    // As a server that stands before it answers.
    instead = async ({ url: of }) =>
      of.includes('/parts/') ? new Response('<html>413 Request Entity Too Large</html>', { status: 413 }) : undefined;
    const report = await sync();
    expect(report).toMatchObject({ skipped: 1, left: [{ id: large, reason: expect.stringContaining('413') }] });
    expect(await statusOf(there, small)).toBe(200);
    instead = async ({ url: of }) => (of.includes('/parts/') ? new Response('{}', { status: 503 }) : undefined);
    expect(await sync()).toMatchObject({ skipped: 1, left: [{ id: large, reason: expect.stringContaining('503') }] });
    const [open = []] = await there.database
      .in(there.ref)
      .run([{ text: 'select 1 from upload where space_id = $1 and used_by is null', params: [there.space] }]);
    expect(open).toHaveLength(0);
    instead = async () => undefined;
    expect(await sync()).toMatchObject({ pushed: 1, skipped: 0 });
  });

  test('of a conflict whose one side is large the small ones are shown', async () => {
    const id = newId();
    await put(here, id, { parentId: root, contentType: 'text/plain', content: 'base' });
    await sync();
    await putLarge(here, id, 'o'.repeat(5_000_000), { parentId: root });
    await put(there, id, { contentType: 'text/plain', content: 'small' });
    expect(await sync()).toMatchObject({ conflicts: 1 });
    const { items } = (await here.send('GET', `/v1/conflicts?peer=${peer}`)).json;
    const conflict = (await here.send('GET', `/v1/conflicts/${items[0].id}`)).json;
    expect([conflict.base.content, conflict.ours.content, conflict.theirs.content]).toEqual([
      'base',
      undefined,
      'small',
    ]);
  });
});

describe.each(engines)('a run that others come in between, $name', (engine) => {
  let store: TestStore;
  let user: RequestContext;
  beforeAll(async () => {
    store = await openStore(engine);
    user = { ...store.ref, actor: { kind: 'api', id: 'user' }, seq: 0, noCache: true };
  });
  const definition: PeerDefinition = {
    type: 'lamina',
    transport: { url: 'http://127.0.0.1' },
    strategy: 'three-way',
    direction: 'both',
  };
  const open = (connector: Connector, database: Database = store.database): Sync => {
    const { contexts, feed, ids } = store.manager;
    const connectors = { lamina: connector, 'mcp-memory': connector };
    const rest = { mayStartCommands: false, settings: defaultSettings, telemetry: noTelemetry, clock: systemClock };
    return createSync({ database, contexts, feed, connectors, ids, ...rest });
  };

  /** A peer with one item in conflict, and a run of it that does something right before it notes anything. */
  async function inConflict(theirs: string | null) {
    const peer = createFakePeer({ lens: createWholeLens(undefined), isWhole: false, random: () => 0.5 });
    let before: (() => Promise<unknown>) | undefined;
    const database = intercept(store.database, async (run, statements) => {
      const work = before;
      if (work !== undefined && statements.some((one) => one.text.includes('settle_bases'))) {
        before = undefined;
        await work();
      }
      return run();
    });
    let hidden: string | undefined;
    const connector: Connector = {
      ...peer.connector,
      open: async (...args) => {
        const session = await peer.connector.open(...args);
        const read: PeerSession['read'] = async (...asked) => {
          const readings = new Map<string, Reading>(await session.read(...asked));
          if (hidden !== undefined) readings.set(hidden, { refused: 'not now' });
          return readings;
        };
        return { ...session, read };
      },
    };
    const sync = open(connector, database);
    const name = newId('peer');
    await sync.putPeer(user, name, definition);
    const run = () => sync.run(user, name, { trigger: 'request', isForced: true });
    await run();
    const id = newId();
    const put = (content: string) =>
      store.send('PUT', `/v1/contexts/${id}`, { body: { contentType: 'text/plain', content } });
    await put('base');
    await run();
    await put('ours');
    peer.edit(id, theirs === null ? null : text(theirs));
    expect(await run()).toMatchObject({ conflicts: 1 });
    const find = async () => (await sync.conflicts.list(user, { peer: name, isOpen: true, limit: 10 })).items;
    const [conflict] = await find();
    const resolve = (choose: 'ours' | 'theirs') => sync.conflicts.resolve(user, conflict?.id ?? '', { choose });
    const both = async () => [
      (await store.send('GET', `/v1/contexts/${id}`)).json.content,
      peer.items.has(id) ? Buffer.from(peer.items.get(id)?.bytes ?? []).toString() : undefined,
    ];
    const onNote = (work: () => Promise<unknown>) => {
      before = work;
    };
    const hide = (one: string | undefined) => {
      hidden = one;
    };
    return { peer, sync, name, run, id, find, resolve, both, onNote, hide };
  }

  test('a conflict that is settled while it is told anew is settled, and the rest of the run stands', async () => {
    const { peer, run, id, find, resolve, both, onNote } = await inConflict('theirs');
    peer.edit(id, text('theirs, again'));
    const other = newId();
    peer.edit(other, text('innocent'));
    onNote(() => resolve('ours'));
    expect(await run()).toMatchObject({ skipped: 0 });
    expect((await store.send('GET', `/v1/contexts/${other}`)).json.content).toBe('innocent');
    // What was changed there since is told as a conflict of its own.
    expect(await run()).toMatchObject({ conflicts: 1 });
    const [anew] = await find();
    expect(anew?.contextId).toBe(id);
    expect(await both()).toEqual(['ours', 'theirs, again']);
  });

  test('a settling over a delete is not forgotten by a run that has looked before it', async () => {
    const { peer, run, id, find, resolve, both, onNote, hide } = await inConflict(null);
    // Due, for whatever reason.
    hide(id);
    peer.edit(id, null);
    await run();
    hide(undefined);
    onNote(() => resolve('ours'));
    await run();
    expect(await run()).toMatchObject({ skipped: 0 });
    expect([await find(), await both()]).toEqual([[], ['ours', 'ours']]);
  });

  test('an erase in the midst of a settling is no failure of the server', async () => {
    const { id, resolve } = await inConflict('theirs');
    const { peer } = await inConflict('other');
    let isFirst = true;
    const database = intercept(store.database, async (run, statements) => {
      const rows = await run();
      if (isFirst && statements.some((one) => one.text.includes('from conflict c'))) {
        isFirst = false;
        await store.send('DELETE', `/v1/contexts/${id}?erase=true`);
        await store.manager.cleanup({ only: store.ref, budgetMs: 5000 });
      }
      return rows;
    });
    const { items } = await open(peer.connector).conflicts.list(user, { isOpen: true, limit: 100 });
    const conflict = items.find(({ contextId }) => contextId === id);
    const late = open(peer.connector, database).conflicts.resolve(user, conflict?.id ?? '', { choose: 'both' });
    await expect(late).rejects.toMatchObject({ code: expect.stringMatching(/^(not_found|version_conflict)$/) });
    await expect(resolve('ours')).rejects.toMatchObject({ code: 'not_found' });
  });

  test('a run that has only begun is waited for, and lets its peer go', async () => {
    const peer = createFakePeer({ lens: createWholeLens(undefined), isWhole: false, random: () => 0.5 });
    const gate = createGate();
    const database = intercept(store.database, async (run, statements) => {
      const rows = await run();
      if (statements.some((one) => one.text.includes('begin_run'))) await gate.pass();
      return rows;
    });
    const sync = open(peer.connector, database);
    const name = newId('peer');
    await sync.putPeer(user, name, definition);
    const going = sync.run(user, name, { trigger: 'request' }).catch((error) => error);
    await gate.isReached;
    let isClosed = false;
    const closing = sync.close().then(() => {
      isClosed = true;
    });
    await sleep(50);
    expect(isClosed).toBe(false);
    gate.release();
    await closing;
    expect(await going).toMatchObject({ code: 'unavailable' });
    expect(await sync.getPeer(user, name)).toMatchObject({ runId: null, failures: 0 });
  });

  test('what lies below what cannot be read is taken all the same', async () => {
    const [root, parent, child] = [newId('root'), newId('parent'), newId('child')];
    const peer: FakePeer = createFakePeer({ lens: createWholeLens(root), isWhole: false, random: () => 0.5, root });
    const connector: Connector = {
      ...peer.connector,
      open: async (...args) => {
        const session = await peer.connector.open(...args);
        const read: PeerSession['read'] = async (...asked) => {
          const readings = new Map<string, Reading>(await session.read(...asked));
          if (readings.has(parent)) readings.set(parent, { refused: 'It is larger than a context.' });
          return readings;
        };
        return { ...session, read };
      },
    };
    const sync = open(connector);
    const name = newId('peer');
    await store.send('PUT', `/v1/contexts/${root}`, { body: { contentType: 'text/plain', content: 'root' } });
    for (const [id, above] of [
      [root, null],
      [parent, null],
      [child, parent],
    ] as const)
      peer.edit(id, text(id === root ? 'root' : id, above));
    await sync.putPeer(user, name, { ...definition, subtree: root });
    await sync.run(user, name, { trigger: 'request' });
    peer.edit(parent, text('moved in', root));
    expect(await sync.run(user, name, { trigger: 'request' })).toMatchObject({ skipped: 1 });
    expect((await store.send('GET', `/v1/contexts/${child}`)).json.content).toBe(child);
  });
});

test('a connection is not opened for who has been stopped', async () => {
  let opened = 0;
  const session = { close: () => sleep(100) } as unknown as PeerSession;
  const connector = {
    lensOf: () => createWholeLens(undefined),
    async open() {
      opened++;
      return session;
    },
  };
  const sessions = createSessions({
    connectors: { lamina: connector, 'mcp-memory': connector },
    options: { answerMs: 1000, contextBytes: 1000 },
    idleMs: 60_000,
  });
  const definition = { type: 'lamina', transport: { url: 'http://x' }, strategy: 'latest', direction: 'both' } as const;
  await sessions.using('p', { definition, signal: new AbortController().signal }, async () => {});
  const stop = new AbortController();
  const going = sessions.using(
    'p',
    { definition: { ...definition, direction: 'pull' }, signal: stop.signal },
    async () => {},
  );
  setTimeout(() => stop.abort(new Error('stopped')), 20);
  await expect(going).rejects.toThrow('stopped');
  expect(opened).toBe(1);
  await sessions.close();
});
