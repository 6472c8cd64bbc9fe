import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cache, createCache } from '../../lib/cache/cache.ts';
import type { Kind } from '../../lib/cache/kind.ts';
import { defaultSettings } from '../../lib/config/settings.ts';
import { createInProcessRedis } from '../../lib/redis/in-process.ts';
import type { Redis } from '../../lib/redis/redis.ts';
import { createUpstashRedis } from '../../lib/redis/upstash.ts';
import type { Instance, Load } from './libraries.ts';

/** What stands for PostgreSQL: values with a clock, and the feed of what was touched. */
export interface Origin {
  clock: number;
  readonly touched: { readonly item: string; readonly tick: number }[];
  loads: number;
}

export const createOrigin = (): Origin => ({ clock: 0, touched: [], loads: 0 });

const limits = defaultSettings.cache;
export const bounds = {
  items: limits.touchedItems,
  marks: limits.marks,
  listed: limits.listedItems,
  replyBytes: limits.replyBytes,
};

const kind: Kind<unknown> = {
  name: 'bench',
  layers: ['l1', 'l2'],
  ttlMs: () => 3_600_000,
  encode: async (value) => JSON.stringify(value),
  decode: (text) => JSON.parse(text) as unknown,
  bytesOf: () => 200,
  expiresMs: () => null,
};

/** One instance of Lamina's cache, as the store uses it, in front of an origin. */
export function openLamina(options: {
  readonly origin: Origin;
  readonly redis?: Redis | { readonly url: string; readonly token: string };
  readonly windowMs?: number;
}): Instance & { readonly cache: Cache; invalidateAll(): Promise<unknown> } {
  const { origin, windowMs = 60_000 } = options;
  const redis =
    options.redis === undefined
      ? createInProcessRedis({ bounds, clock: Date.now })
      : 'url' in options.redis
        ? createUpstashRedis({ ...options.redis, bounds })
        : options.redis;
  const breaker = {
    failures: limits.breakerFailures,
    withinMs: limits.breakerWithinMs,
    openMs: limits.breakerOpenMs,
  };
  const cache = createCache({
    redis,
    limits: { ...limits, windowMs, repairMs: windowMs + 60_000, breaker },
    clock: Date.now,
    nonce: randomUUID,
    onFailure: () => {},
  });
  const request = { slot: 'bench', seq: 0, noCache: false };

  const loading = (load: Load) => async (ids: readonly string[], after: number | null) => {
    origin.loads++;
    // The clock before the values: nothing that is committed meanwhile may count as seen.
    const seq = origin.clock;
    const loaded = await Promise.all(ids.map(load));
    const feed = after === null ? [] : origin.touched.filter(({ tick }) => tick > after && tick <= seq);
    const values = loaded.map((value, at) => ({ value, deps: [`c:${ids[at]}`] }));
    return { values, seq, feed: feed.length > 256 ? ('too long' as const) : feed };
  };
  const nothing = loading(() => sleep(0));
  const read = (keys: readonly string[], load: ReturnType<typeof loading>) => cache.read(request, kind, keys, load);
  const commit = (item: string) => {
    origin.clock++;
    origin.touched.push({ item, tick: origin.clock });
    return origin.clock;
  };
  const write = (item: string, values: { id: string; value: unknown }[], run = () => {}) =>
    cache.write(
      request,
      kind,
      async () => {
        run();
        return commit(item);
      },
      (tick) => ({
        from: tick - 1,
        to: tick,
        changes: [{ item, tick }],
        values: values.map(({ id, value }) => ({ id, value, deps: [`c:${id}`] })),
      }),
    );

  return {
    cache,
    getSync: (key) => cache.get(request.slot, kind, key)?.value,
    getManySync: (keys) => {
      const answer = read(keys, nothing);
      return answer instanceof Promise ? undefined : answer.values;
    },
    // Waits only where there is something to wait for.
    getOrLoad: async (key, load) => {
      const answer = read([key], loading(load));
      return answer instanceof Promise ? (await answer).values[0] : answer.values[0];
    },
    set: (key, value) => write(`c:${key}`, [{ id: key, value }]),
    delete: (key) => write(`c:${key}`, []),
    invalidateAll: () => write('*', []),
    close: async () => {},
  };
}
