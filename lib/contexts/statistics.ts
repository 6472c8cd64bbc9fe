import type { CacheStats } from '../cache/cache.ts';
import { type CacheSummary, summarize } from '../cache/summary.ts';
import type { Settings } from '../config/settings.ts';
import type { Database } from '../postgres/database.ts';
import type { EngineFigures } from '../telemetry/metrics.ts';
import type { KindStatistics } from './cache.sql.ts';
import type { Reports } from './reports.ts';
import type { RequestContext } from './request.ts';
import {
  type IndexStatistics,
  type PeerStatistics,
  readSpaceStatistics,
  type SpaceStatistics,
} from './statistics.sql.ts';

/** A threshold of `alerts` that is passed. */
export interface Warning {
  /** Which setting, such as `alerts.cacheHitRate`. */
  readonly alert: string;
  readonly value: number;
  readonly threshold: number;
  readonly detail: string;
}

/** What a space holds, what its caches do, how the engines answer, and what of that should worry an operator. */
export interface Statistics {
  readonly space: SpaceStatistics;
  readonly cache: CacheSummary & { readonly reported: readonly KindStatistics[] };
  readonly search: SearchStatistics;
  /** The peers of the space. */
  readonly sync: readonly PeerStatistics[];
  readonly engines: Readonly<Record<string, EngineFigures>>;
  readonly warnings: readonly Warning[];
}

/** What holds the vectors of searches, and who makes them. */
export interface SearchParts {
  readonly engine: string;
  /** The id of the present embedder. */
  readonly embedder: string;
}

/** What the search index of the space holds, and what this instance has searched since it began. */
export interface SearchStatistics extends SearchParts, IndexStatistics {
  /** Chunks with the vectors of the present embedder. */
  readonly embedded: number;
  /** Searches that the caches answered, those that asked the engines, and what one of these took; null before the first. */
  readonly queries: { readonly cached: number; readonly asked: number; readonly averageMs: number | null };
}

/** What the caches of this instance did since it began, and those of all instances as far as they reported. */
export interface CachingReport {
  readonly stats: CacheStats;
  readonly summary: CacheSummary;
  /** What layer 3 holds of the space; null where PostgreSQL is away, as is `reported`. */
  readonly layer3: { readonly entries: number; readonly bytes: number } | null;
  readonly reported: readonly KindStatistics[] | null;
}

export async function reportCaching(
  deps: { readonly reports: Reports; readonly settings: Settings },
  request: RequestContext,
  stats: CacheStats,
): Promise<CachingReport> {
  const reported = await deps.reports.statistics(request).catch(() => null);
  const sum = (name: 'l3Entries' | 'l3Bytes') => (reported ?? []).reduce((total, of) => total + of[name], 0);
  const layer3 = reported && { entries: sum('l3Entries'), bytes: sum('l3Bytes') };
  return { stats, summary: summarize(stats, layer3Kinds(deps.settings)), layer3, reported };
}

// Fewer reads than this say nothing about a hit rate.
const readsMin = 1000;

/** Two requests to PostgreSQL. */
export async function readStatistics(
  deps: { readonly database: Database; readonly reports: Reports; readonly settings: Settings },
  request: RequestContext,
  here: {
    readonly stats: CacheStats;
    readonly engines: Readonly<Record<string, EngineFigures>>;
    readonly search: SearchParts;
  },
): Promise<Statistics> {
  const { database, settings } = deps;
  const { index, sync, ...space } = await readSpaceStatistics(database, request, here.search.engine);
  const { summary, layer3, reported } = await reportCaching(deps, request, here.stats);
  const layer3Bytes = layer3?.bytes ?? 0;
  const { layer2 } = here.stats;
  const { alerts } = settings;
  const reads = summary.l1.hits + summary.l1.misses;
  const warnings: Warning[] = [];
  const warn = (name: keyof typeof alerts, value: number | null | undefined, isOver: boolean, detail: string) => {
    if (isOver && typeof value === 'number')
      warnings.push({ alert: `alerts.${name}`, value, threshold: alerts[name], detail });
  };
  const rate = summary.combinedHitRate;
  warn(
    'cacheHitRate',
    rate,
    reads >= readsMin && rate !== null && rate < alerts.cacheHitRate,
    'The caches of this instance answer few of its reads; docs/tuning.md says what may help.',
  );
  const postgresMs = here.engines['postgres']?.averageMs;
  warn('databaseMs', postgresMs, (postgresMs ?? 0) > alerts.databaseMs, 'PostgreSQL is slow, seen from this instance.');
  const layer2Ms = layer2.calls === 0 ? 0 : layer2.ms / layer2.calls;
  warn('syncMs', layer2Ms, layer2Ms > alerts.syncMs, 'Layer 2 is slow: every write waits for it.');
  warn('spaceBytes', space.contentBytes, space.contentBytes > alerts.spaceBytes, 'The space holds a lot.');
  warn('layer3Bytes', layer3Bytes, layer3Bytes > alerts.layer3Bytes, 'Layer 3 of the space holds a lot.');
  const search = {
    ...here.search,
    ...index,
    embedded: index.vectors[here.search.embedder] ?? 0,
    queries: countQueries(here.stats),
  };
  return { space, cache: { ...summary, reported: reported ?? [] }, search, sync, engines: here.engines, warnings };
}

function countQueries({ kinds }: CacheStats): SearchStatistics['queries'] {
  const { search } = kinds;
  if (search === undefined) return { cached: 0, asked: 0, averageMs: null };
  const { l1Hits, joined, l2Hits, l3Hits, loads, originCalls, originMs } = search;
  return {
    cached: l1Hits + joined + l2Hits + l3Hits,
    asked: loads,
    averageMs: originCalls === 0 ? null : originMs / originCalls,
  };
}

const layer3Kinds = ({ cache }: Settings) =>
  Object.entries(cache.kinds).flatMap(([name, { layers }]) => (layers.some((layer) => layer === 'l3') ? [name] : []));
