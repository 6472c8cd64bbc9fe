import { Problem } from '../../lib/base/problem.ts';
import type { Cache, CacheLimits } from '../../lib/cache/cache.ts';
import type { Kind } from '../../lib/cache/kind.ts';
import type { InProcessRedis } from '../../lib/redis/in-process.ts';
import type { Bounds, Redis, Touch } from '../../lib/redis/redis.ts';

/** The code under test; mutants bring their own. */
export interface Code {
  createCache(deps: {
    redis: Redis;
    limits: CacheLimits;
    clock: () => number;
    nonce: () => string;
    onFailure: (error: unknown) => void;
  }): Cache;
  createInProcessRedis(deps: { bounds: Bounds; clock: () => number }): InProcessRedis;
}

export interface Scenario {
  readonly instances: number;
  readonly windowMs: number;
  readonly bounds: Bounds;
  /** Ticks that a load may bring along; more are "too long". */
  readonly feedMax: number;
  readonly steps: number;
  /** Reads and writes under way at once on each instance. */
  readonly concurrency: number;
  readonly writesMax: number;
  readonly isWithNoCache: boolean;
  /** Which keys are read and written; `ab` is made of both others. */
  readonly keys: readonly ('a' | 'b' | 'ab')[];
  /** How likely each fault is at each step, 0–1. */
  readonly faults: {
    readonly lose: number;
    readonly evict: number;
    readonly kill: number;
    /** Time passes, by up to a third of the window. */
    readonly time: number;
    /** Redis is copied, or falls back to its copy; then acknowledged writes are promised to who presents their seq. */
    readonly failover: number;
    /** A message reaches Redis twice. */
    readonly repeat: number;
    /** PostgreSQL does not answer a load; absent is never. */
    readonly away?: number;
  };
}

/** A guarantee that did not hold, and how it came to that. */
export class Violation extends Error {
  readonly trail: readonly string[];
  constructor(what: string, trail: readonly string[]) {
    super(`${what}\n${trail.join('\n')}`);
    this.trail = trail;
  }
}

// Content is its own witness: the value of a key at a snapshot is the last tick that touched it.
const depsOf: Readonly<Record<string, readonly string[]>> = {
  a: ['c:a'],
  b: ['c:b', 't:x'],
  ab: ['c:a', 'c:b', 't:x'],
};
const writable: readonly (readonly string[])[] = [['c:a'], ['c:b'], ['c:a', 'c:b'], ['t:x'], ['*']];

const number: Kind<number> = {
  name: 'n',
  layers: ['l1', 'l2'],
  ttlMs: () => 3_600_000,
  encode: async (value) => String(value),
  decode: Number,
  bytesOf: () => 1,
  expiresMs: () => null,
};

interface Instance {
  cache: Cache;
  life: number;
  /** Ticks whose write was answered through this instance. */
  completed: number;
  busy: number;
}

/**
 * Runs instances of the cache over one layer 2 and one simulated PostgreSQL, every arrow of the protocol a step that the
 * schedule may order, delay, drop, repeat or leave undelivered, and holds every answer against the truth.
 *
 * @throws Violation naming the guarantee (SPEC.md, G1–G7).
 */
