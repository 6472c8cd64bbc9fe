import type { GetReply } from '../redis/redis.ts';
import type { Kind } from './kind.ts';
import type { Entry, View } from './view.ts';

/** Where a value came from. */
export type Layer = 'l1' | 'l2' | 'l3' | 'origin';

/** Values as PostgreSQL gave them in one snapshot, in the order asked. */
export interface Loaded<Value> {
  readonly values: readonly {
    readonly value: Value;
    readonly deps: readonly string[];
    /** Not the whole value, or not worth keeping, and so for this answer alone. */
    readonly isPassing?: boolean;
    /** Whether layer 3 had it. */
    readonly isFromLayer3?: boolean;
  }[];
  /** Entries of layer 3 that could not be read. */
  readonly unreadable?: number;
  /** The clock of that snapshot. */
  readonly seq: number;
  /** Every touch of the ticks after the one asked for up to `seq`; `too long` where they are too many or no longer kept. */
  readonly feed: readonly { readonly item: string; readonly tick: number }[] | 'too long';
}

export interface Cached<Value> {
  readonly values: readonly Value[];
  /** A tick as of which all of them are true. */
  readonly seq: number;
  /** Where each came from. */
  readonly layers: readonly Layer[];
  /** How long ago they were compared with PostgreSQL, at the latest, in milliseconds. */
  readonly ageMs: number;
  /** How long layer 2 would serve them on without a comparison, in milliseconds, negative for stale ones. */
  readonly ttlMs?: number;
  /** Whether what came from the origin is in the caches now. */
  readonly isStored?: boolean;
  /**
   * Why layer 2 gave none of them, where it was not simply asked and had none; `stale` where PostgreSQL is away and the
   * bounds of consistency do not hold.
   */
  readonly detail?: 'bypass' | 'unavailable' | 'stale';
}

/** A value of layer 1 that an answer without PostgreSQL is only good for as long as it stands. */
export interface ReliedOn {
  readonly kind: string;
  readonly id: string;
  readonly value: unknown;
}

/** What is asked for, and what it needs. */
export interface Asked<Value> {
  readonly view: View;
  readonly kind: Kind<Value>;
  readonly ids: readonly string[];
  /** The tick the answer must not be older than. */
  readonly need: number;
  readonly beganMs: number;
  /** What layer 1 must still hold, validated in time, for an answer without PostgreSQL. */
  readonly reliesOn: ReliedOn | undefined;
}

/** One read that layer 1 did not answer at once. */
export interface Reading<Value> extends Asked<Value> {
  readonly slot: string;
  readonly keys: readonly string[];
  /** Whether it may be answered beyond the bounds while PostgreSQL is away. */
  readonly isLenient: boolean;
  readonly load: (ids: readonly string[], feedAfter: number | null) => Promise<Loaded<Value>>;
}

const oneFromLayer1: readonly Layer[] = ['l1'];

/** Makes answers of what the layers hold, or nothing where one value is missing or may not be served. */
export interface Answers {
  /** One value from layer 1 as of tick `need`, if nothing else has to be true of it. */
  find1<Value>(
    view: View,
    kind: Kind<Value>,
    id: string,
    need: number,
    nowMs: number,
  ): (Entry & { readonly value: Value }) | undefined;
  /** All values from layer 1. */
  fromLayer1<Value>(asked: Asked<Value>): Cached<Value> | undefined;
  /** All values from a reply of layer 2. */
  fromLayer2<Value>(reading: Reading<Value>, got: GetReply, isFit: boolean): Cached<Value> | undefined;
  fromOrigin<Value>(loaded: Loaded<Value>): Cached<Value>;
  /** With PostgreSQL away: what the layers hold and nothing has contradicted; `got` where layer 2 has answered. */
  fromBeyond<Value>(reading: Reading<Value>, got: GetReply | null): Cached<Value> | undefined;
  /** Whether layer 1 is served from unchecked. */
  isInWindow(view: View, nowMs?: number): boolean;
  /** Whether layer 2 was compared with PostgreSQL lately enough to be served from. */
  isVerified(reply: GetReply): boolean;
  isFresh<Value>(kind: Kind<Value>, value: Value): boolean;
  /** Whether what the read relies on is what layer 1 holds, as validated within the window or since the read began. */
  isConfirmed(asked: Pick<Asked<unknown>, 'view' | 'reliesOn' | 'beganMs'>): boolean;
  decode<Value>(slot: string, kind: Kind<Value>, id: string, text: string): { readonly value: Value } | undefined;
  /** What a value is in layer 1. */
  toEntry<Value>(kind: Kind<Value>, id: string, at: number, deps: readonly string[], value: Value): Entry;
}

