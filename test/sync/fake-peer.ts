import { Problem } from '../../lib/base/problem.ts';
import { readValue, toValue } from '../../lib/memory/peer-lens.ts';
import type { Connector, PeerSession, Push, Pushed, Reading } from '../../lib/sync/peer.ts';
import type { Lens, Value } from '../../lib/sync/value.ts';

/** What may go wrong with a peer, each with its likelihood at each call, 0–1. */
export interface PeerFaults {
  /** It does not answer. */
  readonly away: number;
  /** It does what it is told, and its answer is lost. */
  readonly mute: number;
  /** It says that it took a change, and has not. */
  readonly lie: number;
  /** Somebody writes on either side between two calls. */
  readonly meanwhile: number;
  /** It tells of changes twice, in another order, and of some that are none. */
  readonly shuffle: number;
}

export const noFaults: PeerFaults = { away: 0, mute: 0, lie: 0, meanwhile: 0, shuffle: 0 };

/** A store of another program, which people write to as well. */
export interface FakePeer {
  readonly connector: Connector;
  readonly items: ReadonlyMap<string, Value>;
  /** A write of its own users; null deletes. Refused (false) where a tree forbids it. */
  edit(id: string, value: Value | null): boolean;
  setFaults(faults: PeerFaults): void;
  /** What happens between two calls. */
  onMeanwhile(work: () => Promise<void>): void;
}

/**
 * @param deps.isWhole whether it tells all it has each time, as a memory server does; otherwise it has a change feed, a tree and
 *   preconditions, as a Lamina has.
 */
