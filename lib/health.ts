import { within } from './base/within.ts';
import type { Settings } from './config/settings.ts';
import { type Database, runOne } from './postgres/database.ts';
import type { Redis } from './redis/redis.ts';
import type { Embedder } from './search/embedder.ts';
import type { VectorEngine } from './search/vector-engine.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/** How an engine answered when it was asked for nothing. */
export interface EngineHealth {
  readonly isReady: boolean;
  /** How long its answer took, or was waited for. */
  readonly latencyMs: number;
}

/** How the engines are. Without PostgreSQL nothing can be answered, without any of the others everything can. */
export interface Health {
  /** `isSlow` where the answer took longer than `alerts.databaseMs`. */
  readonly postgres: EngineHealth & { readonly isSlow: boolean };
  readonly layer2: EngineHealth & { readonly kind: 'redis' | 'in-process' };
  /** Undefined where vectors are in PostgreSQL. */
  readonly weaviate: EngineHealth | undefined;
  /** Who makes the vectors; it is not asked, since asking may cost money. */
  readonly embedder: { readonly id: string; readonly isRemote: boolean };
}

/** Asks all engines at once, each for as long as a read, a write or a search would wait for it. */
export async function checkHealth(deps: {
  database: Database;
  redis: Redis;
  isRedisOwn: boolean;
  engine: VectorEngine | undefined;
  embedder: Embedder;
  settings: Settings;
  telemetry: Telemetry;
}): Promise<Health> {
  const { database, redis, isRedisOwn, engine, embedder, settings, telemetry } = deps;
  const { cache, search, alerts } = settings;

  async function check(name: string, deadlineMs: number, ask: () => Promise<unknown>): Promise<EngineHealth> {
    const started = performance.now();
    const isReady = await within(deadlineMs, ask()).then(
      () => true,
      (error) => {
        telemetry.log({ level: 'warn', event: `health.${name}`, error });
        return false;
      },
    );
    return { isReady, latencyMs: performance.now() - started };
  }

  const [postgres, layer2, weaviate] = await Promise.all([
    // Of a table, so that one without our schema, or closed to us, does not count as ready.
    check('postgres', cache.originMs, () => runOne(database.owner, { text: 'select from space limit 1', params: [] })),
    check('layer2', cache.deadlineMs, () => redis.ping({ deadlineMs: cache.deadlineMs })),
    engine && check('weaviate', search.engineMs, () => engine.ping()),
  ]);
  return {
    postgres: { ...postgres, isSlow: postgres.latencyMs > alerts.databaseMs },
    layer2: { ...layer2, kind: isRedisOwn ? 'in-process' : 'redis' },
    weaviate,
    embedder: { id: embedder.id, isRemote: embedder.isRemote },
  };
}
