import { setTimeout as wait } from 'node:timers/promises';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { Problem } from '../base/problem.ts';
import type { GetReply, Redis, Touch } from '../redis/redis.ts';
import { type Asked, type Cached, createAnswers, type Loaded, type Reading, type ReliedOn } from './answers.ts';
import { type Breaker, createBreaker } from './breaker.ts';
import { type CountsByKind, createCounts, type SpaceCounts } from './counts.ts';
import { type Explanation, explainLayer1, explainLayer2 } from './explain.ts';
import { type Kind, keyOf } from './kind.ts';
import { createLayer1, type Layer1Counts } from './layer1.ts';
import { createLayer2, toStretch } from './layer2.ts';
import { createView, type View } from './view.ts';

export interface CacheRequest {
  /** The name of the space's state; never used again for another. */
  readonly slot: string;
  /** The tick the answer must not be older than; 0 asks for none. */
  readonly seq: number;
  /** Ask past every layer. */
  readonly noCache: boolean;
  /** A value of layer 1 that the request is only good for as long as it stands: its credential. */
  readonly unconfirmed?: ReliedOn | undefined;
}

/** What a write has committed, as its answer tells. */
export interface Committed<Value> {
  readonly from: number;
  readonly to: number;
  readonly changes: readonly Touch[];
  /** Values that the write itself has made and that are true as of `to`. */
  readonly values: readonly { readonly id: string; readonly deps: readonly string[]; readonly value: Value }[];
}

/** The coherent cache in front of PostgreSQL: the client's half of the protocol of SPEC.md. */
export interface Cache {
  /**
   * Values by id, all from layer 1, all from layer 2, or all of them in one request from `load`, so that they are true as
   * of one tick; at once where layer 1 may answer unchecked. With PostgreSQL away also what the layers hold beyond the bounds, marked `stale`, unless the request
   * named a tick.
   *
   * @param load reads the ids named, and the feed after the tick given; null where nobody needs it.
   */
  read<Value>(
    request: CacheRequest,
    kind: Kind<Value>,
    ids: readonly string[],
    load: (ids: readonly string[], feedAfter: number | null) => Promise<Loaded<Value>>,
  ): MaybePromise<Cached<Value>>;
  /** Whether a value's own time is not over. */
  isFresh<Value>(kind: Kind<Value>, value: Value): boolean;
  /**
   * The value that a read would be answered with at once, and nothing around it. Not counted as a hit: credentials, which
   * each request asks for, would make any hit rate look good.
   */
  get<Value>(slot: string, kind: Kind<Value>, id: string): { readonly value: Value } | undefined;
  /** What layer 1 holds, true by now or not. */
  peek<Value>(slot: string, kind: Kind<Value>, id: string): { readonly value: Value } | undefined;
  /** Runs a write, and tells layer 2 of what it committed before the write is acknowledged. */
  write<Value, Answer>(
    request: CacheRequest,
    kind: Kind<Value>,
    run: () => Promise<Answer>,
    committed: (answer: Answer) => Committed<Value> | null,
  ): Promise<Answer>;
  /** Brings layer 2 up to PostgreSQL's clock. */
  repair(slot: string, load: (feedAfter: number) => Promise<Loaded<unknown>>): Promise<void>;
  /** Has layer 2 hold these, loading what it does not: one request to each of the two at most, and one more to store. */
  warm<Value>(
    slot: string,
    kind: Kind<Value>,
    ids: readonly string[],
    load: (ids: readonly string[], feedAfter: number) => Promise<Loaded<Value>>,
  ): Promise<{ warmed: number; held: number }>;
  /**
   * Removes from layer 2 the bytes of all values whose keys begin so, or everything of a space.
   *
   * @throws Problem `unavailable` where layer 2 does not answer.
   * @returns how many entries went.
   */
  purge(slot: string, prefixes: readonly string[] | 'all'): Promise<number>;
  /**
   * What was counted of a space since the last report, once that is long enough ago; null where there is nothing to tell.
   *
   * @param options.kinds whose reads are told by key.
   */
  takeReport(slot: string, options: { readonly everyMs: number; readonly kinds: readonly string[] }): Report | null;
  stats(): CacheStats;
  /** What each layer holds of an id, and whether it would be served now. */
  explain<Value>(request: CacheRequest, kind: Kind<Value>, id: string): Promise<Explanation>;
}