export function createFakePeer(deps: {
  lens: Lens;
  isWhole: boolean;
  random: () => number;
  /** The root of the subtree that is synchronised. */
  root?: string | undefined;
}): FakePeer {
  const { lens, isWhole, random, root } = deps;
  const items = new Map<string, Value>();
  const stamps = new Map<string, number>();
  const times = new Map<string, number>();
  const log: string[] = [];
  let faults = noFaults;
  let meanwhile = async () => {};
  const happens = (likelihood: number) => random() < likelihood;

  function put(id: string, value: Value | null): void {
    if (value === null) items.delete(id);
    else items.set(id, value);
    stamps.set(id, (stamps.get(id) ?? 0) + 1);
    times.set(id, Date.now());
    log.push(id);
  }

  const isWithin = (id: string) => isBelow(items, id, root);

  /** Why the tree forbids a write; undefined where it does not. */
  function refuse(id: string, value: Value | null): 'children' | 'parent' | undefined {
    if (isWhole) return undefined;
    if (value === null) return [...items.values()].some(({ parentId }) => parentId === id) ? 'children' : undefined;
    for (let at = value.parentId; at !== null; at = items.get(at)?.parentId ?? null) {
      if (at === id || !items.has(at)) return 'parent';
    }
    return undefined;
  }

  async function between(): Promise<void> {
    if (happens(faults.away)) throw new Problem('unavailable', 'away');
    if (happens(faults.meanwhile)) await meanwhile();
  }
  const silence = () => {
    if (happens(faults.mute)) throw new Problem('unavailable', 'mute');
  };

  async function open(): Promise<PeerSession> {
    if (happens(faults.away)) throw new Problem('unavailable', 'away');
    const seen = new Map<string, number>();
    const look = (id: string) => seen.set(id, stamps.get(id) ?? 0);

    async function pushOne({ id, from, to }: Push): Promise<Pushed> {
      await between();
      // What a memory server does not have, a Lamina has: it refuses who has not seen the newest.
      if (!isWhole && seen.get(id) !== (stamps.get(id) ?? 0)) return { refused: 'somebody was faster' };
      const parent = to?.parentId ?? null;
      const isLost = parent !== null && parent !== root && items.has(parent) && !isWithin(parent);
      const refusal = isLost ? 'parent' : refuse(id, to);
      if (refusal !== undefined) return { refused: refusal, isPlace: refusal === 'parent' };
      if (!happens(faults.lie)) put(id, isWhole ? rebase(from, to, items.get(id) ?? null) : to);
      look(id);
      return { value: items.get(id) ?? null };
    }

    return {
      lens,
      async survey(since) {
        await between();
        const found = new Map<string, string | null | undefined>();
        if (isWhole || since === null) {
          for (const [id, value] of items) if (isWithin(id)) found.set(id, lens.fingerprint(value));
          return { isWhole: true, items: found, cursor: String(log.length), refused: [] };
        }
        const from = happens(faults.shuffle) ? Math.max(Number(since) - 5, 0) : Number(since);
        const changed = log.slice(from);
        if (happens(faults.shuffle)) changed.reverse();
        for (const id of changed) found.set(id, items.has(id) ? undefined : null);
        return { isWhole: false, items: found, cursor: String(log.length), refused: [] };
      },
      async read(ids) {
        await between();
        // Sometimes there is room for some of them only.
        const count = happens(faults.shuffle) ? 1 + Math.floor(random() * ids.length) : ids.length;
        return new Map(
          ids.slice(0, count).map((id): [string, Reading] => {
            look(id);
            const value = items.get(id);
            // A memory server tells no times.
            const updatedMs = isWhole ? Number.POSITIVE_INFINITY : (times.get(id) ?? 0);
            if (value === undefined) return [id, { held: null, goneMs: updatedMs }];
            if (!isWithin(id)) return [id, { held: null, goneMs: updatedMs, isOutside: true }];
            return [id, { held: { value, updatedMs }, version: stamps.get(id) ?? 0 }];
          }),
        );
      },
      async below(of) {
        await between();
        return [...items.keys()].filter((id) => id !== of && isBelow(items, id, of));
      },
      async push(changes) {
        const done = new Map<string, Pushed>();
        for (const change of changes) done.set(change.id, await pushOne(change));
        silence();
        // It is read back at the end, whatever has happened since.
        for (const [id, pushed] of done) if ('value' in pushed) done.set(id, { value: items.get(id) ?? null });
        return done;
      },
      close: async () => {},
    };
  }

  return {
    connector: { lensOf: () => lens, open },
    items,
    edit(id, value) {
      if (refuse(id, value) !== undefined) return false;
      put(id, value);
      return true;
    },
    setFaults(next) {
      faults = next;
    },
    onMeanwhile(work) {
      meanwhile = work;
    },
  };
}

/**
 * What a memory server makes of a change of observations where others have been written meanwhile: its tools add and delete
 * them one by one. Where an entity is deleted or given another type it has no such tool, and what was written between the
 * reading and that call goes with it (SPEC.md, L1); here it is kept, so that everything else can be told from it.
 */
function rebase(from: Value | null, to: Value | null, now: Value | null): Value | null {
  if (now === null || to === null) return to === null && isSame(from, now) ? null : (to ?? now);
  const [was, next, current] = [from, to, now].map((value) => value && readValue(value));
  if (!next || !current || !('name' in next) || !('name' in current)) return to;
  const before = was && 'name' in was ? was : { ...next, observations: [] };
  const [had, has] = [new Set(before.observations), new Set(next.observations)];
  const kept = current.observations.filter((one) => has.has(one) || !had.has(one));
  const added = next.observations.filter((one) => !had.has(one));
  const entityType = before.entityType === next.entityType ? current.entityType : next.entityType;
  return toValue({ name: next.name, entityType, observations: [...new Set([...kept, ...added])] });
}

const isSame = (left: Value | null, right: Value | null) =>
  left !== null && right !== null && Buffer.compare(left.bytes, right.bytes) === 0;

/** Whether an item is `root` or lies below it; anything does where there is none. */
export function isBelow(items: ReadonlyMap<string, Value>, id: string, root: string | undefined): boolean {
  if (root === undefined) return true;
  for (let at: string | null = id; at !== null; at = items.get(at)?.parentId ?? null) if (at === root) return true;
  return false;
}
