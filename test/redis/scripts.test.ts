import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createInProcessRedis, type InProcessRedis } from '../../lib/redis/in-process.ts';
import type { GetRequest, Redis, Reply, StoreRequest } from '../../lib/redis/redis.ts';
import { createUpstashRedis } from '../../lib/redis/upstash.ts';
import { isNameReused } from '../cache/schedules.ts';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { redisProgram } from '../support/engines.ts';

/** What may happen to a space in layer 2. */
type Step =
  | { readonly op: 'get'; readonly request: GetRequest }
  | { readonly op: 'store'; readonly request: Omit<StoreRequest, 'token'>; readonly token: 'now' | 'old' | 'none' }
  | { readonly op: 'lose'; readonly what: 'state' | 'touched' | 'all' | 'script' }
  | { readonly op: 'evict'; readonly key: string };

const keys = ['h:a', 'h:b', 'd:ab'];
const items = ['c:a', 'c:b', 't:x y', 'any', '*'];
const tick = fc.integer({ min: 0, max: 12 });
const since = fc.oneof(fc.constant(0), tick);
const nonce = fc.constantFrom('n1', 'n2');
const deps = fc.uniqueArray(fc.constantFrom('c:a', 'c:b', 't:x y', 'any'), { maxLength: 4 });
const entry = fc.record({
  key: fc.constantFrom(...keys),
  at: tick,
  deps,
  body: fc.constantFrom('v1', 'v2', 'ü\n"\\\u0001', ''),
  ttlMs: fc.constant(3_600_000),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('get' as const),
      request: fc.record({
        since,
        nonce,
        keys: fc.uniqueArray(fc.constantFrom(...keys)),
        leaseMs: fc.constantFrom(0, 0, 3_600_000),
      }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('store' as const),
      token: fc.constantFrom('now' as const, 'now' as const, 'now' as const, 'old' as const, 'none' as const),
      request: fc
        .record({
          since,
          nonce,
          from: tick,
          span: fc.integer({ min: 0, max: 4 }),
          touched: fc.array(fc.tuple(fc.constantFrom(...items), fc.nat()), { maxLength: 4 }),
          gotAtMs: fc.constant(0),
          entries: fc.uniqueArray(entry, { maxLength: 3, selector: (one) => one.key }),
          erased: fc.uniqueArray(fc.constantFrom(...keys), { maxLength: 1 }),
        })
        .map(({ span, touched, from, ...rest }) => ({
          ...rest,
          from,
          to: from + span,
          changes: touched.map(([item, at]) => ({ item, tick: from + 1 + (at % (span + 1)) })),
        })),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('lose' as const),
      what: fc.constantFrom('state' as const, 'touched' as const, 'all' as const, 'script' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('evict' as const), key: fc.constantFrom(...keys) }) },
);

describe.skipIf(redisProgram === undefined)(
  'the scripts on a real Redis, held against the model in the process',
  () => {
    let server: RedisServer;
    let endpoint: RedisEndpoint;
    let spaces = 0;
    beforeAll(async () => {
      server = await startRedis(redisProgram as string);
      endpoint = await startRedisEndpoint(server.port);
    });
    afterAll(async () => {
      await endpoint?.stop();
      await server?.stop();
    });

    /** Incarnations have other names on the two; they are compared by the order of their appearance. */
    function renaming() {
      const names = new Map<string, string>();
      return (inc: string) => {
        if (!names.has(inc)) names.set(inc, `incarnation ${names.size}`);
        return names.get(inc) as string;
      };
    }

    function comparable<One extends Reply>(reply: One, rename: (inc: string) => string) {
      const { nowMs, changed, inc, ...rest } = reply;
      const sorted = changed === 'reset' ? changed : [...changed].sort((a, b) => (a.item < b.item ? -1 : 1));
      expect(nowMs).toBeGreaterThan(0);
      return { ...rest, inc: rename(inc), changed: sorted };
    }

    test.each([
      { items: 1, marks: 1, listed: 1, replyBytes: 1_000_000 },
      { items: 2, marks: 2, listed: 2, replyBytes: 1_000_000 },
      { items: 3, marks: 4, listed: 100, replyBytes: 1_000_000 },
    ])('answer alike to the same operations, losses, evictions and NOSCRIPT, with %o', async (bounds) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
          const space = `s-${++spaces}`;
          const model: InProcessRedis = createInProcessRedis({ bounds, clock: Date.now });
          const real: Redis = createUpstashRedis({ url: endpoint.url, token: endpoint.token, bounds });
          const rename = { model: renaming(), real: renaming() };
          const tokens = { model: ['x'], real: ['x'] };
          for (const one of steps) {
            if (one.op === 'lose') {
              if (one.what === 'script') await server.command('SCRIPT', 'FLUSH');
              else {
                const lost = { state: ['s'], touched: ['t'], all: ['s', 't', ...keys.map((key) => `e:${key}`)] }[
                  one.what
                ];
                await server.command('DEL', ...lost.map((key) => `{${space}}:${key}`));
                model.lose(space, { entries: one.what === 'all' });
              }
            } else if (one.op === 'evict') {
              await server.command('DEL', `{${space}}:e:${one.key}`);
              model.evict(space, one.key);
            } else if (one.op === 'get') {
              const [expected, found] = [await model.get(space, one.request), await real.get(space, one.request)];
              tokens.model.push(expected.inc);
              tokens.real.push(found.inc);
              expect(comparable(found, rename.real)).toEqual(comparable(expected, rename.model));
            } else {
              const token = (of: 'model' | 'real') =>
                one.token === 'none' ? null : (tokens[of].at(one.token === 'now' ? -1 : -2) ?? null);
              const expected = await model.store(space, { ...one.request, token: token('model') });
              const found = await real.store(space, { ...one.request, token: token('real') });
              expect(comparable(found, rename.real)).toEqual(comparable(expected, rename.model));
            }
          }
          await server.command('FLUSHALL');
        }),
        { numRuns: 300 },
      );
    });

    test('an incarnation is named anew for each opening, also by a repeated message', async () => {
      const bounds = { items: 9, marks: 9, listed: 9, replyBytes: 1_000_000 };
      const real = createUpstashRedis({ url: endpoint.url, token: endpoint.token, bounds });
      expect(await isNameReused(real, () => server.command('DEL', '{s}:s'))).toBe(false);
    });
  },
);