export async function simulate(code: Code, scenario: Scenario, seed: number): Promise<void> {
  const random = generator(seed);
  const pick = <One>(from: readonly One[]) => from[Math.floor(random() * from.length)] as One;
  const trail: string[] = [];
  let nowMs = 1_000_000;
  const clock = () => nowMs;
  let nonces = 0;
  const feed: (readonly string[])[] = [];
  /** Acknowledged ticks and when. */
  const heard = new Set<number>();
  /** The newest value of each key that layer 2 ever held as valid. */
  const newest = new Map<string, number>();
  const acknowledged: { tick: number; atMs: number }[] = [];
  let pending: { label: string; run: () => void }[] = [];
  const redis = code.createInProcessRedis({ bounds: scenario.bounds, clock });
  let hasFallenBack = false;
  let isOver = false;

  const touches = (items: readonly string[], key: string) =>
    items.includes('*') || items.some((item) => depsOf[key]?.includes(item));
  const truth = (key: string, at: number) => {
    for (let tick = Math.min(at, feed.length); tick > 0; tick--)
      if (touches(feed[tick - 1] as string[], key)) return tick;
    return 0;
  };
  const violated = (what: string) => new Violation(`seed ${seed}: ${what}`, trail);

  /** A step the schedule takes when it likes. */
  const step = <Value>(label: string, run: () => Value | Promise<Value>): Promise<Value> =>
    new Promise((resolve, reject) => {
      pending.push({ label, run: () => void Promise.resolve().then(run).then(resolve, reject) });
    });

  /** A message to layer 2: sent, run, answered; each may come late, never, or twice. */
  function network(who: string): Redis {
    const send = <Reply>(label: string, run: () => Promise<Reply>, put = 0): Promise<Reply> =>
      new Promise((resolve, reject) => {
        let isOver = false;
        const deliver = async () => {
          const reply = await run();
          if (isOver) return;
          pending.push({
            label: `${who} reads the reply of ${label}`,
            run() {
              isOver = true;
              if (put > 0) heard.add(put);
              resolve(structuredClone(reply));
            },
          });
          if (random() < 0.1) pending.push({ label: `${who} gives up on ${label}, which was run`, run: giveUp });
        };
        const giveUp = () => {
          if (isOver) return;
          isOver = true;
          reject(new Error('no answer'));
        };
        pending.push({ label: `Redis runs ${who}'s ${label}`, run: () => void deliver() });
        if (random() < 0.15) pending.push({ label: `${who} gives up on ${label}`, run: giveUp });
        if (random() < scenario.faults.repeat)
          pending.push({ label: `Redis runs ${who}'s ${label} once more`, run: () => void run() });
      });
    return {
      purge: redis.purge,
      ping: redis.ping,
      get: (space, request) =>
        send(`get ${request.keys.join()} since ${request.since}`, () => redis.get(space, request)),
      store: (space, request) =>
        send(
          `store (${request.from}, ${request.to}] ${request.entries.map(({ key, at }) => `${key}@${at}`).join()}`,
          () => redis.store(space, request),
          request.gotAtMs === 0 && request.to === request.from + 1 ? request.to : 0,
        ),
    };
  }

  let lives = 0;
  const born = (index: number): Instance => {
    const life = ++lives;
    const cache = code.createCache({
      redis: network(`i${index}.${life}`),
      limits: {
        windowMs: scenario.windowMs,
        repairMs: 1_000_000_000,
        graceMs: 1_000_000_000,
        layer1Bytes: 1_000_000,
        softDeadlineMs: 1_000_000,
        deadlineMs: 1_000_000,
        leaseMs: 0,
        breaker: { failures: Number.POSITIVE_INFINITY, withinMs: 1, openMs: 1 },
      },
      clock,
      nonce: () => `n${++nonces}`,
      onFailure: () => {},
    });
    return { cache, life, completed: 0, busy: 0 };
  };
  const instances = Array.from({ length: scenario.instances }, (_, index) => born(index));

  const loader = (who: string) => (keys: readonly string[], after: number | null) =>
    step(`${who} loads ${keys.join()} after ${after}`, () => {
      if (!isOver && random() < (scenario.faults.away ?? 0)) {
        trail.push(`${who}'s load is not answered`);
        throw new Problem('unavailable', 'PostgreSQL is away.');
      }
      const seq = feed.length;
      const first = (after ?? seq) + 1;
      const ticks = Array.from({ length: Math.max(seq - first + 1, 0) }, (_, at) => first + at);
      const changes: Touch[] = ticks.flatMap((tick) => (feed[tick - 1] ?? []).map((item) => ({ item, tick })));
      return {
        values: keys.map((key) => ({ value: truth(key, seq), deps: depsOf[key] as string[] })),
        seq,
        feed: ticks.length > scenario.feedMax ? ('too long' as const) : changes,
      };
    });

  function beginRead(index: number): void {
    const instance = instances[index] as Instance;
    const keys = scenario.keys.length > 1 && random() < 0.25 ? ['a', 'b'] : [pick(scenario.keys)];
    const seq = random() < 0.5 ? 0 : Math.floor(random() * (feed.length + 1));
    const noCache = scenario.isWithNoCache && random() < 0.1;
    const life = instance.life;
    const who = `i${index}.${life}`;
    const { completed } = instance;
    const beganMs = nowMs;
    // What was acknowledged before the window that ends now, or before now where there is no window.
    const seen = acknowledged.filter(({ atMs }) => scenario.windowMs === 0 || atMs < beganMs - scenario.windowMs);
    const fellBack = hasFallenBack;
    trail.push(`${who} begins to read ${keys.join()} with seq ${seq}${noCache ? ' past every layer' : ''}`);
    instance.busy++;
    const reading = Promise.resolve(instance.cache.read({ slot: 's', seq, noCache }, number, keys, loader(who)));
    void reading.then(
      (answer) => {
        if (instances[index]?.life === life) instance.busy--;
        trail.push(
          `${who} answers ${keys.join()} with ${answer.values.join()} as of ${answer.seq} from ${answer.layers.join()}`,
        );
        keys.forEach((key, at) => {
          const value = answer.values[at] as number;
          const is = (bound: number, guarantee: string) => {
            if (value < truth(key, bound))
              failures.push(violated(`${guarantee}: ${key} was ${value}, ${truth(key, bound)} at ${bound}`));
          };
          is(seq, 'G1');
          is(completed, 'G2');
          const isStale = answer.detail === 'stale';
          if (isStale && (seq > 0 || noCache)) failures.push(violated(`G1: ${key} is stale, and a tick was named`));
          for (const { tick } of fellBack || hasFallenBack || isStale ? [] : seen) {
            const isTouched = touches(feed[tick - 1] as string[], key);
            if (isTouched && value < tick) failures.push(violated(`G3/G5: ${key} was ${value}, acknowledged ${tick}`));
          }
          if (!hasFallenBack && value !== truth(key, answer.seq)) {
            failures.push(
              violated(
                `seq: ${key} is said to be ${value} as of ${answer.seq}, where it was ${truth(key, answer.seq)}`,
              ),
            );
          }
        });
      },
      (error) => {
        const isAllowed =
          scenario.faults.away !== undefined && error instanceof Problem && error.code === 'unavailable';
        if (!isAllowed) failures.push(violated(`a read failed: ${error}`));
        else if (instances[index]?.life === life) instance.busy--;
      },
    );
  }

  function beginWrite(index: number): void {
    const instance = instances[index] as Instance;
    const items = scenario.keys.length > 1 ? pick(writable) : random() < 0.8 ? ['c:a'] : ['*'];
    const { life } = instance;
    const who = `i${index}.${life}`;
    trail.push(`${who} begins to write ${items.join()}`);
    instance.busy++;
    const key = items.length === 1 ? { 'c:a': 'a', 'c:b': 'b' }[items[0] as string] : undefined;
    const writing = instance.cache.write(
      { slot: 's', seq: 0, noCache: false },
      number,
      () =>
        step(`${who} commits ${items.join()}`, () => {
          feed.push(items);
          return feed.length;
        }),
      (tick) => ({
        from: tick - 1,
        to: tick,
        changes: items.map((item) => ({ item, tick })),
        values: key === undefined ? [] : [{ id: key, deps: depsOf[key] as string[], value: tick }],
      }),
    );
    void writing.then((tick) => {
      if (instances[index]?.life !== life) return;
      instance.busy--;
      trail.push(`${who} acknowledges tick ${tick}`);
      instance.completed = Math.max(instance.completed, tick);
      // A write that layer 2 has not heard of is promised to who presents its seq, and to all by repair.
      if (heard.has(tick)) acknowledged.push({ tick, atMs: nowMs });
    });
  }

  const failures: Violation[] = [];
  let writes = 0;
  let copy: ReturnType<InProcessRedis['snapshot']> | undefined;

  for (let taken = 0; taken < scenario.steps; taken++) {
    const choices: (() => void)[] = [];
    instances.forEach((instance, index) => {
      if (instance.busy >= scenario.concurrency) return;
      choices.push(
        () => beginRead(index),
        () => beginRead(index),
      );
      if (writes < scenario.writesMax) {
        choices.push(() => {
          writes++;
          beginWrite(index);
        });
      }
    });
    const { lose, evict, kill, time, failover } = scenario.faults;
    let fault = random();
    const happens = (share: number) => {
      fault -= share;
      return fault < 0;
    };
    if (happens(lose)) {
      trail.push('Redis loses the state');
      redis.lose('s');
    } else if (happens(evict)) {
      const key = `n:${pick(scenario.keys)}`;
      trail.push(`Redis evicts ${key}`);
      redis.evict('s', key);
    } else if (happens(kill)) {
      const index = Math.floor(random() * instances.length);
      trail.push(`i${index} is killed and replaced`);
      instances[index] = born(index);
    } else if (happens(time)) {
      nowMs += Math.ceil((random() * scenario.windowMs) / 3);
      trail.push(`time passes: ${nowMs}`);
    } else if (happens(failover)) {
      if (copy === undefined) {
        trail.push('Redis is copied');
        copy = redis.snapshot();
      } else {
        trail.push('Redis falls back to the copy');
        redis.restore(copy);
        copy = undefined;
        hasFallenBack = true;
      }
    } else if (pending.length > 0 && (choices.length === 0 || random() < 0.75)) {
      const [next] = pending.splice(Math.floor(random() * pending.length), 1);
      trail.push(next?.label ?? '');
      next?.run();
    } else if (choices.length > 0) pick(choices)();
    await settled();
    if (failures.length > 0) throw failures[0];
    checkState();
  }

  /** What must hold in every state of layer 2, whoever looks. */
  function checkState(): void {
    const { state, entry } = redis.inspect('s');
    if (state === undefined) return;
    if (state.applied > feed.length) throw violated('I1: the watermark is ahead of the clock');
    for (let tick = state.floor + 1; tick <= state.applied; tick++) {
      for (const item of feed[tick - 1] ?? []) {
        const isKept = item === '*' ? state.floor >= tick : (state.touched.get(item) ?? 0) >= tick;
        if (!isKept) throw violated(`I1: tick ${tick} is below the watermark and ${item} is not known as touched`);
      }
    }
    for (const key of scenario.keys) {
      const kept = entry(`n:${key}`);
      const isValid =
        kept !== undefined &&
        kept.inc === state.inc &&
        kept.at >= state.floor &&
        kept.deps.every((dep) => (state.touched.get(dep) ?? 0) <= kept.at);
      if (!isValid) continue;
      const asOf = Math.max(kept.at, state.applied);
      const value = Number(kept.body);
      if (value !== truth(key, asOf)) throw violated(`I2: layer 2 would say ${key} is ${value} as of ${asOf}`);
      if (!hasFallenBack && value < (newest.get(key) ?? 0))
        throw violated(`G6: ${key} is ${value} again, was ${newest.get(key)}`);
      newest.set(key, Math.max(newest.get(key) ?? 0, value));
    }
  }

  // Whatever is still under way is lost; one repair, and everything is newest everywhere.
  pending = [];
  isOver = true;
  trail.push('the rest is lost; one repair, then everything is read');
  const finish = async <Value>(work: Promise<Value>): Promise<Value> => {
    let isDone = false;
    const watched = work.finally(() => {
      isDone = true;
    });
    void watched.catch(() => {});
    for (let at = 0; !isDone && at < 200; at++) {
      const next = pending.shift();
      if (next && !next.label.includes('gives up') && !next.label.includes('once more')) next.run();
      await settled();
    }
    return watched;
  };
  nowMs += scenario.windowMs + 1;
  await finish((instances[0] as Instance).cache.repair('s', (after) => loader('repair')([], after)));
  for (const instance of instances) {
    for (const key of scenario.keys) {
      const { values } = await finish(
        Promise.resolve(instance.cache.read({ slot: 's', seq: 0, noCache: false }, number, [key], loader('last'))),
      );
      if (values[0] !== truth(key, feed.length))
        throw violated(`G4: ${key} is ${values[0]} at the end, not ${truth(key, feed.length)}`);
    }
  }
}

/** Lets everything run that needs no further step. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
