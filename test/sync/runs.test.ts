import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../lib/base/clock.ts';
import { settingsSchema } from '../../lib/config/settings.ts';
import { entityId } from '../../lib/contexts/node-ids.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
import { graphLens, toValue } from '../../lib/memory/peer-lens.ts';
import type { Connector, PeerSession } from '../../lib/sync/peer.ts';
import { createSync, type Sync } from '../../lib/sync/sync.ts';
import { createWholeLens } from '../../lib/sync/value.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { createGate } from '../support/intercept.ts';
import { createFakePeer, type FakePeer, noFaults } from './fake-peer.ts';

const note = (text: string) => ({
  kind: 'note',
  contentType: 'text/plain',
  bytes: Buffer.from(text),
  metadata: '{}',
  parentId: null,
  expiresMs: null,
});

describe.each(engines)('runs of a peer, $name', (engine) => {
  let store: TestStore;
  let peer: FakePeer;
  let sync: Sync;
  let name: string;
  let user: RequestContext;

  beforeAll(async () => {
    store = await openStore(engine);
    user = { ...store.ref, actor: { kind: 'api', id: 'user' }, seq: 0, noCache: true };
  });
  beforeEach(async () => {
    name = newId('peer');
    peer = createFakePeer({ lens: createWholeLens(undefined), isWhole: false, random: () => 0.5 });
    sync = openSync(peer.connector);
    await sync.putPeer(user, name, { ...definition });
    // What other tests have left is no news to this peer.
    await sync.run(user, name, { trigger: 'request' });
    return () => sync.removePeer(user, name);
  });

  const definition = {
    type: 'lamina',
    transport: { url: 'http://127.0.0.1' },
    strategy: 'three-way',
    direction: 'both',
  } as const;
  function openSync(connector: Connector, settings: object = {}): Sync {
    return createSync({
      database: store.database,
      contexts: store.manager.contexts,
      feed: store.manager.feed,
      connectors: { lamina: connector, 'mcp-memory': connector },
      mayStartCommands: false,
      settings: settingsSchema.parse({ sync: settings }),
      telemetry: noTelemetry,
      clock: systemClock,
      ids: store.manager.ids,
    });
  }
  const run = (more: object = {}) => sync.run(user, name, { trigger: 'request', ...more });
  const put = (id: string, content: unknown) => store.send('PUT', `/v1/contexts/${id}`, { body: { content } });
  const read = async (id: string) =>
    (await store.send('GET', `/v1/contexts/${id}`, { headers: { 'cache-control': 'no-cache' } })).json;
  /** The peer's connector with something put around its sessions. */
  const around = (wrap: (session: Awaited<ReturnType<Connector['open']>>) => object): Connector => ({
    ...peer.connector,
    open: async (...args) => {
      const session = await peer.connector.open(...args);
      return { ...session, ...wrap(session) };
    },
  });

  test('one at a time: the second is told so, on any instance, and whoever waited goes on', async () => {
    const gate = createGate();
    const first = openSync(
      around((session) => ({
        async read(...asked: Parameters<PeerSession['read']>) {
          await gate.pass();
          return session.read(...asked);
        },
      })),
    );
    const id = newId();
    await put(id, 1);
    const running = first.run(user, name, { trigger: 'request' });
    await gate.isReached;
    await expect(run()).rejects.toMatchObject({ code: 'sync_running' });
    gate.release();
    expect(await running).toMatchObject({ pushed: 1 });
    expect(await run()).toMatchObject({ pushed: 0, pulled: 0 });
  });

  test('a run that froze and lost its lease writes nothing more', async () => {
    const gate = createGate();
    const frozen = openSync(
      around((session) => ({
        async read(...asked: Parameters<PeerSession['read']>) {
          const read = await session.read(...asked);
          await gate.pass();
          return read;
        },
      })),
    );
    const id = newId();
    peer.edit(id, note('first'));
    const lost = frozen.run(user, name, { trigger: 'request' }).catch((error) => error);
    await gate.isReached;
    const params = [store.space, name];
    await store.database
      .in(user)
      .run([{ text: 'update peer set run_until = now() where space_id = $1 and name = $2', params }]);
    peer.edit(id, note('second'));
    expect(await run()).toMatchObject({ pulled: 1 });
    gate.release();
    expect(await lost).toMatchObject({ code: 'sync_running' });
    expect((await read(id)).content).toBe('second');
    const runs = await sync.runs(user, { peer: name, limit: 2 });
    expect(runs.map(({ outcome }) => outcome)).toEqual(['done', 'lost']);
  });

  test('a run holds its peer as long as it goes on, longer than its lease', async () => {
    const gate = createGate();
    const slow = openSync(
      around((session) => ({
        async survey(...asked: Parameters<PeerSession['survey']>) {
          await gate.pass();
          return session.survey(...asked);
        },
      })),
      { leaseMs: 1000, answerMs: 900 },
    );
    const id = newId();
    await put(id, 1);
    const going = slow.run(user, name, { trigger: 'request' });
    await gate.isReached;
    await sleep(2500);
    await expect(run()).rejects.toMatchObject({ code: 'sync_running' });
    gate.release();
    expect(await going).toMatchObject({ pushed: 1 });
  });

  test('a run that is stopped ends at once, says so, and lets its peer go', async () => {
    let closed = (_: unknown) => {};
    let reached = () => {};
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const hanging = openSync(
      around(() => ({
        // As a call that is given up when its connection is closed.
        survey: () =>
          new Promise((_, reject) => {
            closed = reject;
            reached();
          }),
        close: async () => closed(new Error('closed')),
      })),
    );
    await hanging.putPeer(user, name, { ...definition, intervalSeconds: 3600 });
    const stop = hanging.follow();
    const going = hanging.run(user, name, { trigger: 'request' }).catch((error) => error);
    await isReached;
    await stop();
    expect(await going).toMatchObject({ code: 'unavailable', message: expect.stringContaining('stopping') });
    const [last] = await sync.runs(user, { peer: name, limit: 1 });
    expect(last).toMatchObject({ outcome: 'failed', reason: expect.stringContaining('stopping') });
    const left = await sync.getPeer(user, name);
    expect(left.runId).toBeNull();
    // It is due as soon as a server is there again, and not only after its interval.
    expect(left.nextMs).toBeLessThanOrEqual(Date.now());
    await expect(hanging.run(user, name, { trigger: 'request' })).rejects.toMatchObject({ code: 'unavailable' });
    expect(await run()).toMatchObject({ skipped: 0 });
  });

  test('a run that was asked for goes on under its id after whatever has interrupted it, until it has ended', async () => {
    const runId = store.manager.ids.sortable();
    const hanging = openSync(around(() => ({ survey: () => new Promise(() => {}) })));
    // Its process is killed, and it is neither ended nor renewed.
    void hanging.run(user, name, { trigger: 'request', runId }).catch(() => {});
    await expect.poll(async () => (await sync.getPeer(user, name)).runId).toBe(runId);
    const again = () => run({ runId });
    await expect(again()).rejects.toMatchObject({ code: 'sync_running' });
    const params = [store.space, name];
    await store.database
      .in(user)
      .run([{ text: 'update peer set run_until = now() where space_id = $1 and name = $2', params }]);
    const id = newId();
    await put(id, 1);
    // Another one takes the peer over before it is begun again.
    await run();
    const told = async () => (await sync.runs(user, { peer: name, limit: 10 })).find((one) => one.id === runId);
    expect(await told()).toMatchObject({ outcome: 'lost' });
    peer.edit(id, note('theirs'));
    expect(await again()).toMatchObject({ runId, pulled: 1 });
    expect(await told()).toMatchObject({ outcome: 'done', finishedMs: expect.any(Number) });
    await expect(again()).rejects.toMatchObject({ code: 'already_exists' });
    expect(await told()).toMatchObject({ outcome: 'done' });
  });

  test('a run that was asked for and whose time is over is unfinished where it has moved something, and has failed where not', async () => {
    // A peer that answers once, and then no more until its connection is closed.
    const hanging = (pushesMax: number) => {
      let [pushes, close] = [0, (_: unknown) => {}];
      return openSync(
        around((session) => ({
          push: (...asked: Parameters<PeerSession['push']>) =>
            pushes++ < pushesMax
              ? session.push(...asked)
              : new Promise((_, reject) => {
                  close = reject;
                }),
          close: async () => close(new Error('closed')),
        })),
      );
    };
    const ids = Array.from({ length: 250 }, () => newId());
    await Promise.all(ids.map((id) => put(id, 1)));
    const runId = store.manager.ids.sortable();
    const told = async () => (await sync.runs(user, { peer: name, limit: 10 })).find((one) => one.id === runId);
    const { isUnfinished, pushed } = await hanging(1).run(user, name, { trigger: 'request', runId, limitMs: 3000 });
    expect([isUnfinished, pushed > 0]).toEqual([true, true]);
    expect(await told()).toMatchObject({ outcome: 'running', finishedMs: null, counts: { pushed } });
    expect(await sync.getPeer(user, name)).toMatchObject({ runId: null, failures: 0 });
    // Nothing was moved in its time: it has failed, as one that no peer has answered.
    const late = hanging(0).run(user, name, { trigger: 'request', runId, limitMs: 1000 });
    await expect(late).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('time') });
    expect(await told()).toMatchObject({ outcome: 'failed', reason: expect.stringContaining('time') });
    expect(await sync.getPeer(user, name)).toMatchObject({ runId: null, failures: 1 });
    expect(await run()).toMatchObject({ pushed: 250 - pushed });
    await Promise.all(ids.map((id) => store.send('DELETE', `/v1/contexts/${id}`)));
  });

  test('a settling and a run at once never lose what was chosen', async () => {
    for (let round = 0; round < 8; round++) {
      const id = newId();
      await put(id, 'base');
      await run();
      peer.edit(id, note('theirs'));
      await put(id, 'ours');
      expect(await run()).toMatchObject({ conflicts: 1 });
      const { items } = await sync.conflicts.list(user, { peer: name, isOpen: true, limit: 10 });
      // Something else for the run to write and to note at the same time.
      peer.edit(newId(), note('other'));
      const [report, settled] = await Promise.all([
        run(),
        sync.conflicts.resolve(user, items[0]?.id ?? '', { choose: 'theirs' }),
      ]);
      expect([report.skipped, settled.context?.id]).toEqual([0, id]);
      await run();
      expect((await sync.conflicts.list(user, { peer: name, isOpen: true, limit: 10 })).items).toEqual([]);
      expect((await read(id)).content).toBe('theirs');
      expect(Buffer.from(peer.items.get(id)?.bytes ?? []).toString()).toBe('theirs');
    }
  });

  test('a peer that says it took a change and has not is found out, and told again', async () => {
    const id = newId();
    await put(id, 1);
    peer.setFaults({ ...noFaults, lie: 1 });
    const report = await run();
    expect(report).toMatchObject({
      pushed: 0,
      skipped: 1,
      left: [{ id, reason: 'The peer says that it took it, but does not hold it.' }],
    });
    expect(await sync.getPeer(user, name)).toMatchObject({ due: 1, waiting: [{ id }] });
    peer.setFaults(noFaults);
    expect(await run()).toMatchObject({ pushed: 1, skipped: 0 });
    expect(peer.items.get(id)).toBeDefined();
    expect(await sync.getPeer(user, name)).toMatchObject({ due: 0, waiting: [] });
  });

  test('much that is gone here halts the run as well', async () => {
    const ids = Array.from({ length: 30 }, () => newId());
    for (const id of ids) peer.edit(id, note(id));
    expect(await run()).toMatchObject({ pulled: 30 });
    for (const id of ids) await store.send('DELETE', `/v1/contexts/${id}`);
    const halted = await run();
    expect(halted.halted).toContain('are gone here');
    expect(peer.items.size).toBeGreaterThanOrEqual(30);
    expect(await sync.getPeer(user, name)).toMatchObject({ failures: 1 });
    expect(await run({ isForced: true })).toMatchObject({ pushed: 30 });
    expect(ids.filter((id) => peer.items.has(id))).toEqual([]);
  });

  test('a peer that is only pushed to is given again what it has lost, and keeps what it has changed', async () => {
    await sync.putPeer(user, name, { ...definition, direction: 'push' });
    const [lost, changed] = [newId(), newId()];
    await put(lost, 1);
    await put(changed, 2);
    await run();
    peer.edit(lost, null);
    peer.edit(changed, note('its own'));
    expect(await run()).toMatchObject({ pushed: 1, pulled: 0, skipped: 0 });
    expect([peer.items.has(lost), (await read(changed)).content]).toEqual([true, 2]);
    expect(Buffer.from(peer.items.get(changed)?.bytes ?? []).toString()).toBe('its own');
  });

  test('a dry run says what would be done, and does nothing', async () => {
    const [a, b] = [newId(), newId()];
    await put(a, 1);
    peer.edit(b, note('b'));
    expect(await run({ isDry: true })).toMatchObject({ pulled: 1, pushed: 1 });
    expect([peer.items.has(a), (await read(b)).code]).toEqual([false, 'context_not_found']);
    expect(await sync.runs(user, { peer: name, limit: 10 })).toHaveLength(1);
    expect(await run()).toMatchObject({ pulled: 1, pushed: 1 });
  });

  test('what was agreed on outlives the versions that retention takes', async () => {
    const id = newId();
    await put(id, { a: 1, b: 1 });
    await run();
    for (let at = 0; at < 120; at++) await put(id, { a: at, b: 1 });
    await store.manager.cleanup({ only: store.ref, budgetMs: 5000 });
    peer.edit(id, { ...note(''), contentType: 'application/json', bytes: Buffer.from('{"a":1,"b":2}') });
    expect(await run()).toMatchObject({ merged: 1, conflicts: 0 });
    expect((await read(id)).content).toEqual({ a: 119, b: 2 });
  });

  test('a tombstone stays until every peer has passed it', async () => {
    const id = newId();
    await put(id, 1);
    await run();
    await store.send('DELETE', `/v1/contexts/${id}`);
    const purge = () => store.database.in(user).run([{ text: 'select purge_tombstones(0, 1000)', params: [] }]);
    await purge();
    expect((await read(id)).code).toBe('gone');
    await run();
    expect(peer.items.has(id)).toBe(false);
    await purge();
    expect((await read(id)).code).toBe('context_not_found');
  });

  test('a peer that is forgotten leaves both sides as they are, and its bytes to cleanup', async () => {
    const id = newId();
    peer.edit(id, note('kept'));
    await run();
    await sync.removePeer(user, name);
    await expect(run()).rejects.toMatchObject({ code: 'not_found' });
    expect((await read(id)).content).toBe('kept');
    await sync.putPeer(user, name, { ...definition });
    expect(await run()).toMatchObject({ pulled: 0, merged: 0, conflicts: 0 });
  });

  test('a peer with an interval hears of a write within a second, and is asked in its time', async () => {
    const following = openSync(peer.connector, { delayMs: 20 });
    await following.putPeer(user, name, { ...definition, intervalSeconds: 1 });
    const stop = following.follow();
    await following.runDue(store.ref, { budgetMs: 1000 });
    const id = newId();
    await put(id, 1);
    following.wake(store.ref);
    const until = async (is: () => boolean | Promise<boolean>) => {
      const deadline = performance.now() + 5000;
      while (!(await is())) {
        if (performance.now() > deadline) throw new Error('it never came');
        await sleep(20);
      }
    };
    const written = performance.now();
    await until(() => peer.items.has(id));
    expect(performance.now() - written).toBeLessThan(1000);
    const other = newId();
    peer.edit(other, note('theirs'));
    await until(async () => (await read(other)).content === 'theirs');
    await stop();
    const triggers = (await sync.runs(user, { peer: name, limit: 20 })).map(({ trigger }) => trigger);
    expect(triggers).toEqual(expect.arrayContaining(['change', 'schedule']));
  });

  test('what a peer tells that no context can be is left where it is, and the rest is taken', async () => {
    const good = newId();
    peer.edit(good, note('good'));
    peer.edit('not an id', note('bad'));
    peer.edit(newId(), { ...note('x'), kind: 'NO KIND' });
    peer.edit(newId(), { ...note('x'), bytes: Buffer.from([0xff, 0xfe]) });
    peer.edit(newId(), { ...note('x'), contentType: 'application/json', bytes: Buffer.from('{"a":') });
    peer.edit(newId(), { ...note('x'), metadata: '{"a":"\\u0000"}' });
    peer.edit(newId(), { ...note('x'), metadata: '[]' });
    peer.edit(newId(), { ...note('x'), expiresMs: Number.NaN });
    const report = await run();
    expect(report).toMatchObject({ pulled: 1, skipped: 6 });
    expect((await read(good)).content).toBe('good');
  });

  test('names that only look alike are different items, and one of 10,000 characters is one', async () => {
    const graph = createFakePeer({ lens: graphLens, isWhole: true, random: () => 0.5 });
    const memory = openSync(graph.connector);
    const other = newId('peer');
    await memory.putPeer(user, other, { ...definition, type: 'mcp-memory' });
    const names = ['café', 'cafe\u0301', 'раураl', 'paypal', 'x'.repeat(10_000), '', 'a\u0000b', '\u{1f600}'];
    for (const one of names) graph.edit(entityId(one), toValue({ name: one, entityType: 't', observations: [one] }));
    expect(await memory.run(user, other, { trigger: 'request' })).toMatchObject({ pulled: names.length, skipped: 0 });
    expect(await memory.run(user, other, { trigger: 'request' })).toMatchObject({ pulled: 0, pushed: 0, merged: 0 });
    await memory.removePeer(user, other);
  });
});
