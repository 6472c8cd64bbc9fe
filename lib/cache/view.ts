import type { Reply } from '../redis/redis.ts';

/** A value in layer 1. What a hit looks at comes first, so that it lies together in memory. */
export interface Entry {
  readonly at: number;
  readonly value: unknown;
  /** From when on it is not to be served, in milliseconds since 1970; null never. */
  readonly expiresMs: number | null;
  /** How often it was served since the last report of that. */
  reads: number;
  /** The second of the clock in which its place in the order of eviction was renewed last. */
  renewedSecond: number;
  readonly kind: string;
  readonly id: string;
  readonly deps: readonly string[];
  /** What it weighs, about. */
  readonly bytes: number;
}

/** What an instance sends along with a call, and needs again when the reply comes. */
export interface Sent {
  readonly since: number;
  /** When the call was sent: a window counts from here, since the reply may have been long under way. */
  readonly sentAtMs: number;
}

/**
 * What one instance knows of one space: its layer 1 and as of which tick it is true. Pure but for itself; every reply of
 * layer 2 validates all of it. See SPEC.md for the rules (P…) and what breaks without each.
 */
export interface View {
  /** The incarnation the view is of; null before the first reply. */
  readonly inc: string | null;
  /** Layer 1 is true as of this tick. */
  readonly tick: number;
  /** When the reply that validated it last was asked for; -Infinity is never. */
  readonly validatedAtMs: number;
  /** When layer 2, as that reply told it, was last compared with PostgreSQL, by the clock here; -Infinity is never. */
  readonly verifiedAtMs: number;
  /** The highest tick written through this instance. */
  readonly own: number;
  /** What is held; a read at `nowMs` renews its place in the order of eviction. */
  find(kind: string, id: string, nowMs?: number): Entry | undefined;
  /** Keeps a value that layer 2 has accepted or found, unless a later one is there. */
  keep(entry: Entry): void;
  /** Whether a value is new enough for whoever needs the state of tick `need`. */
  isEnough(entry: { readonly at: number }, need: number, tick?: number): boolean;
  /** Before a write is acknowledged to anyone. */
  wrote(tick: number): void;
  /** Takes a reply in. Says whether it is fit to fill layer 1: a late one may answer its own reader and nothing more. */
  apply(sent: Sent, reply: Reply): boolean;
}

/** Where a view keeps its entries: bounded in bytes together with those of all other spaces. */
export interface EntryStore {
  /** What is held; a read at `nowMs` renews its place in the order of eviction. */
  find(kind: string, id: string, nowMs?: number): Entry | undefined;
  /** Puts an entry in the place of the one of its kind and id. */
  set(entry: Entry): void;
  delete(entry: Entry): void;
  clear(): void;
  /** The entries that depend on the item. */
  dependents(item: string): Iterable<Entry>;
}

export function createView(store: EntryStore): View {
  let rev = 0;
  // Plain properties, since each hit reads them.
  const view: Mutable<View> = {
    inc: null,
    tick: 0,
    validatedAtMs: Number.NEGATIVE_INFINITY,
    verifiedAtMs: Number.NEGATIVE_INFINITY,
    own: 0,
    find: store.find,
    keep(entry) {
      const before = store.find(entry.kind, entry.id);
      if (before === undefined || before.at <= entry.at) store.set(entry);
    },
    isEnough: (entry, need, asOf = view.tick) => asOf >= need || entry.at >= need,
    wrote(written) {
      view.own = Math.max(view.own, written);
    },
    apply(sent, reply) {
      if (reply.inc !== view.inc) {
        // P17: another incarnation knows nothing of the touches that came before it.
        store.clear();
        rev = reply.rev;
        view.inc = reply.inc;
        view.tick = reply.applied;
        view.validatedAtMs = sent.sentAtMs;
        view.verifiedAtMs = verifiedAt(sent, reply);
        return true;
      }
      // P19, P19b, P19c: out of Redis's order, behind layer 1, or asked from ahead of it.
      if (reply.rev < rev || reply.applied < view.tick || sent.since > view.tick) return false;
      if (reply.changed === 'reset')
        store.clear(); // P18
      else {
        for (const touch of reply.changed) {
          for (const entry of [...store.dependents(touch.item)]) if (touch.tick > entry.at) store.delete(entry);
        }
      }
      rev = reply.rev;
      view.tick = reply.applied;
      view.validatedAtMs = Math.max(view.validatedAtMs, sent.sentAtMs); // P21
      view.verifiedAtMs = Math.max(view.verifiedAtMs, verifiedAt(sent, reply));
      return true;
    },
  };
  return view;
}

type Mutable<Type> = { -readonly [Name in keyof Type]: Type[Name] };

/** When layer 2 was compared with PostgreSQL, by the clock of the instance, however far Redis's own is from it. */
function verifiedAt(sent: Sent, reply: Reply): number {
  return reply.verifiedMs === 0 ? Number.NEGATIVE_INFINITY : sent.sentAtMs - (reply.nowMs - reply.verifiedMs);
}
