import { setTimeout as wait } from 'node:timers/promises';
import type { GetReply, NewEntry, Redis, Touch } from '../redis/redis.ts';
import { createBreaker } from './breaker.ts';
import { type Explanation, explainLayer1, explainLayer2 } from './explain.ts';
import type { Kind } from './kind.ts';
import { createLayer1 } from './layer1.ts';
import { createView, type Entry, type View } from './view.ts';

/** Where an answer came from. */
export type Layer = 'l1' | 'l2' | 'origin';

export interface CacheRequest {
  /** The name of the space's state; never used again for another. */
  readonly slot: string;
  /** The tick the answer must not be older than; 0 asks for none. */
  readonly seq: number;
  /** Ask past every layer. */
  readonly noCache: boolean;
}

/** Values as PostgreSQL gave them in one snapshot, in the order asked. */
export interface Loaded<Value> {
  readonly values: readonly {
    readonly value: Value;
    readonly deps: readonly string[];
    /** Not the whole value, and so for this answer alone. */
    readonly isPartial?: boolean;
  }[];
  /** The clock of that snapshot. */
  readonly seq: number;
  /** Every touch of the ticks after the one asked for up to `seq`; `too long` where they are too many or no longer kept. */
  readonly feed: readonly Touch[] | 'too long';
}

export interface Cached<Value> {
  readonly values: readonly Value[];
  /** A tick as of which all of them are true. */
  readonly seq: number;
  /** Where each came from. */
  readonly layers: readonly Layer[];
  /** Whether what came from the origin is in the caches now. */
  readonly isStored?: boolean;
  /** Why layer 2 gave none of them, where it was not simply asked and had none. */
  readonly detail?: 'bypass' | 'unavailable';
}

/** What a write has committed, as its answer tells. */
export interface Committed<Value> {
  readonly from: number;
  readonly to: number;
  readonly changes: readonly Touch[];
  /** Values that the write itself has made and that are true as of `to`. */
  readonly values: readonly { readonly key: string; readonly deps: readonly string[]; readonly value: Value }[];
  /** Keys whose bytes must go from layer 2, not only their validity. */
  readonly erased?: readonly string[];
}

/** The coherent cache in front of PostgreSQL: the client's half of the protocol of SPEC.md. */
export interface Cache {
  /**
   * Values by key, all from layer 1, all from layer 2, or all of them in one request from `load`, so that they are true as
   * of one tick.
   *
   * @param load reads the keys named, and the feed after the tick given; null where nobody needs it.
   */
  read<Value>(
    request: CacheRequest,
    kind: Kind<Value>,
    keys: readonly string[],
    load: (keys: readonly string[], feedAfter: number | null) => Promise<Loaded<Value>>,
  ): Promise<Cached<Value>>;
  /** Runs a write, and tells layer 2 of what it committed before the write is acknowledged. */
  write<Value, Answer>(
    request: CacheRequest,
    kind: Kind<Value>,
    run: () => Promise<Answer>,
    committed: (answer: Answer) => Committed<Value> | null,
  ): Promise<Answer>;
  /** Brings layer 2 up to PostgreSQL's clock. */
  repair(request: CacheRequest, load: (feedAfter: number) => Promise<Loaded<unknown>>): Promise<void>;
  stats(): CacheStats;
  /** What each layer holds of a key, and whether it would be served now. */
  explain<Value>(request: CacheRequest, kind: Kind<Value>, key: string): Promise<Explanation>;
}

/** Counts of this instance since it began. */
export interface CacheStats {
  readonly l1: {
    readonly hits: number;
    readonly misses: number;
    /** Reads that were answered by another one that was under way. */
    readonly joined: number;
    readonly entries: number;
    readonly bytes: number;
    readonly evictions: number;
  };
  readonly l2: {
    readonly hits: number;
    readonly misses: number;
    readonly failures: number;
    readonly unreadable: number;
    readonly refused: number;
  };
  readonly breaker: 'closed' | 'open' | 'half-open';
}

export interface CacheLimits {
  readonly windowMs: number;
  readonly repairMs: number;
  readonly layer1Bytes: number;
  readonly deadlineMs: number;
  /** How long one loader over all instances is waited for; 0 has each instance load by itself. */
  readonly leaseMs: number;
  readonly breaker: { readonly failures: number; readonly withinMs: number; readonly openMs: number };
}

// Together the values of one request to layer 2; a single one is bounded by its kind.
const storedBytesMax = 2_000_000;

/** One read, and what it needs. */
interface Reading<Value> {
  readonly slot: string;
  readonly view: View;
  readonly kind: Kind<Value>;
  readonly ids: readonly string[];
  readonly keys: readonly string[];
  /** The tick the answer must not be older than. */
  readonly need: number;
  readonly load: (keys: readonly string[], feedAfter: number | null) => Promise<Loaded<Value>>;
}

