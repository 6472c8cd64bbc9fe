import { type Access, createAccess } from './access/access.ts';
import { type Clock, systemClock } from './base/clock.ts';
import { createIds, type Ids } from './base/id.ts';
import { type CacheStats, createCache } from './cache/cache.ts';
import type { Explanation } from './cache/explain.ts';
import { defaultSettings, type Settings } from './config/settings.ts';
import { type Contexts, createContexts } from './contexts/contexts.ts';
import { createFeed, type Feed } from './contexts/feed.ts';
import { createHeadKind } from './contexts/head-kind.ts';
import { type Invalidation, invalidateContexts } from './contexts/invalidation.ts';
import { createNudges, type Nudges } from './contexts/nudges.ts';
import { type RequestContext, type SpaceRef, slotOf } from './contexts/request.ts';
import type { Idempotency } from './contexts/written.ts';
import { type Database, runOne } from './postgres/database.ts';
import { createInProcessRedis } from './redis/in-process.ts';
import type { Bounds, Redis } from './redis/redis.ts';
import { noTelemetry, type Telemetry } from './telemetry/telemetry.ts';
import { createHistory, type History } from './versions/history.ts';
import { type CleanupReport, cleanSpace } from './versions/maintenance.ts';
import { createRevisions, type Revisions } from './versions/revisions.ts';

/** How an engine answered when it was asked for nothing. */
export interface EngineHealth {
  readonly isReady: boolean;
  readonly latencyMs: number;
  /** Set where the answer took longer than the alert threshold. */
  readonly isSlow: boolean;
}

/** The caches, for whoever operates them. */
export interface Caching {
  /** Counts of this instance since it began. */
  stats(): CacheStats;
  explain(request: RequestContext, id: string): Promise<Explanation>;
  /** One tick that makes everything covered be loaded again; answers with the tick. */
  invalidate(request: RequestContext, what: Invalidation, idempotency?: Idempotency): Promise<number>;
}

/**
 * The one authority over contexts. Every door (HTTP, MCP, schedules, synchronisation) goes through these verbs, and
 * every read and write of a context passes `contexts`: what is put in front of it is in front of everything.
 */
export interface UnifiedContextManager {
  /** Heads and versions: each read one request to PostgreSQL, each write one. */
  readonly contexts: Contexts;
  /** Versions, differences, restore, pins, erasure. */
  readonly history: History;
  /** Writes computed from what is stored: patches and merges. */
  readonly revisions: Revisions;
  /** What the caches hold, and how to make them forget it. */
  readonly caching: Caching;
  /** Every committed change, once, in order. */
  readonly feed: Feed;
  /** Spaces, keys, audit. */
  readonly access: Access;
  /** Wakes those who wait for changes in this process. */
  readonly nudges: Nudges;
  readonly ids: Ids;
  readonly settings: Settings;
  /** Asks each engine whether it answers. */
  health(): Promise<{ postgres: EngineHealth }>;
  /** Cleans one space, or all of them one after another. */
  cleanup(options: { only?: SpaceRef; budgetMs: number }): Promise<Record<string, CleanupReport>>;
  close(): Promise<void>;
}

/**
 * Puts the parts together; the only place that does.
 *
 * @param deps.ownerToken the token that may do everything; absent where only keys are to be accepted.
 */
export async function createUnifiedContextManager(deps: {
  database: Database;
  /** Makes layer 2; in the process when absent. */
  redis?: ((bounds: Bounds) => Redis) | undefined;
  settings?: Settings;
  telemetry?: Telemetry;
  clock?: Clock;
  ids?: Ids;
  ownerToken?: string | undefined;
}): Promise<UnifiedContextManager> {
  const { database, settings = defaultSettings, telemetry = noTelemetry, clock = systemClock } = deps;
  const ids = deps.ids ?? createIds({ clock });
  const nudges = createNudges();
  const onChanged = (space: string) => nudges.nudge(space);
  const limits = settings.cache;
  const bounds = { items: limits.touchedItems, marks: limits.marks, listed: limits.listedItems };
  const redis = deps.redis?.(bounds) ?? createInProcessRedis({ bounds, clock });
  const onFailure = (error: unknown) => telemetry.log({ level: 'warn', event: 'cache.layer2', error });
  const breaker = { failures: limits.breakerFailures, withinMs: limits.breakerWithinMs, openMs: limits.breakerOpenMs };
  const cache = createCache({ redis, limits: { ...limits, breaker }, clock, nonce: () => ids.random(16), onFailure });
  const headKind = createHeadKind({
    ...limits,
    ttlMs: limits.headTtlSeconds * 1000,
    tombstoneDays: settings.tombstones.retainedDays,
  });
  const contexts = createContexts({ database, cache, headKind, clock, settings, onChanges: onChanged });
  const history = createHistory({ database, contexts, ids, settings });
  const caching: Caching = {
    stats: () => cache.stats(),
    explain: (request, id) => cache.explain(request, headKind, id),
    invalidate: (request, what, idempotency) => invalidateContexts({ database, contexts }, request, what, idempotency),
  };
  const revisions = createRevisions({ contexts, settings });
  const feed = createFeed({ database, nudges });
  const { ownerToken } = deps;
  const access = createAccess({
    database,
    clock,
    ids,
    ownerToken,
    windowMs: limits.windowMs,
    committing: contexts.committing,
  });
  await access.prepare();

  return {
    contexts,
    history,
    revisions,
    caching,
    feed,
    access,
    nudges,
    ids,
    settings,

    async health() {
      const started = performance.now();
      const isReady = await runOne(database.owner, { text: 'select 1', params: [] }).then(
        () => true,
        (error) => {
          telemetry.log({ level: 'warn', event: 'health.postgres', error });
          return false;
        },
      );
      const latencyMs = performance.now() - started;
      return { postgres: { isReady, latencyMs, isSlow: latencyMs > settings.alerts.databaseMs } };
    },

    async cleanup({ only, budgetMs }) {
      const deadline = performance.now() + budgetMs;
      const reports: Record<string, CleanupReport> = {};
      const clean = async (of: SpaceRef) => {
        const report = await cleanSpace(
          { database, contexts, settings },
          of,
          Math.max(deadline - performance.now(), 0),
        );
        reports[of.space] = report;
        telemetry.log({ level: 'info', event: 'cleanup', facts: { space: of.space, ...report } });
      };
      if (only !== undefined) {
        await clean(only);
        return reports;
      }
      for (let after: string | undefined; ; ) {
        const spaces = await access.listSpaces({ after, limit: 100 });
        for (const { id, createdMs } of spaces) {
          // One space in trouble must not keep the others from being cleaned.
          await clean({ space: id, slot: slotOf(id, createdMs) }).catch((error) =>
            telemetry.log({ level: 'error', event: 'cleanup.failed', facts: { space: id }, error }),
          );
        }
        after = spaces.at(-1)?.id;
        if (spaces.length < 100) return reports;
      }
    },

    close: () => database.close(),
  };
}
