import { type Access, createAccess } from './access/access.ts';
import { createKeyKind } from './access/key-kind.ts';
import { type Clock, systemClock } from './base/clock.ts';
import { createIds, type Ids } from './base/id.ts';
import { type Lazy, lazily, opensLazily } from './base/lazily.ts';
import { within } from './base/within.ts';
import { createCache } from './cache/cache.ts';
import type { Settings } from './config/settings.ts';
import { type CachedReads, createCachedReads } from './contexts/cached-reads.ts';
import { type Contexts, createContexts } from './contexts/contexts.ts';
import type { Feed } from './contexts/feed.ts';
import type { Invalidation } from './contexts/invalidation.ts';
import { createContextKinds } from './contexts/kinds.ts';
import { createNudges, type Nudges } from './contexts/nudges.ts';
import { createReports } from './contexts/reports.ts';
import { type RequestContext, type SpaceRef, slotOf } from './contexts/request.ts';
import type { CachingReport, Statistics } from './contexts/statistics.ts';
import type { Uploads } from './contexts/uploads.ts';
import type { Warming, WarmReport } from './contexts/warming.ts';
import type { Idempotency } from './contexts/written.ts';
import type { Factory, WorkReport } from './factory/factory.ts';
import type { Health } from './health.ts';
import type { Memory } from './memory/memory.ts';
import type { Orders } from './orders.ts';
import type { Database } from './postgres/database.ts';
import { createInProcessRedis } from './redis/in-process.ts';
import type { Bounds, Redis } from './redis/redis.ts';
import type { Embedder } from './search/embedder.ts';
import { createStaticEmbedder } from './search/embedders/static.ts';
import type { IndexReport } from './search/indexing.ts';
import type { Search } from './search/search.ts';
import type { VectorEngine } from './search/vector-engine.ts';
import type { DueReport } from './sync/following.ts';
import type { Sync } from './sync/sync.ts';
import { createMetrics, type Metrics, tellAll } from './telemetry/metrics.ts';
import { noTelemetry, type Telemetry } from './telemetry/telemetry.ts';
import type { History } from './versions/history.ts';
import type { CleanupReport } from './versions/maintenance.ts';
import type { Revisions } from './versions/revisions.ts';

/** The caches, for whoever operates them. */
export interface Caching {
  /** What the caches did. */
  report(request: RequestContext): Promise<CachingReport>;
  explain: CachedReads['explain'];
  /** Fills the caches of a space before anyone asks. */
  warm: Warming['warm'];
  /** One tick that makes everything covered be loaded again; answers with the tick. */
  invalidate(request: RequestContext, what: Invalidation, idempotency?: Idempotency): Promise<number>;
}

/** A task of the schedule: in one space, or in all of them one after another; no new step begins after the budget. */
export interface TaskOptions {
  readonly only?: SpaceRef | undefined;
  readonly budgetMs: number;
  /** After how long a step is stopped that has begun, where it can be: a run of a peer. Absent, it is carried out. */
  readonly limitMs?: number | undefined;
}

/** A part that is the whole work of some processes; `database` is what asks PostgreSQL. */
export type LoadedPart = 'database' | 'index' | 'sync' | 'factory';

/**
 * The one authority over contexts. Every door (HTTP, MCP, schedules, synchronisation) goes through these verbs, and
 * every read and write of a context passes `contexts`: what is put in front of it is in front of everything.
 */