/**
 * @param deps.nonce never gives the same text twice.
 * @param deps.onFailure hears of calls to layer 2 that failed, and of entries that could not be read.
 */
export function createCache(deps: {
  redis: Redis;
  limits: CacheLimits;
  clock: () => number;
  nonce: () => string;
  onFailure: (error: unknown) => void;
  sleep?: (ms: number) => Promise<unknown>;
}): Cache {
  const { redis, limits, clock, nonce, onFailure, sleep = wait } = deps;
  const layer1 = createLayer1({ bytesMax: limits.layer1Bytes });
  const views = new Map<string, View>();
  // Reads of one key that are under way, for others to join.
  const flights = new Map<string, { readonly sentAtMs: number; readonly answer: Promise<Cached<unknown>> }>();
  const counts = { joined: 0, l1Hits: 0, l1Misses: 0, l2Hits: 0, l2Misses: 0, failures: 0, unreadable: 0, refused: 0 };
  const breaker = createBreaker({
    clock,
    ...limits.breaker,
    onFailure(error) {
      counts.failures++;
      onFailure(error);
    },
  });
  // Nothing is served from a Redis that nobody has compared with PostgreSQL for this long.
  const verifyMs = Math.max(limits.repairMs - limits.windowMs - 1000, 0);

  function viewOf(space: string): View {
    const known = views.get(space);
    if (known !== undefined) return known;
    const view = createView(layer1.of(space));
    views.set(space, view);
    return view;
  }

  const keyOf = (kind: { readonly name: string }, key: string) => `${kind.name}:${key}`;
  function isFresh<Value>(kind: Kind<Value>, value: Value): boolean {
    const expiresMs = kind.expiresMs(value);
    return expiresMs === null || clock() < expiresMs;
  }

  function decode<Value>(kind: Kind<Value>, id: string, text: string): { value: Value } | undefined {
    try {
      return { value: kind.decode(text, id) };
    } catch {
      // The error's own words may quote what is stored.
      counts.unreadable++;
      onFailure(new Error(`an entry of the kind ${kind.name} in layer 2 cannot be read`));
      return undefined;
    }
  }

  /** What a value is in layer 1. */
  function toEntry<Value>(kind: Kind<Value>, at: number, deps: readonly string[], value: Value): Entry {
    return { at, deps, value, bytes: kind.bytesOf(value) };
  }

  /** Sends a stretch of the feed, and values, to layer 2; answers whether every value was stored. */
  async function store(
    slot: string,
    call: {
      readonly token: string | null;
      readonly from: number;
      readonly to: number;
      readonly changes: readonly Touch[];
      readonly gotAtMs: number;
      readonly erased?: readonly string[];
      readonly entries: readonly { readonly stored: NewEntry; readonly kept: Entry }[];
    },
  ): Promise<boolean> {
    const view = viewOf(slot);
    const sent = { since: view.tick, sentAtMs: clock() };
    const { entries, erased = [], ...rest } = call;
    // What is told must arrive: values go along as far as they fit into one request, and the others are loaded again.
    let bytes = 0;
    const sending = entries.filter(({ stored }, index) => {
      bytes += stored.body.length;
      return index === 0 || bytes <= storedBytesMax;
    });
    const request = {
      ...rest,
      since: sent.since,
      nonce: nonce(),
      entries: sending.map((one) => one.stored),
      erased,
    };
    const reply = await breaker.call(() => redis.store(slot, request, { deadlineMs: limits.deadlineMs }));
    // P20: nothing enters layer 1 but what was accepted, and by a reply that is fit.
    if (reply === null || !view.apply(sent, reply)) return false;
    sending.forEach(({ stored, kept }, index) => {
      if (reply.accepted[index]) view.keep(stored.key, kept);
      else counts.refused++;
    });
    return sending.length === entries.length && reply.accepted.every(Boolean);
  }

  function toStore<Value>(kind: Kind<Value>, id: string, at: number, items: readonly string[], value: Value) {
    // What is too large for layer 2 leaves its place there without a body: it may enter layer 1 by the same proof.
    const body = kind.encode(value, id) ?? '';
    const key = keyOf(kind, id);
    // P11: a value names every item it was made of; jitter keeps what was stored together from ending together.
    const ttlMs = kind.ttlMs * (0.9 + Math.random() * 0.2);
    const stored: NewEntry = { key, at, deps: items, body, ttlMs };
    return { stored, kept: toEntry(kind, at, items, value) };
  }

  function count<Value>(answer: Cached<Value> & { readonly isJoined?: boolean }): Cached<Value> {
    if (answer.isJoined) counts.joined++;
    else if (answer.detail !== 'bypass') {
      for (const layer of answer.layers) {
        if (layer === 'l1') counts.l1Hits++;
        else counts.l1Misses++;
        if (layer === 'l2') counts.l2Hits++;
        if (layer === 'origin') counts.l2Misses++;
      }
    }
    return answer;
  }

  /** All values from layer 1, or nothing. Of several all must be true as of one tick; one alone may be ahead of it. */
  function fromLayer1<Value>({ view, kind, keys, need }: Reading<Value>): Cached<Value> | undefined {
    const values: Value[] = [];
    let seq = view.tick;
    for (const key of keys) {
      const entry = view.get(key);
      if (entry === undefined || !isFresh(kind, entry.value as Value)) return undefined;
      if (!view.isEnough(entry, need) || (keys.length > 1 && entry.at > view.tick)) return undefined; // P22
      values.push(entry.value as Value);
      seq = Math.max(seq, entry.at);
    }
    return { values, seq, layers: values.map(() => 'l1') };
  }

  /** All values from a reply of layer 2, or nothing. */
  function fromLayer2<Value>(reading: Reading<Value>, got: GetReply, isFit: boolean): Cached<Value> | undefined {
    const { view, kind, ids, keys, need } = reading;
    const values: Value[] = [];
    const kept: (readonly [string, Entry])[] = [];
    let seq = got.applied;
    for (const [index, key] of keys.entries()) {
      const one = got.found[index];
      if (one === undefined || typeof one === 'string' || one.body === '') return undefined;
      // P1: as of the watermark, or newer by itself.
      if (!view.isEnough(one, need, got.applied) || (keys.length > 1 && one.at > got.applied)) return undefined;
      const decoded = decode(kind, ids[index] ?? '', one.body);
      if (decoded === undefined || !isFresh(kind, decoded.value)) return undefined;
      values.push(decoded.value);
      kept.push([key, toEntry(kind, one.at, one.deps, decoded.value)]);
      seq = Math.max(seq, one.at);
    }
    if (isFit) for (const [key, entry] of kept) view.keep(key, entry);
    return { values, seq, layers: values.map(() => 'l2') };
  }

  function fromOrigin<Value>({ values, seq }: Loaded<Value>): Cached<Value> {
    return { values: values.map(({ value }) => value), seq, layers: values.map(() => 'origin') };
  }

  async function fill<Value>(
    { slot, kind, ids }: Reading<Value>,
    before: { readonly token: string; readonly from: number },
    loaded: Loaded<Value>,
    gotAtMs: number,
  ): Promise<Cached<Value>> {
    const entries = ids.flatMap((id, index) => {
      const one = loaded.values[index];
      return one === undefined || one.isPartial ? [] : toStore(kind, id, loaded.seq, one.deps, one.value);
    });
    const isStored = await store(slot, {
      ...toStretch(before.from, loaded),
      token: before.token,
      gotAtMs,
      entries,
    });
    return { ...fromOrigin(loaded), isStored: isStored && entries.length === ids.length };
  }

  async function pastLayers<Value>(reading: Reading<Value>): Promise<Cached<Value>> {
    const { view, ids, load } = reading;
    const [token, from] = [view.inc, view.tick];
    if (token === null) return { ...fromOrigin(await load(ids, null)), detail: 'bypass' };
    return { ...(await fill(reading, { token, from }, await load(ids, from), 0)), detail: 'bypass' };
  }

  /** Answers with a read of the same key that is under way, where that is new enough, or begins one. */
  async function joining<Value>(reading: Reading<Value>): Promise<Cached<Value> & { readonly isJoined?: boolean }> {
    const name = `${reading.slot}\n${reading.keys[0]}`;
    const flight = flights.get(name);
    // What was asked for longer ago than the window may be older than a write that was acknowledged before we began.
    if (flight !== undefined && clock() - flight.sentAtMs < limits.windowMs) {
      const joined = (await flight.answer.catch(() => null)) as Cached<Value> | null;
      if (joined !== null && joined.seq >= reading.need) return { ...joined, isJoined: true };
    }
    const own = { sentAtMs: clock(), answer: fromBelow(reading) };
    flights.set(name, own);
    try {
      return await own.answer;
    } finally {
      if (flights.get(name) === own) flights.delete(name);
    }
  }

  /** From layer 2, or from PostgreSQL; of one key by whoever holds the lease, as long as that is worth waiting for. */
  async function fromBelow<Value>(reading: Reading<Value>): Promise<Cached<Value>> {
    const patientUntilMs = clock() + limits.leaseMs;
    for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 100)) {
      const isPatient = reading.keys.length === 1 && clock() < patientUntilMs;
      const answer = await ask(reading, isPatient ? limits.leaseMs : 0);
      if (answer !== 'held') return answer;
      await sleep(pauseMs);
    }
  }

  async function ask<Value>(reading: Reading<Value>, leaseMs: number): Promise<Cached<Value> | 'held'> {
    const { slot, view, ids, keys, load } = reading;
    const sent = { since: view.tick, sentAtMs: clock() };
    const call = { since: sent.since, nonce: nonce(), keys, leaseMs };
    const reply = await breaker.call(() => redis.get(slot, call, { deadlineMs: limits.deadlineMs }));
    if (reply === null) return { ...fromOrigin(await load(ids, null)), detail: 'unavailable' };
    const isFit = view.apply(sent, reply);
    if (reply.nowMs - reply.verifiedMs <= verifyMs) {
      const found = (isFit ? fromLayer1(reading) : undefined) ?? fromLayer2(reading, reply, isFit);
      if (found !== undefined) return found;
      // Somebody else is loading it, and what is stored will be as new as need be.
      if (leaseMs > 0 && reply.found[0] === 'held') return 'held';
    }
    const { inc, applied } = reply;
    try {
      return await fill(reading, { token: inc, from: applied }, await load(ids, applied), reply.nowMs);
    } catch (error) {
      // Whoever waits for this load must not wait for the lease to end.
      const isWaitedFor = reply.found.includes('granted');
      if (isWaitedFor)
        await store(slot, { token: null, from: 0, to: 0, changes: [], gotAtMs: 0, entries: [], erased: keys });
      throw error;
    }
  }

  return {
    stats() {
      const { entries, bytes, evictions } = layer1;
      const { joined, l1Hits, l1Misses, l2Hits, l2Misses, failures, unreadable, refused } = counts;
      return {
        l1: { hits: l1Hits, misses: l1Misses, joined, entries, bytes, evictions },
        l2: { hits: l2Hits, misses: l2Misses, failures, unreadable, refused },
        breaker: breaker.state,
      };
    },

    async explain(request, kind, id) {
      const view = viewOf(request.slot);
      const key = keyOf(kind, id);
      const need = Math.max(request.seq, view.own);
      const isFreshValue = (value: unknown) => isFresh(kind, value as Parameters<typeof kind.encode>[0]);
      const about = { need, nowMs: clock(), windowMs: limits.windowMs, isFresh: isFreshValue };
      const l1 = explainLayer1(view, key, about);
      const call = { since: view.tick, nonce: nonce(), keys: [key], leaseMs: 0 };
      const reply = await breaker.call(() => redis.get(request.slot, call, { deadlineMs: limits.deadlineMs }));
      const isReadable = (body: string) => {
        const decoded = decode(kind, id, body);
        return decoded !== undefined && isFresh(kind, decoded.value);
      };
      return { l1, l2: explainLayer2(reply, { view, need, verifyMs, isReadable }) };
    },

    async read(request, kind, ids, load) {
      const view = viewOf(request.slot);
      const keys = ids.map((id) => keyOf(kind, id));
      const need = Math.max(request.seq, view.own); // P16
      const reading = { slot: request.slot, view, kind, ids, keys, need, load };
      if (request.noCache) return count(await pastLayers(reading));
      const inWindow = clock() - view.validatedAtMs < limits.windowMs ? fromLayer1(reading) : undefined;
      return count(inWindow ?? (keys.length === 1 ? await joining(reading) : await fromBelow(reading)));
    },

    async write(request, kind, run, committed) {
      const view = viewOf(request.slot);
      // P4: the incarnation that is known before the statement is sent.
      const token = view.inc;
      const answer = await run();
      const done = committed(answer);
      if (done === null) return answer;
      view.wrote(done.to);
      const entries = done.values.map(({ key, deps: items, value }) => toStore(kind, key, done.to, items, value));
      const { from, to, changes } = done;
      const erased = (done.erased ?? []).map((key) => keyOf(kind, key));
      await store(request.slot, { token, from, to, changes, gotAtMs: 0, entries, erased });
      return answer;
    },

    async repair(request, load) {
      const view = viewOf(request.slot);
      const sent = { since: view.tick, sentAtMs: clock() };
      const call = { since: sent.since, nonce: nonce(), keys: [], leaseMs: 0 };
      const reply = await breaker.call(() => redis.get(request.slot, call, { deadlineMs: limits.deadlineMs }));
      if (reply === null) return;
      view.apply(sent, reply);
      const loaded = await load(reply.applied);
      const stretch = toStretch(reply.applied, loaded);
      await store(request.slot, { ...stretch, token: reply.inc, gotAtMs: reply.nowMs, entries: [] });
    },
  };
}

/** P10: no value without the history that leads up to it; P9: too long a one is told as "forget everything older". */
function toStretch(
  from: number,
  { seq, feed }: Loaded<unknown>,
): { from: number; to: number; changes: readonly Touch[] } {
  if (feed === 'too long') return { from: 0, to: seq, changes: [{ item: '*', tick: seq }] };
  return { from: Math.min(from, seq), to: seq, changes: feed };
}