/**
 * @param deps.verifyMs how long after its last comparison with PostgreSQL layer 2 is served from.
 * @param deps.onUnreadable hears of entries of layer 2 that are damaged, foreign or of another format.
 */
export function createAnswers(deps: {
  clock: () => number;
  windowMs: number;
  verifyMs: number;
  graceMs: number;
  onUnreadable: (slot: string, kind: string) => void;
}): Answers {
  const { clock, windowMs, verifyMs, graceMs, onUnreadable } = deps;

  const age = (sinceMs: number) => Math.max(clock() - sinceMs, 0);
  // Validated by a layer 2 that nobody has compared with PostgreSQL for long, it vouches for nothing; whoever finds that
  // out first repairs it, and has a window's time to.
  function isInWindow(view: View, nowMs = clock()): boolean {
    return nowMs - view.validatedAtMs < windowMs && nowMs - view.verifiedAtMs <= verifyMs + windowMs;
  }

  function isFresh<Value>(kind: Kind<Value>, value: Value): boolean {
    const expiresMs = kind.expiresMs(value);
    return expiresMs === null || clock() < expiresMs;
  }

  /** Whether layer 1 still holds what the read relies on. */
  const isStanding = ({ view, reliesOn }: Pick<Asked<unknown>, 'view' | 'reliesOn'>) =>
    reliesOn === undefined || view.find(reliesOn.kind, reliesOn.id)?.value === reliesOn.value;

  function isConfirmed({ view, reliesOn, beganMs }: Pick<Asked<unknown>, 'view' | 'reliesOn' | 'beganMs'>): boolean {
    if (reliesOn === undefined) return true;
    return isStanding({ view, reliesOn }) && (view.validatedAtMs >= beganMs || isInWindow(view, beganMs));
  }

  function decode<Value>(slot: string, kind: Kind<Value>, id: string, text: string): { value: Value } | undefined {
    try {
      return { value: kind.decode(text, id) };
    } catch {
      onUnreadable(slot, kind.name);
      return undefined;
    }
  }

  function toEntry<Value>(kind: Kind<Value>, id: string, at: number, items: readonly string[], value: Value): Entry {
    const bytes = kind.bytesOf(value);
    const expiresMs = kind.expiresMs(value);
    return {
      at,
      value: freeze(value),
      expiresMs,
      reads: 0,
      renewedSecond: 0,
      kind: kind.name,
      id: own(id),
      deps: items,
      bytes,
    };
  }

  const isVerified = (reply: GetReply) => reply.nowMs - reply.verifiedMs <= verifyMs;

  function find1<Value>(view: View, kind: Kind<Value>, id: string, need: number, nowMs: number) {
    const entry = view.find(kind.name, id, nowMs);
    if (entry === undefined || !view.isEnough(entry, need)) return undefined; // P22
    if (entry.expiresMs !== null && nowMs >= entry.expiresMs) return undefined;
    entry.reads++;
    return entry as Entry & { readonly value: Value };
  }

  /** All values from layer 1, or nothing. Of several all must be true as of one tick; one alone may be ahead of it. */
  function held1<Value>(asked: Asked<Value>, need: number): Cached<Value> | undefined {
    const { view, kind, ids, beganMs } = asked;
    // What this instance has just written was true when it was validated.
    const knownMs = Number.isFinite(view.verifiedAtMs) ? view.verifiedAtMs : view.validatedAtMs;
    const ageMs = Math.max(beganMs - knownMs, 0);
    if (ids.length === 1) {
      const entry = find1(view, kind, ids[0] as string, need, beganMs);
      if (entry === undefined) return undefined;
      return { values: [entry.value], seq: Math.max(view.tick, entry.at), layers: oneFromLayer1, ageMs };
    }
    const values = new Array<Value>(ids.length);
    for (let index = 0; index < ids.length; index++) {
      const entry = find1(view, kind, ids[index] as string, need, beganMs);
      if (entry === undefined || entry.at > view.tick) return undefined;
      values[index] = entry.value;
    }
    return { values, seq: view.tick, layers: ids.map((): Layer => 'l1'), ageMs };
  }

  /** All values from a reply of layer 2, or nothing. */
  function held2<Value>(
    { slot, view, kind, ids }: Reading<Value>,
    { got, need, isKept }: { readonly got: GetReply; readonly need: number; readonly isKept: boolean },
  ): Cached<Value> | undefined {
    const values: Value[] = [];
    const kept: Entry[] = [];
    let seq = got.applied;
    for (const [index, id] of ids.entries()) {
      const one = got.found[index];
      if (one === undefined || typeof one === 'string' || one.body === '') return undefined;
      // P1: as of the watermark, or newer by itself.
      if (!view.isEnough(one, need, got.applied) || (ids.length > 1 && one.at > got.applied)) return undefined;
      const decoded = decode(slot, kind, id, one.body);
      if (decoded === undefined || !isFresh(kind, decoded.value)) return undefined;
      values.push(decoded.value);
      kept.push(toEntry(kind, id, one.at, one.deps, decoded.value));
      seq = Math.max(seq, one.at);
    }
    const isStored = isKept && kind.layers.includes('l1');
    if (isStored) kept.forEach(view.keep);
    const ageMs = got.nowMs - got.verifiedMs;
    return { values, seq, layers: values.map(() => 'l2'), ageMs, ttlMs: verifyMs - ageMs, isStored };
  }

  const fromLayer1 = <Value>(asked: Asked<Value>) => (isConfirmed(asked) ? held1(asked, asked.need) : undefined);

  const fromLayer2 = <Value>(reading: Reading<Value>, got: GetReply, isFit: boolean) =>
    isConfirmed(reading) ? held2(reading, { got, need: reading.need, isKept: isFit }) : undefined;

  function fromOrigin<Value>({ values, seq }: Loaded<Value>): Cached<Value> {
    const layers = values.map(({ isFromLayer3 }): Layer => (isFromLayer3 ? 'l3' : 'origin'));
    return { values: values.map(({ value }) => value), seq, layers, ageMs: 0 };
  }

  function fromBeyond<Value>(reading: Reading<Value>, got: GetReply | null): Cached<Value> | undefined {
    const { view, isLenient } = reading;
    if (!isLenient || !isStanding(reading)) return undefined;
    const ageMs = age(view.verifiedAtMs);
    if (ageMs > graceMs) return undefined;
    // Of what was written here layer 2 may not have heard.
    const { own } = view;
    const held = held1(reading, own) ?? (got ? held2(reading, { got, need: own, isKept: false }) : undefined);
    return held && { ...held, ageMs, detail: 'stale' };
  }

  return {
    isInWindow,
    isVerified,
    isFresh,
    isConfirmed,
    decode,
    toEntry,
    find1,
    fromLayer1,
    fromLayer2,
    fromOrigin,
    fromBeyond,
  };
}

/** The text as a string of its own: one cut out of another keeps that alive, and V8 compares it at several times the cost. */
const own = (text: string) => JSON.parse(JSON.stringify(text)) as string;

/** Freezes what is handed to every reader; bytes cannot be frozen and are left as they are. */
function freeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value)) return value;
  for (const member of Object.values(value)) freeze(member);
  return Object.freeze(value);
}
