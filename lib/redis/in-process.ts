import type {
  Bounds,
  Found,
  GetReply,
  GetRequest,
  NewEntry,
  Redis,
  Reply,
  StoreReply,
  StoreRequest,
  Touch,
} from './redis.ts';

/** The state of a space as Redis keeps it in two keys, which are lost together or not at all. */
interface SpaceState {
  inc: string;
  rev: number;
  applied: number;
  floor: number;
  verifiedMs: number;
  /** Item → the last tick that touched it. */
  readonly touched: Map<string, number>;
  /** Ticks stored ahead of a gap. */
  readonly marks: Set<number>;
}

interface Kept {
  inc: string;
  at: number;
  deps: readonly string[];
  body: string;
  expiresMs: number;
}

/** Layer 2 in the process, with what tests do to it. */
export interface InProcessRedis extends Redis {
  /** Loses the state of a space, as a flush does; its entries may stay behind. */
  lose(space: string, options?: { readonly entries: boolean }): void;
  /** Loses one entry, as eviction does. */
  evict(space: string, key: string): void;
  /** What is held of a space, for looking at. */
  inspect(space: string): { state: Readonly<SpaceState> | undefined; entry(key: string): Readonly<Kept> | undefined };
  /** All that is held, to fall back to later as a replica does. */
  snapshot(): Snapshot;
  restore(snapshot: Snapshot): void;
}

interface Snapshot {
  readonly states: ReadonlyMap<string, SpaceState>;
  readonly entries: ReadonlyMap<string, Kept>;
}

/**
 * The protocol's two scripts in TypeScript: the specification that the Lua scripts of `scripts.ts` are held against, and
 * layer 2 wherever there is no Redis.
 *
 * @param deps.bytesMax what the entries of all spaces together may weigh; the least recently stored go first.
 */
