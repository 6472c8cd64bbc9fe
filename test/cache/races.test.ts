import { describe, expect, test } from 'vitest';
import { type Cache, createCache } from '../../lib/cache/cache.ts';
import type { Kind } from '../../lib/cache/kind.ts';
import { createInProcessRedis, type InProcessRedis } from '../../lib/redis/in-process.ts';
import type { Redis } from '../../lib/redis/redis.ts';

const bounds = { items: 1000, marks: 100, listed: 100, replyBytes: 1_000_000 };
const kind: Kind<string> = {
  name: 'k',
  layers: ['l1', 'l2'],
  ttlMs: () => 3_600_000,
  encode: async (value) => value,
  decode: (text) => text,
  bytesOf: () => 10,
  expiresMs: () => null,
};
const request = (seq = 0) => ({ slot: 's', seq, noCache: false });

/** A PostgreSQL that tells a value, its clock and its feed in one snapshot, when it is let. */
class Origin {
  value = 'v1';
  readonly touched: { item: string; tick: number }[] = [];
  get clock() {
    return this.touched.length;
  }
  commit(item: string, value: string): number {
    this.value = value;
    this.touched.push({ item, tick: this.clock + 1 });
    return this.clock;
  }
  /** A load that has its snapshot at once, and is answered when `gate` opens. */
  load =
    (gate: Promise<unknown> = Promise.resolve()) =>
    async (_ids: readonly string[], after: number | null) => {
      const value = { value: this.value, deps: ['c:x', 't:red'] };
      const seq = this.clock;
      const feed = this.touched.filter(({ tick }) => after !== null && tick > after && tick <= seq);
      await gate;
      return { values: [value], seq, feed };
    };
}

class World {
  readonly origin = new Origin();
  readonly redis: InProcessRedis = createInProcessRedis({ bounds, clock: Date.now });
  private nonces = 0;
  /** Another instance over the same Redis, by way of `through`. */
  open(through: (redis: Redis) => Redis = (redis) => redis): Cache {
    return createCache({
      redis: through(this.redis),
      limits: {
        windowMs: 0,
        repairMs: 600_000,
        graceMs: 0,
        layer1Bytes: 1_000_000,
        softDeadlineMs: 1000,
        deadlineMs: 1000,
        leaseMs: 0,
        breaker: { failures: 1000, withinMs: 1, openMs: 1 },
      },
      clock: Date.now,
      nonce: () => `n${++this.nonces}`,
      onFailure: () => {},
    });
  }
  read = async (cache: Cache, seq = 0, gate?: Promise<unknown>) =>
    (await cache.read(request(seq), kind, ['x'], this.origin.load(gate))).values[0];
  /** A write whose own value is stored (`set`), or that only says what it touched. */
  write = (cache: Cache, item: string, value: string, isSet: boolean) =>
    cache.write(
      request(),
      kind,
      async () => this.origin.commit(item, value),
      (tick) => ({
        from: tick - 1,
        to: tick,
        changes: [{ item, tick }],
        values: isSet ? [{ id: 'x', deps: ['c:x', 't:red'], value }] : [],
      }),
    );
}