export interface UnifiedContextManager {
  /** Heads and versions: each read one request to PostgreSQL, each write one. */
  readonly contexts: Contexts;
  /** Versions, differences, restore, pins, erasure. */
  readonly history: History;
  /** Contents that are too large for one request. */
  readonly uploads: Uploads;
  /** Writes computed from what is stored: patches and merges. */
  readonly revisions: Revisions;
  /** The knowledge graph of the memory tools. */
  readonly memory: Memory;
  /** Heads by what they say. */
  readonly search: Search;
  /** Other stores that hold some of the same. */
  readonly sync: Sync;
  /** Factory's Droid: hook events in, context packs out. */
  readonly factory: Factory;
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
  /** How much the space holds, how its caches and engines do, and which alert thresholds are passed. */
  statistics(request: RequestContext): Promise<Statistics>;
  /** What this instance counted since it began, as OpenMetrics. */
  printMetrics(): Promise<{ readonly text: string; readonly contentType: string }>;
  /** Asks each engine whether it answers. */
  health(): Promise<Health>;
  /** Carries out work of more than one transaction once under an idempotency key; see `runOnce`. */
  once(request: RequestContext, idempotency: Idempotency | undefined, work: () => Promise<string>): Promise<string>;
  /** Cleans one space, or all of them one after another. */
  cleanup(options: TaskOptions): Promise<Record<string, CleanupReport>>;
  /** Fills the caches of one space, or of all of them, with what is worth most. */
  warm(options: TaskOptions): Promise<Record<string, WarmReport>>;
  /** Compares layer 2 with PostgreSQL, and removes what was erased while it was away. */
  reconcile(options: TaskOptions): Promise<Record<string, { changes: number; isUnfinished: boolean }>>;
  /** Brings the search index of one space, or of all of them, up to what was written. */
  index(options: TaskOptions): Promise<Record<string, IndexReport>>;
  /** Runs the peers of one space, or of all of them, whose time has come; `isNudged` those too that a change has left behind. */
  synchronise(options: TaskOptions & { readonly isNudged?: boolean }): Promise<Record<string, DueReport>>;
  /** Makes contexts of the hook events that one space, or all of them, received. */
  work(options: TaskOptions): Promise<Record<string, WorkReport>>;
  /** Makes the search index of one space, or of all of them, anew, beside live traffic. */
  reindex(options: TaskOptions): Promise<Record<string, IndexReport>>;
  /** Loads parts before they are asked for, for a process whose work they are; elsewhere the first use does. Asks nothing. */
  load(parts: readonly LoadedPart[]): Promise<void>;
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
  settings: Settings;
  telemetry?: Telemetry;
  /** Hears of engine calls through `telemetry`, and is printed at `/metrics`. */
  metrics?: Metrics;
  /** Who makes the vectors of what is searched, the current one first; the built-in one when absent. */
  embedders?: readonly [Embedder, ...Embedder[]] | undefined;
  /** Where vectors are kept and searched; in PostgreSQL when absent. */
  engine?: VectorEngine | undefined;
  clock?: Clock;
  ids?: Ids;
  ownerToken?: string | undefined;
  /** Whether a peer may be a process of this machine; not when absent. */
  mayStartCommands?: boolean;
  /** Where work is asked for that this process does not do itself: it ends with the answer. */
  orders?: Orders | undefined;
  /** The slot of the default space where that is known to be there, so that nothing is asked at the start. */
  defaultSlot?: string | undefined;
}): Promise<UnifiedContextManager> {
  const { database, settings, telemetry = noTelemetry, clock = systemClock } = deps;
  const ids = deps.ids ?? createIds({ clock });
  const metrics = deps.metrics ?? createMetrics();
  const nudges = createNudges();
  const { orders } = deps;
  /** Whoever gave the orders waits for what is on its way. */
  const orderIndexing = ({ space, slot }: SpaceRef) =>
    orders
      ?.send({ space, slot, task: 'index' })
      .catch((error) => telemetry.log({ level: 'warn', event: 'order.failed', facts: { space }, error }));
  const onChanged = (of: SpaceRef) => {
    nudges.nudge(of.space);
    search.indexing.wake(of);
    sync.wake(of);
    void orderIndexing(of);
  };
  const limits = settings.cache;
  const { touchedItems: items, marks, listedItems: listed, replyBytes } = limits;
  const bounds = { items, marks, listed, replyBytes };
  const redis = deps.redis?.(bounds) ?? createInProcessRedis({ bounds, clock });
  const onFailure = (error: unknown) => telemetry.log({ level: 'warn', event: 'cache.layer2', error });
  const breaker = { failures: limits.breakerFailures, withinMs: limits.breakerWithinMs, openMs: limits.breakerOpenMs };
  const cache = createCache({ redis, limits: { ...limits, breaker }, clock, nonce: () => ids.random(16), onFailure });
  const kinds = createContextKinds(settings);
  const keyKind = createKeyKind(settings);
  const reads = createCachedReads({ database, cache, kinds, settings });
  const reports = createReports({ database, cache, ids, everyMs: limits.reportSeconds * 1000 });
  const contexts = createContexts({ database, cache, reads, kinds, reports, clock, settings, onChanges: onChanged });

  // What follows is loaded by whoever uses it first: an ordinary read or write needs none of it (decision 12).
  const reconciling = lazily(async () => {
    const { createReconciling } = await import('./contexts/reconciling.ts');
    return createReconciling({ database, cache, kinds, reads, derivedKinds: ['graph', 'search', 'pack'] });
  });
  const warming = lazily(async () => {
    const { createWarming } = await import('./contexts/warming.ts');
    return createWarming({ database, reads, clock, settings });
  });
  const embedders = deps.embedders ?? ([createStaticEmbedder()] as const);
  const startedMs = clock();
  const indexer = lazily(async () => {
    const { createIndexer } = await import('./search/indexer.ts');
    return createIndexer({
      database,
      embedders,
      isNamed: deps.embedders !== undefined || deps.engine !== undefined,
      startedMs,
      engine: deps.engine,
      streamContent: (request, context) => contexts.streamContent(request, context, 0, context.sizeBytes),
      settings,
      telemetry,
      clock,
      ids,
    });
  });
  const indexing = lazily(async () => (await indexer()).indexing);
  const search = opensLazily<Search>(
    lazily(async () => {
      const { createSearch } = await import('./search/search.ts');
      return createSearch({ ...(await indexer()), database, cache, contexts, settings });
    }),
    {
      engine: deps.engine?.name ?? 'pgvector',
      embedder: embedders[0].id,
      indexing: opensLazily(indexing, follows(indexing)),
    },
  );
  const uploads = opensLazily<Uploads>(
    lazily(async () => {
      const { createUploads } = await import('./contexts/uploads.ts');
      return createUploads({ database, contexts, ids, settings });
    }),
    {},
  );
  const history = opensLazily<History>(
    lazily(async () => {
      const { createHistory } = await import('./versions/history.ts');
      return createHistory({
        database,
        contexts,
        removeErased: async (space, changes) => (await reconciling()).removeErased(space, changes),
        forgetVectors: async (space, of) => within(erasedMs, (await indexer()).vectors.forget(space, of)),
        ids,
        settings,
      });
    }),
    {},
  );
  const revisions = opensLazily<Revisions>(
    lazily(async () => {
      const { createRevisions } = await import('./versions/revisions.ts');
      return createRevisions({ contexts, uploads, settings });
    }),
    {},
  );
  const feed = opensLazily<Feed>(
    lazily(async () => {
      const { createFeed } = await import('./contexts/feed.ts');
      return createFeed({ database, nudges });
    }),
    {},
  );
  const caching: Caching = {
    report: async (request) => {
      const { reportCaching } = await import('./contexts/statistics.ts');
      return reportCaching({ reports, settings }, request, cache.stats());
    },
    explain: (request, id, kind) => reads.explain(request, id, kind),
    warm: async (space, wanted) => (await warming()).warm(space, wanted),
    invalidate: async (request, what, idempotency) => {
      const { invalidateContexts } = await import('./contexts/invalidation.ts');
      return invalidateContexts({ database, contexts }, request, what, idempotency);
    },
  };
  const openMemory = lazily(async () => {
    const { createMemory } = await import('./memory/memory.ts');
    return createMemory({ database, cache, contexts, settings });
  });
  const memory = opensLazily<Memory>(openMemory, {
    async *listNodes(request) {
      yield* (await openMemory()).listNodes(request);
    },
  });
  const openSync = lazily(async () => {
    const [{ createSync }, { connectors }] = await Promise.all([import('./sync/sync.ts'), import('./connectors.ts')]);
    return createSync({
      database,
      contexts,
      feed,
      connectors,
      mayStartCommands: deps.mayStartCommands ?? false,
      runElsewhere: orders && (({ space, slot }, run) => orders.send({ space, slot, task: 'run', ...run })),
      settings,
      telemetry: tellAll(telemetry, metrics),
      clock,
      ids,
    });
  });
  const sync = opensLazily<Sync>(openSync, {
    ...follows(openSync),
    conflicts: opensLazily(
      lazily(async () => (await openSync()).conflicts),
      {},
    ),
    close: async () => (await openSync.begun())?.close(),
  });
  const openFactory = lazily(async () => {
    const { createFactory } = await import('./factory/factory.ts');
    return createFactory({
      database,
      cache,
      contexts,
      memory,
      search,
      ids,
      settings,
      telemetry: tellAll(telemetry, metrics),
      queue: orders && { send: ({ space, slot }) => orders.send({ space, slot, task: 'work' }) },
    });
  });
  const factory = opensLazily<Factory>(openFactory, {
    follow: follows(openFactory).follow,
    settled: async () => (await openFactory.begun())?.settled(),
  });
  const { ownerToken } = deps;
  const access = createAccess({
    database,
    clock,
    ids,
    ownerToken,
    cache,
    keyKind,
    committing: contexts.committing,
    forgetVectors: async (space) => (await indexer()).vectors.forgetSpace(space),
  });
  if (deps.defaultSlot === undefined) await access.prepare();
  else access.credentials.openedDefault(deps.defaultSlot);
  const resumeAfter = new Map<string, string>();

  return {
    contexts,
    history,
    uploads,
    revisions,
    memory,
    search,
    sync,
    factory,
    caching,
    feed,
    access,
    nudges,
    ids,
    settings,

    async statistics(request) {
      const { readStatistics } = await import('./contexts/statistics.ts');
      return readStatistics({ database, reports, settings }, request, {
        stats: cache.stats(),
        engines: metrics.engines(),
        search: { engine: search.engine, embedder: search.embedder },
      });
    },

    async printMetrics() {
      return { text: await metrics.print(cache.stats()), contentType: metrics.contentType };
    },

    async health() {
      const { checkHealth } = await import('./health.ts');
      return checkHealth({
        database,
        redis,
        isRedisOwn: deps.redis === undefined,
        engine: deps.engine,
        embedder: embedders[0],
        settings,
        telemetry,
      });
    },

    async once(request, idempotency, work) {
      const { runOnce } = await import('./contexts/once.ts');
      return runOnce(database, request, idempotency, work);
    },

    async cleanup(options) {
      const { cleanSpace } = await import('./versions/maintenance.ts');
      return inSpaces('cleanup', options, (space, budgetMs) =>
        cleanSpace({ database, contexts, settings }, space, budgetMs),
      );
    },

    warm: (options) =>
      inSpaces('warm', options, async (space, budgetMs) => {
        await reports.flush(space);
        return caching.warm(space, { budgetMs: Math.min(budgetMs, limits.warm.budgetMs) });
      }),

    reconcile: (options) =>
      inSpaces('reconcile', options, async (space, budgetMs) => (await reconciling()).reconcile(space, budgetMs)),

    async index(options) {
      if (options.only === undefined) {
        const { vectors, onFailure: onIndexFailure } = await indexer();
        await vectors.forgetDropped().catch((error) => onIndexFailure(error, ''));
      }
      return inSpaces('index', options, (space, budgetMs) => search.indexing.index(space, budgetMs));
    },

    synchronise: ({ isNudged, ...options }) =>
      inSpaces('synchronise', options, (space, budgetMs) =>
        sync.runDue(space, { budgetMs, isNudged, limitMs: options.limitMs }),
      ),

    work: (options) => inSpaces('work', options, (space, budgetMs) => factory.work(space, budgetMs)),

    reindex: (options) => inSpaces('reindex', options, (space, budgetMs) => search.indexing.rebuild(space, budgetMs)),

    async load(parts) {
      const loads = { database: database.load, index: indexing, sync: openSync, factory: openFactory };
      await Promise.all(parts.map((part) => loads[part]()));
    },

    async close() {
      await sync.close();
      await deps.engine?.close();
      await database.close();
    },
  };
  /** Runs a task in one space or in all; one space in trouble does not keep the others from it. */
  async function inSpaces<Done extends object>(
    task: string,
    { only, budgetMs }: TaskOptions,
    run: (space: SpaceRef, budgetMs: number) => Promise<Done>,
  ): Promise<Record<string, Done>> {
    const deadline = performance.now() + budgetMs;
    const done: Record<string, Done> = {};
    const runIn = async (of: SpaceRef) => {
      done[of.space] = await run(of, Math.max(deadline - performance.now(), 0));
      // A run that found nothing to do is no news.
      const { tookMs: _took, skipped: _skipped, nextMs: _next, ...counts } = done[of.space] as Record<string, unknown>;
      if (Object.values(counts).some(Boolean))
        telemetry.log({ level: 'info', event: task, facts: { space: of.space, ...done[of.space] } });
    };
    if (only !== undefined) {
      await runIn(only);
      return done;
    }
    // Where the budget ended the last run of the task, this one goes on.
    for (let after = resumeAfter.get(task); ; ) {
      const spaces = await access.listSpaces({ after, limit: 100 });
      for (const { id, createdMs } of spaces) {
        await runIn({ space: id, slot: slotOf(id, createdMs) }).catch((error) =>
          telemetry.log({ level: 'error', event: `${task}.failed`, facts: { space: id }, error }),
        );
        resumeAfter.set(task, id);
        if (performance.now() >= deadline) return done;
      }
      after = spaces.at(-1)?.id;
      if (spaces.length === 100) continue;
      resumeAfter.delete(task);
      return done;
    }
  }
}

/** A part as something that follows what is written: to do so loads it, and what it is told before that is none of its business. */
function follows<Part extends { follow(): () => Promise<void>; wake?(of: SpaceRef): void }>(part: Lazy<Part>) {
  return {
    follow() {
      const following = part().then((loaded) => loaded.follow());
      return async () => (await following)();
    },
    wake(of: SpaceRef) {
      part.begun()?.then(
        (loaded) => loaded.wake?.(of),
        () => {},
      );
    },
  };
}

// How long an erase waits for the engine beside PostgreSQL.
const erasedMs = 5000;
