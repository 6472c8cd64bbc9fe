import KeyvRedis from '@keyv/redis';
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { redisDriver } from 'bentocache/drivers/redis';
import { createCache as createCacheManager } from 'cache-manager';
import { Cacheable } from 'cacheable';
import { Redis as Ioredis } from 'ioredis';
import { Keyv } from 'keyv';
import { Loader, RedisCache } from 'layered-loader';

export type Load = (key: string) => Promise<unknown>;

/** A cache as its users see it: one instance of it, over a Redis or over nothing but its memory. */
export interface Instance {
  /** Only where the library has such a thing. */
  readonly getSync?: (key: string) => unknown;
  /** Many at once, as of one state; only where the library has such a thing. */
  readonly getManySync?: (keys: readonly string[]) => readonly unknown[] | undefined;
  getOrLoad(key: string, load: Load): Promise<unknown>;
  /** Puts a value there as a writer does after its commit. */
  set(key: string, value: unknown): Promise<unknown>;
  delete(key: string): Promise<unknown>;
  /** Forgets everything, by whatever the library offers for it. */
  clear?: () => Promise<unknown>;
  close(): Promise<unknown>;
}

export interface Library {
  readonly name: string;
  /** @param port of a Redis; absent has memory alone. */
  open(port?: number): Promise<Instance>;
}

const items = 20_000;
const url = (port: number) => `redis://127.0.0.1:${port}`;
// Each library's own patience, but without a queue that would hide a dead server behind a hang of its own making.
const connect = (port: number) => {
  const redis = new Ioredis(port, '127.0.0.1', { maxRetriesPerRequest: 1, retryStrategy: () => 200 });
  redis.on('error', () => {});
  return redis;
};

export const rawLru: Library = {
  name: 'raw lru-cache',
  async open() {
    // A module of its own: V8 would compile the one that the others share for all that they put into it.
    const { LRUCache: Raw } = (await import(`${import.meta.resolve('lru-cache')}?raw`)) as typeof import('lru-cache');
    const cache = new Raw<string, object>({ max: items });
    return {
      getSync: (key) => cache.get(key),
      getOrLoad: async (key, load) => {
        const known = cache.get(key);
        if (known !== undefined) return known;
        const value = (await load(key)) as object;
        cache.set(key, value);
        return value;
      },
      set: async (key, value) => cache.set(key, value as object),
      delete: async (key) => cache.delete(key),
      clear: async () => cache.clear(),
      close: async () => {},
    };
  },
};

const bentocache: Library = {
  name: 'bentocache',
  async open(port) {
    const memory = bentostore().useL1Layer(memoryDriver({ maxItems: items }));
    const redis = port === undefined ? undefined : connect(port);
    const store = redis === undefined ? memory : memory.useL2Layer(redisDriver({ connection: redis }));
    const bento = new BentoCache({ default: 'bench', ttl: '1h', stores: { bench: store } });
    return {
      getOrLoad: (key, load) => bento.getOrSet({ key, factory: () => load(key) }),
      set: (key, value) => bento.set({ key, value }),
      delete: (key) => bento.delete({ key }),
      clear: () => bento.clear(),
      close: async () => {
        redis?.disconnect();
      },
    };
  },
};

const cacheable: Library = {
  name: 'cacheable',
  async open(port) {
    const redis = port === undefined ? undefined : new KeyvRedis(url(port));
    redis?.on('error', () => {});
    const cache = new Cacheable({ ttl: '1h', ...(redis === undefined ? {} : { secondary: new Keyv(redis) }) });
    cache.on('error', () => {});
    return {
      getOrLoad: (key, load) => cache.getOrSet(key, () => load(key)),
      set: (key, value) => cache.set(key, value),
      delete: (key) => cache.delete(key),
      clear: () => cache.clear(),
      close: async () => redis?.disconnect().catch(() => {}),
    };
  },
};

const cacheManager: Library = {
  name: 'cache-manager',
  async open(port) {
    const redis = port === undefined ? undefined : new KeyvRedis(url(port));
    redis?.on('error', () => {});
    const second = redis === undefined ? undefined : new Keyv(redis);
    second?.on('error', () => {});
    const cache = createCacheManager({ ttl: 3_600_000, stores: [new Keyv(), ...(second ? [second] : [])] });
    return {
      getOrLoad: (key, load) => cache.wrap(key, () => load(key)),
      set: (key, value) => cache.set(key, value),
      delete: (key) => cache.del(key),
      clear: () => cache.clear(),
      close: async () => redis?.disconnect().catch(() => {}),
    };
  },
};

const layeredLoader: Library = {
  name: 'layered-loader',
  async open(port) {
    const redis = port === undefined ? undefined : connect(port);
    const loads = new Map<string, Load>();
    const loader = new Loader<unknown>({
      inMemoryCache: { cacheType: 'lru-map', ttlInMsecs: 3_600_000, maxItems: items },
      ...(redis === undefined ? {} : { asyncCache: new RedisCache(redis, { json: true, ttlInMsecs: 3_600_000 }) }),
      dataSources: [
        {
          name: 'bench',
          get: (key: string) => loads.get(key)?.(key) ?? Promise.resolve(undefined),
          getMany: async () => [],
        },
      ],
    });
    return {
      getSync: (key) => loader.getInMemoryOnly(key),
      getOrLoad: async (key, load) => {
        loads.set(key, load);
        return loader.get(key);
      },
      // It has no set: a writer can only have it load again.
      set: (key) => loader.invalidateCacheFor(key),
      delete: (key) => loader.invalidateCacheFor(key),
      clear: () => loader.invalidateCache(),
      close: async () => {
        redis?.disconnect();
      },
    };
  },
};

export const libraries: readonly Library[] = [bentocache, cacheable, cacheManager, layeredLoader];
