import { systemClock } from '../../lib/base/clock.ts';
import { Problem } from '../../lib/base/problem.ts';
import { settingsSchema } from '../../lib/config/settings.ts';
import type { Context } from '../../lib/contexts/context.ts';
import { entityId, relationId } from '../../lib/contexts/node-ids.ts';
import type { Operation } from '../../lib/contexts/operation.ts';
import type { RequestContext } from '../../lib/contexts/request.ts';
import type { Entity } from '../../lib/memory/graph.ts';
import { graphLens, readValue, toValue } from '../../lib/memory/peer-lens.ts';
import type { Database } from '../../lib/postgres/database.ts';
import type { SyncStrategy } from '../../lib/sync/join.ts';
import { createSync as createSyncHere, type Sync } from '../../lib/sync/sync.ts';
import { createWholeLens, type Lens, type Value } from '../../lib/sync/value.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { openStore, type TestStore } from '../support/client.ts';
import type { TestEngine } from '../support/engines.ts';
import { intercept } from '../support/intercept.ts';
import { createFakePeer, type FakePeer, isBelow, noFaults, type PeerFaults } from './fake-peer.ts';

/** A store whose calls can be cut off, as if its process were killed. */
export interface Cuttable {
  readonly store: TestStore;
  readonly database: Database;
  /** From the call after so many on, nothing is answered; the first of these may still be carried out. Undefined heals. */
  cut(after: number | undefined, isCarriedOut?: boolean): void;
}

export async function openCuttable(engine: TestEngine): Promise<Cuttable> {
  let left: number | undefined;
  let carriesOut = false;
  const dead = () => new Problem('unavailable', 'killed');
  const database = intercept(await engine.open(), async (run) => {
    if (left === undefined) return run();
    if (left < 0) throw dead();
    if (left-- > 0) return run();
    // Nobody hears of the last call.
    if (carriesOut) await run();
    throw dead();
  });
  const store = await openStore(engine, { database });
  return {
    store,
    database,
    cut(after, isCarriedOut = false) {
      left = after;
      carriesOut = isCarriedOut;
    },
  };
}

/** One world: a space of its own and two peers, with many items that each have a history of their own. */
export interface World {
  readonly strategy: SyncStrategy;
  /** What each peer is: one that holds entities and relations alone, or one that holds contexts whole, in a tree. */
  readonly peers: readonly [PeerKind, PeerKind];
  readonly items: number;
  readonly rounds: number;
  readonly faults: PeerFaults;
  /** How likely a run is cut off. */
  readonly cuts: number;
  /** Only what lies below one context is synchronised; people move things over its edge on all sides. */
  readonly isSubtree?: boolean;
}
type PeerKind = 'graph' | 'whole';

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const settings = settingsSchema.parse({ sync: { brakeShare: 1, brakeItems: 1_000_000 } });
let worlds = 0;

/**
 * Lets people write on all three sides, runs both peers with faults and cuts in between, then without, settles what is in
 * conflict, and looks whether all sides are equal and nothing that was written and acknowledged is lost: each thing written
 * is a word of its own, so that it can be found again.
 *
 * @param createSync the code under test; mutants bring their own.
 * @returns what happened, for whoever wants to know that something did.
 * @throws Error that names the seed.
 */