/** Counts of this instance since it began. */
export interface CacheStats {
  readonly kinds: CountsByKind;
  readonly layer1: Layer1Counts & { readonly kinds: Readonly<Record<string, Readonly<Layer1Counts>>> };
  /** Calls to layer 2, the milliseconds they took together, and those that failed. */
  readonly layer2: { readonly calls: number; readonly ms: number; readonly failures: number };
  readonly breaker: Breaker['state'];
  /** Whether PostgreSQL counts as away. */
  readonly origin: Breaker['state'];
}

export interface CacheLimits {
  readonly windowMs: number;
  readonly repairMs: number;
  /** How far beyond the bounds a read may be answered while PostgreSQL is away. */
  readonly graceMs: number;
  readonly layer1Bytes: number;
  /** How long an answer of layer 2 is waited for before PostgreSQL is asked instead. */
  readonly softDeadlineMs: number;
  /** How long layer 2 may take to hear of a write or a load. */
  readonly deadlineMs: number;
  /** How long one loader over all instances is waited for; 0 has each instance load by itself. */
  readonly leaseMs: number;
  readonly breaker: { readonly failures: number; readonly withinMs: number; readonly openMs: number };
}

// Values a report names at most.
const reportedMax = 200;
// A purge looks through all keys there are, page by page; what it does not reach is left to the next.
const purgeDeadlineMs = 5000;
// Spaces that an instance knows at a time.
const spacesMax = 10_000;

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
  const spaces = new Map<string, Space>();
  // Reads of one key that are under way, for others to join.
  const flights = new Map<string, { readonly sentAtMs: number; readonly answer: Promise<Cached<unknown>> }>();
  const counts = createCounts();
  const origin = createBreaker({ clock, ...limits.breaker, isFailure: isUnavailable, onFailure: () => {} });
  // Nothing is served from a Redis that nobody has compared with PostgreSQL for this long.
  const verifyMs = Math.max(limits.repairMs - limits.windowMs - 1000, 0);
  const answers = createAnswers({
    ...limits,
    clock,
    verifyMs,
    onUnreadable(slot, kind) {
      counts.of(slot).of(kind).unreadable++;
      // The error's own words may quote what is stored.
      onFailure(new Error(`an entry of the kind ${kind} in layer 2 cannot be read`));
    },
  });
  const { fromLayer1, fromLayer2, fromOrigin, fromBeyond, toEntry, isFresh } = answers;
  const layer2 = createLayer2({
    redis,
    limits,
    clock,
    nonce,
    onFailure,
    toEntry,
    viewOf: (slot) => spaceOf(slot).view,
    onRefused(slot, kind) {
      counts.of(slot).of(kind).refused++;
    },
  });
  const { store, toStore, toEntries } = layer2;

  function spaceOf(slot: string): Space {
    const known = spaces.get(slot);
    if (known !== undefined) return known;
    const entries = layer1.of(slot);
    const space: Space = { view: createView(entries), counts: counts.of(slot), entries };
    spaces.set(slot, space);
    if (spaces.size > spacesMax) forgetIdle(slot);
    return space;
  }
  const viewOf = (slot: string) => spaceOf(slot).view;

  /** Lets go of a space that nobody has read for long; what it wrote has been repaired by then. */
  function forgetIdle(wanted: string): void {
    const before = clock() - limits.repairMs;
    for (const [slot, { view }] of spaces) {
      if (slot === wanted || view.validatedAtMs >= before) continue;
      forget(slot);
      return;
    }
  }

  function forget(slot: string): void {
    spaces.get(slot)?.entries.clear();
    spaces.delete(slot);
    counts.forget(slot);
  }

  function count<Value>(
    { slot, view, kind, ids, beganMs }: Reading<Value>,
    answer: Cached<Value> & { readonly isJoined?: boolean },
  ): Cached<Value> {
    const of = counts.of(slot).of(kind.name);
    for (const layer of answer.layers) {
      if (answer.isJoined) of.joined++;
      else if (layer === 'l1') of.l1Hits++;
      else if (layer === 'l2') of.l2Hits++;
      else if (layer === 'l3') of.l3Hits++;
      else if (answer.detail === 'bypass') of.bypassed++;
      else of.loads++;
      if (answer.detail === 'stale') of.stale++;
    }
    ids.forEach((id, index) => {
      // What layer 1 served has been counted there.
      const entry = answer.layers[index] === 'l1' ? undefined : view.find(kind.name, id, beganMs);
      if (entry !== undefined) entry.reads++;
    });
    return answer;
  }

  /** Loads, unless PostgreSQL is known to be away and the layers still hold what is asked for. */
  async function loaded<Value>(
    reading: Reading<Value>,
    feedAfter: number | null,
    beyond: () => Cached<Value> | undefined,
  ): Promise<Loaded<Value> | Cached<Value>> {
    if (origin.state === 'open') {
      const held = beyond();
      if (held !== undefined) return held;
    }
    const of = counts.of(reading.slot).of(reading.kind.name);
    const started = performance.now();
    try {
      const got = await origin.watch(() => reading.load(reading.ids, feedAfter));
      of.unreadable += got.unreadable ?? 0;
      return got;
    } catch (error) {
      const held = isUnavailable(error) ? beyond() : undefined;
      if (held === undefined) throw error;
      return held;
    } finally {
      of.originCalls++;
      of.originMs += performance.now() - started;
    }
  }

  async function fill<Value>(
    { slot, kind, ids, keys }: Reading<Value>,
    before: { readonly token: string; readonly from: number; readonly isWaitedFor?: boolean },
    loaded: Loaded<Value>,
    gotAtMs: number,
  ): Promise<Cached<Value>> {
    const entries = await toEntries(kind, ids, loaded);
    const kept = new Set(entries.map(({ stored }) => stored.key));
    // Whoever waits for what is not kept must not wait for its lease to end.
    const erased = before.isWaitedFor ? keys.filter((key) => !kept.has(key)) : [];
    const stored = await store(slot, {
      ...toStretch(before.from, loaded),
      token: before.token,
      gotAtMs,
      entries,
      erased,
    });
    return { ...fromOrigin(loaded), isStored: stored.length === ids.length && stored.every(Boolean) };
  }

  async function pastLayers<Value>(reading: Reading<Value>): Promise<Cached<Value>> {
    const { view, ids, load } = reading;
    const [token, from] = [view.inc, view.tick];
    const loaded = await origin.watch(() => load(ids, token === null ? null : from));
    if (token === null) return { ...fromOrigin(loaded), detail: 'bypass' };
    return { ...(await fill(reading, { token, from }, loaded, 0)), detail: 'bypass' };
  }

  /** Answers with a read of the same key that is under way, where that is new enough, or begins one. */
  async function joining<Value>(reading: Reading<Value>): Promise<Cached<Value> & { readonly isJoined?: boolean }> {
    const name = `${reading.slot}\n${reading.keys[0]}`;
    const flight = flights.get(name);
    // What was asked for longer ago than the window may be older than a write that was acknowledged before we began.
    if (flight !== undefined && clock() - flight.sentAtMs < limits.windowMs) {
      const joined = (await flight.answer.catch(() => null)) as Cached<Value> | null;
      const isTrusted = joined !== null && (joined.detail !== 'stale' || reading.isLenient);
      if (isTrusted && joined.seq >= reading.need && answers.isConfirmed(reading)) return { ...joined, isJoined: true };
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
      const isPatient = reading.keys.length === 1 && !reading.kind.isUnleased && clock() < patientUntilMs;
      const answer = await ask(reading, isPatient ? limits.leaseMs : 0);
      if (answer !== 'held') return answer;
      await sleep(pauseMs);
    }
  }

  async function ask<Value>(reading: Reading<Value>, leaseMs: number): Promise<Cached<Value> | 'held'> {
    const { slot, kind, keys } = reading;
    const asked = await layer2.validate(slot, keys, leaseMs);
    if (asked === null) {
      const got = await loaded(reading, null, () => fromBeyond(reading, null));
      return 'layers' in got ? got : { ...fromOrigin(got), detail: 'unavailable' };
    }
    const { reply, isFit } = asked;
    if (answers.isVerified(reply)) {
      const found = (isFit ? fromLayer1(reading) : undefined) ?? fromLayer2(reading, reply, isFit);
      if (found !== undefined) return found;
    }
    // Somebody else is loading it, and what is stored will be as new as need be.
    if (leaseMs > 0 && reply.found[0] === 'held') {
      counts.of(slot).of(kind.name).leasesHeld++;
      return 'held';
    }
    return fromLoad(reading, reply);
  }

  async function fromLoad<Value>(reading: Reading<Value>, reply: GetReply): Promise<Cached<Value>> {
    const { slot, kind, keys } = reading;
    const { inc, applied } = reply;
    const isWaitedFor = reply.found.includes('granted');
    if (isWaitedFor) counts.of(slot).of(kind.name).leasesGranted++;
    // Whoever waits for this load must not wait for the lease to end.
    const letGo = async () => {
      if (isWaitedFor)
        await store(slot, { token: null, from: 0, to: 0, changes: [], gotAtMs: 0, entries: [], erased: keys });
    };
    try {
      const got = await loaded(reading, applied, () => fromBeyond(reading, reply));
      if (!('layers' in got)) return await fill(reading, { token: inc, from: applied, isWaitedFor }, got, reply.nowMs);
      await letGo();
      return got;
    } catch (error) {
      await letGo();
      throw error;
    }
  }

  async function readBelow<Value>(
    { slot, seq, noCache }: CacheRequest,
    asked: Asked<Value>,
    load: Reading<Value>['load'],
  ): Promise<Cached<Value>> {
    const { kind, ids } = asked;
    const keys = ids.map((id) => keyOf(kind, id));
    const reading: Reading<Value> = { ...asked, slot, keys, load, isLenient: seq === 0 && !noCache };
    if (kind.layers.length === 0) return count(reading, { ...fromOrigin(await load(ids, null)), detail: 'bypass' });
    if (noCache) return count(reading, await pastLayers(reading));
    return count(reading, ids.length === 1 ? await joining(reading) : await fromBelow(reading));
  }

  return {
    stats() {
      const { entries, bytes, evictions } = layer1;
      return {
        kinds: counts.total(),
        layer1: { entries, bytes, evictions, kinds: structuredClone(layer1.kinds) },
        layer2: layer2.figures,
        breaker: layer2.state,
        origin: origin.state,
      };
    },

    isFresh,

    takeReport(slot, { everyMs, kinds: named }) {
      const space = spaceOf(slot);
      const nowMs = clock();
      // The first write after the start has nothing to tell yet.
      space.reportedMs ??= nowMs;
      if (nowMs - space.reportedMs < everyMs) return null;
      space.reportedMs = nowMs;
      const kinds = space.counts.take();
      if (kinds === null) return null;
      const isNamed = ([key]: readonly [string, number]) => named.includes(key.slice(0, key.indexOf(':')));
      const reads = [...space.entries.takeReads()].filter(isNamed).sort(([, left], [, right]) => right - left);
      return { kinds, accesses: Object.fromEntries(reads.slice(0, reportedMax)) };
    },

    async explain(request, kind, id) {
      const view = viewOf(request.slot);
      const key = keyOf(kind, id);
      const need = Math.max(request.seq, view.own);
      const about = { need, nowMs: clock(), isInWindow: answers.isInWindow(view) };
      const l1 = explainLayer1(view, view.find(kind.name, id), about);
      const reply = await layer2.get(request.slot, view.tick, [key], 0);
      const isReadable = (body: string) => {
        const decoded = answers.decode(request.slot, kind, id, body);
        return decoded !== undefined && isFresh(kind, decoded.value);
      };
      return { l1, l2: explainLayer2(reply, { view, need, verifyMs, isReadable }) };
    },

    peek(slot, kind, id) {
      return viewOf(slot).find(kind.name, id) as never;
    },

    get(slot, kind, id) {
      const view = viewOf(slot);
      const nowMs = clock();
      return answers.isInWindow(view, nowMs) ? answers.find1(view, kind, id, view.own, nowMs) : undefined;
    },

    read(request, kind, ids, load) {
      const { slot, seq, noCache, unconfirmed } = request;
      const { view, counts: of } = spaceOf(slot);
      const need = Math.max(seq, view.own); // P16
      const beganMs = clock();
      const asked = { view, kind, ids, need, beganMs, reliesOn: unconfirmed };
      const now = !noCache && answers.isInWindow(view, beganMs) ? fromLayer1(asked) : undefined;
      if (now === undefined) return readBelow(request, asked, load);
      of.of(kind.name).l1Hits += ids.length;
      return now;
    },

    async write(request, kind, run, committed) {
      const view = viewOf(request.slot);
      // P4: the incarnation that is known before the statement is sent.
      const token = view.inc;
      const answer = await origin.watch(run);
      const done = committed(answer);
      if (done === null) return answer;
      const { from, to, changes } = done;
      view.wrote(to);
      const entries = await Promise.all(
        done.values.map(({ id, deps: items, value }) => toStore(kind, id, to, items, value)),
      );
      await store(request.slot, { token, from, to, changes, gotAtMs: 0, entries });
      return answer;
    },

    async repair(slot, load) {
      const asked = await layer2.validate(slot, [], 0);
      if (asked === null) return;
      const { reply } = asked;
      const stretch = toStretch(reply.applied, await load(reply.applied));
      await store(slot, { ...stretch, token: reply.inc, gotAtMs: reply.nowMs, entries: [] });
    },

    async warm(slot, kind, ids, load) {
      const keys = ids.map((id) => keyOf(kind, id));
      const asked = await layer2.validate(slot, keys, 0);
      if (asked === null) return { warmed: 0, held: 0 };
      const { reply } = asked;
      const missing = ids.filter((_, index) => typeof reply.found[index] === 'string');
      const held = ids.length - missing.length;
      if (missing.length === 0) return { warmed: 0, held };
      const got = await load(missing, reply.applied);
      const entries = await toEntries(kind, missing, got);
      const stretch = toStretch(reply.applied, got);
      const stored = await store(slot, { ...stretch, token: reply.inc, gotAtMs: reply.nowMs, entries });
      return { warmed: stored.filter(Boolean).length, held };
    },

    async purge(slot, prefixes) {
      if (prefixes === 'all') forget(slot);
      // No read waits for it, so its time says nothing about layer 2, and its failure costs nobody else an answer.
      return redis.purge(slot, prefixes, { deadlineMs: purgeDeadlineMs });
    },
  };
}

/** What an instance has of one space. */
interface Space {
  readonly view: View;
  readonly counts: SpaceCounts;
  readonly entries: ReturnType<ReturnType<typeof createLayer1>['of']>;
  reportedMs?: number;
}

/** What one space's reads were, since the last report of them. */
export interface Report {
  readonly kinds: CountsByKind;
  /** How often each value of layer 1 was served, by its key; the most read ones. */
  readonly accesses: Readonly<Record<string, number>>;
}

const isUnavailable = (error: unknown) => error instanceof Problem && error.code === 'unavailable';