/** A promise that is kept when it is told to. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

const changes = [
  ['set', 'c:x', true],
  ['delete', 'c:x', false],
  ['tag', 't:red', false],
  ['everything', '*', false],
] as const;

describe.each(changes)('a load of v1 in flight while v2 commits by %s', (_name, item, isSet) => {
  test.each(['the same', 'another'])('on %s instance is never served again', async (where) => {
    for (const isEvicted of [false, true]) {
      const world = new World();
      const one = world.open();
      const two = where === 'another' ? world.open() : one;
      await world.read(two);
      await world.write(two, 'c:other', 'v1', false);
      world.redis.evict('s', 'k:x');
      const paused = gate();
      // It finds nothing, and PostgreSQL has told it v1.
      if (where === 'another') await world.write(two, 'c:x', 'v1', false);
      const loading = world.read(one, 0, paused.opened);
      await new Promise((resolve) => setImmediate(resolve));
      const seq = await world.write(two, item, 'v2', isSet);
      if (isEvicted) world.redis.evict('s', 'k:x');
      paused.open();
      await loading;
      for (const cache of [one, two, world.open()]) {
        expect([isEvicted, await world.read(cache)]).toEqual([isEvicted, 'v2']);
        expect(await world.read(cache, seq)).toBe('v2');
      }
      const kept = world.redis.inspect('s').entry('k:x');
      expect(kept?.body).toBe('v2');
    }
  });
});

test('two writers whose cache writes arrive in the other order leave the later value', async () => {
  const world = new World();
  const paused = gate();
  let holds = false;
  const slow = world.open((redis) => ({
    ...redis,
    async store(space, call, options) {
      if (holds && call.to > 0 && call.gotAtMs === 0) await paused.opened;
      return redis.store(space, call, options);
    },
  }));
  const quick = world.open();
  for (const cache of [slow, quick]) await world.read(cache);
  holds = true;
  const first = world.write(slow, 'c:x', 'v2', true);
  await new Promise((resolve) => setImmediate(resolve));
  const seq = await world.write(quick, 'c:x', 'v3', true);
  // The first is late: nothing is known of its tick but that it is missing.
  expect(await world.read(quick, seq)).toBe('v3');
  paused.open();
  await first;
  for (const cache of [slow, quick, world.open()]) expect(await world.read(cache)).toBe('v3');
  expect(world.redis.inspect('s').entry('k:x')?.body).toBe('v3');
  expect(world.redis.inspect('s').state?.applied).toBe(2);
});

test('what an instance wrote that is cut off from Redis is seen by who presents its tick, on every instance', async () => {
  const world = new World();
  let isCut = false;
  const cut = world.open((redis) => ({
    ...redis,
    get: (...call) => (isCut ? Promise.reject(new Error('cut')) : redis.get(...call)),
    store: (...call) => (isCut ? Promise.reject(new Error('cut')) : redis.store(...call)),
  }));
  const others = [world.open(), world.open()];
  for (const cache of [cut, ...others]) await world.read(cache);
  isCut = true;
  const seq = await world.write(cut, 'c:x', 'v2', true);
  expect(await world.read(cut)).toBe('v2');
  // Without the tick nobody has told the others; with it they load, and so tell layer 2.
  expect(await world.read(others[0] as Cache)).toBe('v1');
  expect(await world.read(others[0] as Cache, seq)).toBe('v2');
  expect(await world.read(others[1] as Cache)).toBe('v2');
  isCut = false;
  expect(await world.read(cut)).toBe('v2');
});

test('a writer killed between its commit and the caches is healed by repair, and never seen by who has its tick', async () => {
  const world = new World();
  const doomed = world.open((redis) => ({ ...redis, store: () => new Promise(() => {}) }));
  const other = world.open();
  await world.read(other);
  void world.write(doomed, 'c:x', 'v2', true);
  await new Promise((resolve) => setImmediate(resolve));
  expect(await world.read(other)).toBe('v1');
  await other.repair('s', async (after) => ({ ...(await world.origin.load()([], after)), values: [] }));
  for (const cache of [other, world.open()]) expect(await world.read(cache)).toBe('v2');
});

test('a Redis that was flushed, or comes back with old data, revives nothing', async () => {
  const world = new World();
  const [one, two] = [world.open(), world.open()];
  for (const cache of [one, two]) await world.read(cache);
  const copy = world.redis.snapshot();
  await world.write(one, 'c:x', 'v2', true);
  world.redis.lose('s');
  for (const cache of [one, two]) expect(await world.read(cache)).toBe('v2');
  const seq = await world.write(one, 'c:x', 'v3', true);
  world.redis.restore(copy);
  // A copy from before: who wrote or names the tick is not shown it, and one repair heals the rest.
  expect(await world.read(one)).toBe('v3');
  expect(await world.read(two, seq)).toBe('v3');
  await two.repair('s', async (after) => ({ ...(await world.origin.load()([], after)), values: [] }));
  for (const cache of [one, two, world.open()]) expect(await world.read(cache)).toBe('v3');
});

test('a clock that goes backwards, and one that jumps, change no answer', async () => {
  let now = 1_000_000_000;
  const redis = createInProcessRedis({ bounds, clock: () => now });
  const origin = new Origin();
  const caches = [0, 1].map((at) =>
    createCache({
      redis,
      limits: {
        windowMs: 1000,
        repairMs: 10_000,
        graceMs: 0,
        layer1Bytes: 1_000_000,
        softDeadlineMs: 1000,
        deadlineMs: 1000,
        leaseMs: 100,
        breaker: { failures: 5, withinMs: 1000, openMs: 1000 },
      },
      clock: () => now,
      nonce: () => `${at}:${Math.random()}`,
      onFailure: () => {},
      sleep: async () => {
        now += 50;
      },
    }),
  ) as [Cache, Cache];
  for (const [step, jump] of [0, -60_000, 3_600_000, -3_600_000, 86_400_000, -1, 1].entries()) {
    now += jump;
    const value = `v${step + 2}`;
    const seq = await caches[step % 2 === 0 ? 0 : 1].write(
      request(),
      kind,
      async () => origin.commit('c:x', value),
      (tick) => ({ from: tick - 1, to: tick, changes: [{ item: 'c:x', tick }], values: [] }),
    );
    for (const cache of caches)
      expect([jump, (await cache.read(request(seq), kind, ['x'], origin.load())).values[0]]).toEqual([jump, value]);
  }
});