export async function simulate(
  { store, database, cut }: Cuttable,
  world: World,
  seed: number,
  createSync: typeof createSyncHere = createSyncHere,
) {
  const random = generator(seed);
  const pick = <One>(from: readonly One[]): One => from[Math.floor(random() * from.length)] as One;
  const happens = (likelihood: number) => random() < likelihood;
  const space = `world-${++worlds}-${process.pid}`;
  const made = await store.send('POST', '/v1/spaces', { body: { name: space }, token: store.ownerToken });
  const { slot } = await store.manager.access.credentials.authenticate(made.json.key.token);
  const user: RequestContext = { space, slot, actor: { kind: 'api', id: 'user' }, seq: 0, noCache: true };
  const { contexts } = store.manager;
  const isGraph = world.peers.includes('graph');
  const root = world.isSubtree ? 'root' : undefined;
  const wholeLens = createWholeLens(root);
  const lensOf = (kind: PeerKind): Lens => (kind === 'graph' ? graphLens : wholeLens);
  const peers = world.peers.map((kind) =>
    createFakePeer({ lens: lensOf(kind), isWhole: kind === 'graph', random, root }),
  );
  const trail: string[] = [];
  const fail = (what: string) => new Error(`seed ${seed}: ${what}\n${trail.slice(-400).join('\n')}`);
  const seen = { runs: 0, cut: 0, failed: 0, conflicts: 0, edits: 0 };

  // What was written by people: which item it belongs to, and whether people have taken it away again.
  const words = new Map<string, string>();
  const removed = new Set<string>();
  const inConflict = new Set<string>();
  let word = 0;
  const newWord = (id: string) => {
    const one = `w${++word}`;
    words.set(one, id);
    return one;
  };
  const wordsOf = (value: Value | null): string[] =>
    value === null
      ? []
      : (Buffer.from(value.bytes)
          .toString()
          .match(/\bw\d+\b/g) ?? []);

  const names = Array.from({ length: world.items }, (_, at) => `item-${at}`);
  const ids = isGraph
    ? [
        ...names.map(entityId),
        ...names.slice(1).map((to, at) => relationId({ from: names[at] as string, to, relationType: 'next' })),
      ]
    : names;

  /** What a person makes of an item; undefined is nothing. */
  function edit(at: number, before: Value | null, parents: readonly string[]): Value | null | undefined {
    const id = ids[at] as string;
    if (at >= world.items) {
      const from = at - world.items;
      return before === null
        ? toValue({ from: names[from] as string, to: names[from + 1] as string, relationType: 'next' })
        : null;
    }
    if (isGraph) return editEntity(id, names[at] as string, before);
    if (before !== null && happens(0.12)) return null;
    if (before !== null && happens(root === undefined ? 0.15 : 0.3))
      return { ...before, parentId: happens(0.3) ? null : pick([...parents, ...tops]) };
    return at % 3 === 0 ? editText(id, before) : editJson(id, before);
  }
  function editEntity(id: string, name: string, before: Value | null): Value | null {
    if (before === null) return toValue({ name, entityType: 'A', observations: [newWord(id)] });
    const entity = readValue(before) as Entity;
    const { observations } = entity;
    if (happens(0.1)) return null;
    if (happens(0.08)) return toValue({ ...entity, entityType: pick(['A', 'B', 'C']) });
    if (observations.length > 0 && happens(0.25)) {
      const gone = pick(observations);
      return toValue({ ...entity, observations: observations.filter((one) => one !== gone) });
    }
    return toValue({ ...entity, observations: [...observations, newWord(id)] });
  }
  // Where what has no parent of its own comes to stand; with a subtree nothing at all is outside of it.
  const tops = root === undefined ? [null] : [root, root, root, null];
  const blank = () => ({ kind: 'note', metadata: '{}', parentId: pick(tops), expiresMs: null });
  function editJson(id: string, before: Value | null): Value {
    const members = before === null ? {} : (JSON.parse(Buffer.from(before.bytes).toString()) as Record<string, string>);
    const name = pick(['a', 'b', 'c', 'd', 'e']);
    if (name in members && happens(0.3)) delete members[name];
    else members[name] = newWord(id);
    const metadata = happens(0.1) ? `{"tags": ["${newWord(id)}"]}` : (before?.metadata ?? '{}');
    return {
      ...blank(),
      ...before,
      contentType: 'application/json',
      bytes: Buffer.from(JSON.stringify(members)),
      metadata,
    };
  }
  function editText(id: string, before: Value | null): Value {
    const lines = before === null ? [] : Buffer.from(before.bytes).toString().split('\n').filter(Boolean);
    const place = Math.floor(random() * (lines.length + 1));
    if (lines.length > 3 && happens(0.3)) lines.splice(Math.min(place, lines.length - 1), 1);
    else lines.splice(place, 0, newWord(id));
    return {
      ...blank(),
      ...before,
      contentType: 'text/plain',
      bytes: Buffer.from(lines.map((line) => `${line}\n`).join('')),
    };
  }

  /** Notes what an edit took away, when it is known to have been made. */
  function account(before: Value | null, after: Value | null): void {
    seen.edits++;
    const kept = new Set([...wordsOf(after), ...(after === null ? [] : (after.metadata.match(/\bw\d+\b/g) ?? []))]);
    const had = [...wordsOf(before), ...(before?.metadata.match(/\bw\d+\b/g) ?? [])];
    for (const one of had) if (!kept.has(one)) removed.add(one);
  }

  const lens = isGraph ? graphLens : wholeLens;
  async function ours(): Promise<Map<string, { value: Value | null; head: Context | null }>> {
    const found = new Map<string, { value: Value | null; head: Context | null }>();
    for (let at = 0; at < ids.length; at += 400) {
      const some = ids.slice(at, at + 400);
      const { value } = await contexts.readExact(
        user,
        some.map((id) => ({ id })),
      );
      some.forEach((id, place) => {
        const head = value[place] ?? null;
        found.set(id, { head, value: head?.state === 'live' ? (lens.view(head) ?? null) : null });
      });
    }
    return found;
  }

  /** People write here: some items, each if nobody else has meanwhile. */
  async function editOurs(count: number): Promise<void> {
    const now = await ours();
    const live = [...now].flatMap(([id, { value }]) => (value === null ? [] : [id]));
    const changes: { before: Value | null; after: Value | null; operation: Operation; added: string[] }[] = [];
    for (const at of some(count)) {
      const id = ids[at] as string;
      const { value: before, head } = now.get(id) ?? { value: null, head: null };
      const known = word;
      const after = edit(
        at,
        before,
        live.filter((one) => one !== id),
      );
      if (after === undefined) continue;
      const added = [...words.keys()].filter((one) => Number(one.slice(1)) > known);
      const ifVersion = head?.version ?? 0;
      const operation: Operation =
        after === null
          ? { op: 'delete', id, children: 'fail', ifVersion }
          : { ...lens.toPut(id, after, head, undefined), ifVersion };
      changes.push({ before, after, operation, added });
    }
    if (changes.length === 0) return;
    const answer = await contexts.write(
      user,
      changes.map(({ operation }) => operation),
      { atomic: false },
    );
    if (answer.outcome !== 'done') throw fail('the write was refused as a whole');
    for (const { index, outcome } of answer.results) {
      const { before, after, added, operation } = changes[index] as (typeof changes)[number];
      const isDone = outcome === 'created' || outcome === 'updated' || outcome === 'deleted';
      trail.push(`ours ${operation.id.slice(0, 16)} ${outcome} ${show(after)}`);
      if (isDone) account(before, after);
      // What was refused was never written.
      else for (const one of added) words.delete(one);
    }
  }

  function editTheirs(of: FakePeer, count: number): void {
    for (const at of some(count)) {
      const id = ids[at] as string;
      const before = of.items.get(id) ?? null;
      const known = word;
      const after = edit(
        at,
        before,
        [...of.items.keys()].filter((one) => one !== id),
      );
      if (after === undefined) continue;
      const isDone = of.edit(id, after);
      trail.push(`peer${peers.indexOf(of)} ${id.slice(0, 16)} ${isDone} ${show(after)}`);
      if (isDone) account(before, after);
      else for (const one of [...words.keys()].filter((each) => Number(each.slice(1)) > known)) words.delete(one);
    }
  }
  const show = (value: Value | null) =>
    value === null ? 'gone' : `${Buffer.from(value.bytes).toString().replaceAll('\n', ' ')} <${value.parentId}`;
  const some = (count: number) => new Set(Array.from({ length: count }, () => Math.floor(random() * ids.length)));

  // Ids that are the same for the same seed, so that what is listed by them comes in the same order.
  let numbers = 0;
  const numbered = {
    sortable: () => String(++numbers).padStart(26, '0'),
    random: (length: number) => String(++numbers).padStart(length, '0'),
  };
  let sync: Sync;
  const open = () => {
    const connectors = { lamina: (peers[0] as FakePeer).connector, 'mcp-memory': (peers[1] as FakePeer).connector };
    const { feed } = store.manager;
    sync = createSync({
      database,
      contexts,
      feed,
      connectors,
      mayStartCommands: true,
      settings,
      telemetry: noTelemetry,
      clock: systemClock,
      ids: numbered,
    });
  };
  open();
  for (const [at, type] of (['lamina', 'mcp-memory'] as const).entries()) {
    const transport = { url: `http://127.0.0.1/${at}` };
    await sync!.putPeer(user, `peer-${at}`, {
      type,
      transport,
      strategy: world.strategy,
      direction: 'both',
      subtree: root,
    });
  }
  if (root !== undefined) {
    const { value } = {
      value: { ...blank(), parentId: null, contentType: 'application/json', bytes: Buffer.from('{}') },
    };
    await contexts.write(user, [lens.toPut(root, value, null, undefined)], { atomic: true });
    for (const peer of peers) peer.edit(root, value);
  }

  async function run(at: number, isFaulty: boolean) {
    const name = `peer-${at}`;
    const peer = peers[at] as FakePeer;
    const isCut = isFaulty && happens(world.cuts);
    peer.setFaults(isFaulty ? { ...world.faults, meanwhile: isCut ? 0 : world.faults.meanwhile } : noFaults);
    if (isCut) cut(Math.floor(random() * 12), happens(0.5));
    seen.runs++;
    const report = await sync.run(user, name, { trigger: 'request' }).catch((error) => {
      if (!(error instanceof Problem)) throw error;
      trail.push(`run ${name} ${error.code} ${error.message} ${error.cause ?? ''}`);
      seen.failed++;
      return undefined;
    });
    if (isCut) {
      seen.cut++;
      cut(undefined);
      // Another process comes, when the lease of the one that was killed is over.
      await database
        .in(user)
        .run([{ text: `update peer set run_until = null where space_id = $1 and name = $2`, params: [space, name] }]);
      open();
    }
    if (report) trail.push(`run ${name} ${JSON.stringify({ ...report, left: report.left.slice(0, 3) })}`);
    return report;
  }

  for (const peer of peers) {
    peer.onMeanwhile(async () => {
      if (happens(0.5)) await editOurs(2);
      else editTheirs(peer, 2);
    });
  }

  for (let round = 0; round < world.rounds; round++) {
    await editOurs(Math.ceil(world.items / 4));
    for (const peer of peers) editTheirs(peer, Math.ceil(world.items / 4));
    for (const at of happens(0.5) ? [0, 1] : [1, 0]) {
      if (happens(0.8)) await run(at, true);
      if (happens(0.2)) await run(at, true);
    }
  }

  /** Runs without faults until nothing moves any more. */
  async function settle(): Promise<unknown[]> {
    for (let round = 0; round < 16; round++) {
      let moved = 0;
      let left: unknown[] = [];
      for (const at of [0, 1]) {
        const report = await run(at, false);
        if (report === undefined) throw fail('a run without faults failed');
        moved += report.pulled + report.pushed + report.merged;
        left = [...left, ...report.left];
      }
      if (moved === 0) return left;
    }
    throw fail('the sides never come to rest');
  }

  let left = await settle();
  for (let round = 0; ; round++) {
    const { items } = await sync!.conflicts.list(user, { isOpen: true, limit: 1000 });
    if (items.length === 0) break;
    if (round > 6) throw fail('conflicts never end');
    for (const { id, contextId, paths } of items) {
      seen.conflicts++;
      inConflict.add(contextId);
      const choose = pick(['ours', 'theirs', 'both'] as const);
      trail.push(`conflict ${contextId.slice(0, 16)} ${choose} ${JSON.stringify(paths)}`);
      await sync!.conflicts.resolve(user, id, { choose }).catch((error) => {
        // What others have written since is for the next run to find.
        if (
          !(error instanceof Problem) ||
          !['version_conflict', 'has_children', 'parent_not_found'].includes(error.code)
        )
          throw error;
        trail.push(`not settled: ${error.message}`);
      });
    }
    left = await settle();
  }
  // What one side has outside of the subtree and another within stays as it is, until people settle that.
  const isApart = (id: string) => root !== undefined && left.some((one) => (one as { id: string }).id === id);
  if (left.length > 0 && root === undefined) throw fail(`nobody can settle ${JSON.stringify(left)}`);

  const final = await ours();
  const live = new Map([...final].flatMap(([id, { value }]) => (value === null ? [] : [[id, value] as const])));
  for (const id of ids) {
    if (isApart(id)) continue;
    const head = final.get(id)?.head ?? null;
    const mine = isBelow(live, id, root) ? head : null;
    for (const [at, peer] of peers.entries()) {
      const of = lensOf(world.peers[at] as PeerKind);
      const value = mine?.state === 'live' ? of.view(mine) : undefined;
      const theirs = isBelow(peer.items, id, root) ? peer.items.get(id) : undefined;
      const [left, right] = [value, theirs].map((one) => (one ? of.fingerprint(one) : null));
      if (left !== right)
        throw fail(`peer ${at} differs in ${id}: ${show(value ?? null)} | ${show(peer.items.get(id) ?? null)}`);
    }
  }

  const kept = await history();
  for (const [one, id] of words) {
    if (removed.has(one)) continue;
    const { value, head } = final.get(id) ?? { value: null, head: null };
    const isThere = wordsOf(value).includes(one) || head?.metadata.includes(`"${one}"`);
    const isAt = ({ items }: FakePeer) =>
      wordsOf(items.get(id) ?? null).includes(one) || items.get(id)?.metadata.includes(`"${one}"`);
    if (isThere || (root !== undefined && peers.some(isAt))) continue;
    const mayBeOverruled =
      root !== undefined ||
      world.strategy === 'latest' ||
      world.strategy === 'intersection' ||
      inConflict.has(id) ||
      (world.strategy === 'union' && !isGraph);
    if (!mayBeOverruled) throw fail(`${one} of ${id} is lost: ${show(value)}`);
    if (!kept.get(id)?.has(one)) throw fail(`${one} of ${id} is not even in the history: ${show(value)}`);
  }
  return { ...seen, items: ids.length, words: words.size };

  /** All words that any version of an item ever held here. */
  async function history(): Promise<Map<string, Set<string>>> {
    const [rows = []] = await database.in(user).run([
      {
        text: `select v.id, convert_from(p.bytes, 'UTF8') as content, v.metadata::text as metadata from context_version v
          join content p on p.space_id = v.space_id and p.hash = v.hash where v.space_id = $1`,
        params: [space],
      },
    ]);
    const found = new Map<string, Set<string>>();
    for (const row of rows) {
      const all = found.get(String(row['id'])) ?? new Set();
      for (const one of `${row['content']} ${row['metadata']}`.match(/\bw\d+\b/g) ?? []) all.add(one);
      found.set(String(row['id']), all);
    }
    return found;
  }
}
