import type { GetReply, NewEntry, Redis, Touch } from '../redis/redis.ts';
import type { Answers, Loaded } from './answers.ts';
import { type Breaker, createBreaker } from './breaker.ts';
import type { CacheLimits } from './cache.ts';
import { type Kind, keyOf } from './kind.ts';
import type { Entry, View } from './view.ts';

/** A value on its way to layer 2, and what layer 1 keeps when it is accepted there. */
export interface ToStore {
  readonly stored: NewEntry;
  readonly kept: Entry;
  readonly kind: { readonly name: string; readonly layers: readonly string[] };
}

/** A stretch of the feed on its way to layer 2, and what goes along with it; see `StoreRequest`. */
export interface Telling {
  readonly token: string | null;
  readonly from: number;
  readonly to: number;
  readonly changes: readonly Touch[];
  readonly gotAtMs: number;
  /** Keys whose leases and bytes go. */
  readonly erased?: readonly string[];
  readonly entries: readonly ToStore[];
}

/** The calls of layer 2 behind a breaker: what they answer is null, or nothing stored, where it is away. */
export interface Layer2 {
  get(slot: string, since: number, keys: readonly string[], leaseMs: number): Promise<GetReply | null>;
  /** The same on behalf of layer 1, which the reply validates; `isFit` where it may also fill it. */
  validate(
    slot: string,
    keys: readonly string[],
    leaseMs: number,
  ): Promise<{ readonly reply: GetReply; readonly isFit: boolean } | null>;
  /** Answers for each value whether it was stored; those that were are in layer 1 as well. */
  store(slot: string, telling: Telling): Promise<boolean[]>;
  toStore<Value>(kind: Kind<Value>, id: string, at: number, deps: readonly string[], value: Value): Promise<ToStore>;
  /** What was loaded and is worth keeping. */
  toEntries<Value>(kind: Kind<Value>, ids: readonly string[], loaded: Loaded<Value>): Promise<ToStore[]>;
  readonly figures: { readonly calls: number; readonly ms: number; readonly failures: number };
  readonly state: Breaker['state'];
}

// Together the values of one request; a single one is bounded by its kind.
const storedBytesMax = 2_000_000;

/** @param deps.onRefused hears of values that came too late to be stored. */
export function createLayer2(deps: {
  redis: Redis;
  limits: Pick<CacheLimits, 'softDeadlineMs' | 'deadlineMs' | 'breaker'>;
  clock: () => number;
  nonce: () => string;
  onFailure: (error: unknown) => void;
  onRefused: (slot: string, kind: string) => void;
  toEntry: Answers['toEntry'];
  viewOf: (slot: string) => View;
}): Layer2 {
  const { redis, limits, clock, nonce, onFailure, onRefused, toEntry, viewOf } = deps;
  const figures = { calls: 0, ms: 0, failures: 0 };
  const breaker = createBreaker({
    clock,
    ...limits.breaker,
    onFailure(error) {
      figures.failures++;
      onFailure(error);
    },
  });

  /** A call: null where there is no answer in time, or none is to be expected. */
  async function ask<Reply>(call: () => Promise<Reply>): Promise<Reply | null> {
    return breaker.call(async () => {
      const started = performance.now();
      try {
        return await call();
      } finally {
        figures.calls++;
        figures.ms += performance.now() - started;
      }
    });
  }

  const get = (slot: string, since: number, keys: readonly string[], leaseMs: number) =>
    ask(() => redis.get(slot, { since, nonce: nonce(), keys, leaseMs }, { deadlineMs: limits.softDeadlineMs }));

  async function validate(slot: string, keys: readonly string[], leaseMs: number) {
    const view = viewOf(slot);
    const sent = { since: view.tick, sentAtMs: clock() };
    const reply = await get(slot, sent.since, keys, leaseMs);
    return reply && { reply, isFit: view.apply(sent, reply) };
  }

  /** Sends a stretch of the feed, and values, to layer 2; answers for each value whether it was stored. */
  async function store(slot: string, call: Telling): Promise<boolean[]> {
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
    const reply = await ask(() => redis.store(slot, request, { deadlineMs: limits.deadlineMs }));
    const stored = entries.map(() => false);
    // P20: nothing enters layer 1 but what was accepted, and by a reply that is fit.
    if (reply === null || !view.apply(sent, reply)) return stored;
    sending.forEach(({ kept, kind }, index) => {
      if (!reply.accepted[index]) onRefused(slot, kind.name);
      if (reply.accepted[index] && kind.layers.includes('l1')) view.keep(kept);
      stored[index] = reply.accepted[index] ?? false;
    });
    return stored;
  }

  async function toStore<Value>(
    kind: Kind<Value>,
    id: string,
    at: number,
    items: readonly string[],
    value: Value,
  ): Promise<ToStore> {
    // What does not belong into layer 2 leaves its place there without a body: it may enter layer 1 by the same proof.
    const body = (kind.layers.includes('l2') ? await kind.encode(value, id) : null) ?? '';
    const key = keyOf(kind, id);
    // P11: a value names every item it was made of; jitter keeps what was stored together from ending together.
    const ttlMs = kind.ttlMs(value) * (0.9 + Math.random() * 0.2);
    const stored: NewEntry = { key, at, deps: items, body, ttlMs };
    return { stored, kept: toEntry(kind, id, at, items, value), kind };
  }

  function toEntries<Value>(
    kind: Kind<Value>,
    ids: readonly string[],
    { values, seq }: Loaded<Value>,
  ): Promise<ToStore[]> {
    return Promise.all(
      ids.flatMap((id, index) => {
        const one = values[index];
        return one === undefined || one.isPassing ? [] : [toStore(kind, id, seq, one.deps, one.value)];
      }),
    );
  }

  return {
    get,
    validate,
    store,
    toStore,
    toEntries,
    get figures() {
      return { ...figures };
    },
    get state() {
      return breaker.state;
    },
  };
}

/** P10: no value without the history that leads up to it; P9: too long a one is told as "forget everything older". */
export function toStretch(
  from: number,
  { seq, feed }: Loaded<unknown>,
): { from: number; to: number; changes: readonly Touch[] } {
  if (feed === 'too long') return { from: 0, to: seq, changes: [{ item: '*', tick: seq }] };
  return { from: Math.min(from, seq), to: seq, changes: feed };
}