export function createInProcessRedis(deps: { bounds: Bounds; clock: () => number; bytesMax?: number }): InProcessRedis {
  const { bounds, clock, bytesMax = 67_108_864 } = deps;
  const states = new Map<string, SpaceState>();
  const entries = new Map<string, Kept>();
  const leases = new Map<string, number>();
  const leasesMax = 10_000;
  let openings = 0;
  let bytes = 0;

  // Characters of text are two bytes at most, and an entry has some two hundred around it.
  const weigh = (name: string, entry: Kept) => 200 + 2 * (name.length + entry.body.length);

  function remove(name: string): void {
    const entry = entries.get(name);
    if (entry === undefined) return;
    bytes -= weigh(name, entry);
    entries.delete(name);
  }

  function put(name: string, entry: Kept): void {
    remove(name);
    bytes += weigh(name, entry);
    entries.set(name, entry);
    for (const oldest of entries.keys()) {
      if (bytes <= bytesMax) break;
      remove(oldest);
    }
  }

  const slot = (space: string, key: string) => `${space}\n${key}`;

  function open(space: string, since: number, nonce: string): SpaceState {
    const known = states.get(space);
    if (known !== undefined) return known;
    const state: SpaceState = {
      // Made here for each opening: a message that is repeated after a loss must not find the old name again.
      inc: `${clock()}.${++openings}:${nonce}`,
      rev: 0,
      applied: since,
      floor: since,
      verifiedMs: 0,
      touched: new Map(),
      marks: new Set(),
    };
    states.set(space, state);
    return state;
  }

  function isUntouched(state: SpaceState, deps: readonly string[], at: number): boolean {
    return deps.every((dep) => (state.touched.get(dep) ?? 0) <= at);
  }

  function valid(state: SpaceState, space: string, key: string): Kept | undefined {
    const entry = entries.get(slot(space, key));
    if (entry === undefined || entry.expiresMs <= clock()) return undefined;
    return entry.inc === state.inc && entry.at >= state.floor && isUntouched(state, entry.deps, entry.at)
      ? entry
      : undefined;
  }

  function changedSince(state: SpaceState, since: number): readonly Touch[] | 'reset' {
    if (since < state.floor) return 'reset';
    const changed = [...state.touched].filter(([, tick]) => tick > since).map(([item, tick]) => ({ item, tick }));
    return changed.length > bounds.listed ? 'reset' : changed;
  }

  function reply(state: SpaceState, since: number): Reply {
    const { inc, rev, applied, verifiedMs } = state;
    return { inc, rev, applied, verifiedMs, nowMs: clock(), changed: changedSince(state, since) };
  }

  /** Forgets the oldest touches beyond the bound; what is older than the floor is a miss from then on. */
  function trim(state: SpaceState): void {
    const excess = state.touched.size - bounds.items;
    for (const [item, touchedAt] of excess > 0 ? oldestOf(state.touched, excess) : []) {
      state.touched.delete(item);
      state.floor = Math.max(state.floor, touchedAt);
    }
    for (const [item, tick] of state.touched) if (tick <= state.floor) state.touched.delete(item);
  }

  function keep(state: SpaceState, space: string, token: string | null, entry: NewEntry): boolean {
    const { key, at, deps: items, body, ttlMs } = entry;
    if (token !== state.inc || at < state.floor || !isUntouched(state, items, at)) return false;
    const before = valid(state, space, key);
    if (before !== undefined && before.at > at) return false;
    put(slot(space, key), { inc: state.inc, at, deps: items, body, expiresMs: clock() + ttlMs });
    return true;
  }

  function lease(space: string, key: string, leaseMs: number): Found {
    if (leaseMs === 0) return 'missing';
    const until = leases.get(slot(space, key)) ?? 0;
    if (until > clock()) return 'held';
    // A loader that failed leaves its lease behind.
    if (leases.size > leasesMax) for (const [name, ends] of leases) if (ends <= clock()) leases.delete(name);
    leases.set(slot(space, key), clock() + leaseMs);
    return 'granted';
  }

  return {
    async get(space: string, request: GetRequest): Promise<GetReply> {
      const state = open(space, request.since, request.nonce);
      let bodyBytes = 0;
      const found = request.keys.map((key, index): Found => {
        const entry = valid(state, space, key);
        if (entry === undefined) return lease(space, key, request.leaseMs);
        bodyBytes += Buffer.byteLength(entry.body);
        if (index > 0 && bodyBytes > bounds.replyBytes) return 'missing';
        const at = Math.max(entry.at, state.applied);
        // Renewal keeps a living entry above the floor; written back rarely, since it is a write.
        if (at - entry.at > bounds.items / 2) entry.at = at;
        return { at, deps: entry.deps, body: entry.body };
      });
      return { ...reply(state, request.since), found };
    },

    async store(space: string, request: StoreRequest): Promise<StoreReply> {
      const state = open(space, request.since, request.nonce);
      state.rev += 1;
      for (const { item, tick } of request.changes) {
        if (item === '*') state.floor = Math.max(state.floor, tick);
        else state.touched.set(item, Math.max(state.touched.get(item) ?? 0, tick));
      }
      if (request.from <= state.applied) {
        state.applied = Math.max(state.applied, request.to);
        state.verifiedMs = Math.max(state.verifiedMs, request.gotAtMs);
      } else {
        for (let tick = request.from + 1; tick <= request.to && state.marks.size < bounds.marks; tick++)
          state.marks.add(tick);
      }
      while (state.marks.has(state.applied + 1)) state.applied += 1;
      for (const tick of state.marks) if (tick <= state.applied) state.marks.delete(tick);
      trim(state);
      const accepted = request.entries.map((entry) => keep(state, space, request.token, entry));
      for (const { key } of request.entries) leases.delete(slot(space, key));
      for (const key of request.erased) {
        remove(slot(space, key));
        leases.delete(slot(space, key));
      }
      return { ...reply(state, request.since), accepted };
    },

    async purge(space, prefixes) {
      const isNamed = (name: string) =>
        prefixes === 'all'
          ? name.startsWith(slot(space, ''))
          : prefixes.some((one) => name.startsWith(slot(space, one)));
      const gone = [...entries.keys()].filter(isNamed);
      for (const name of gone) remove(name);
      if (prefixes === 'all') {
        states.delete(space);
        for (const name of [...leases.keys()].filter(isNamed)) leases.delete(name);
      }
      return gone.length;
    },

    async ping() {},

    lose(space, { entries: withEntries } = { entries: false }) {
      states.delete(space);
      if (!withEntries) return;
      for (const key of entries.keys()) if (key.startsWith(`${space}\n`)) remove(key);
    },

    evict: (space, key) => remove(slot(space, key)),

    inspect: (space) => ({ state: states.get(space), entry: (key) => entries.get(slot(space, key)) }),

    snapshot: () => structuredClone({ states, entries }),

    restore(snapshot) {
      states.clear();
      for (const name of [...entries.keys()]) remove(name);
      for (const [space, state] of structuredClone(snapshot.states)) states.set(space, state);
      for (const [key, entry] of structuredClone(snapshot.entries)) put(key, entry);
    },
  };
}

/** The `count` oldest touches: in one pass where they are few, as they mostly are; by sorting where a batch brought many. */
function oldestOf(touched: ReadonlyMap<string, number>, count: number): (readonly [string, number])[] {
  const order = (left: readonly [string, number], right: readonly [string, number]) => (isOlder(left, right) ? -1 : 1);
  if (count > 8) return [...touched].sort(order).slice(0, count);
  const oldest: (readonly [string, number])[] = [];
  for (const touch of touched) {
    const last = oldest.at(-1);
    if (oldest.length === count && last !== undefined && !isOlder(touch, last)) continue;
    oldest.push(touch);
    oldest.sort(order);
    oldest.length = Math.min(oldest.length, count);
  }
  return oldest;
}

// Of items touched by one tick the first by name, as a sorted set has them.
function isOlder([item, tick]: readonly [string, number], [other, than]: readonly [string, number]): boolean {
  return tick < than || (tick === than && item < other);
}
