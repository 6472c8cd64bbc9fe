import type { CacheStats } from './cache.ts';
import type { KindCounts } from './counts.ts';

/** How often a layer had what it was asked for; null before it was asked. */
export interface LayerSummary {
  readonly hits: number;
  readonly misses: number;
  readonly hitRate: number | null;
}

/** What the caches of an instance did, by layer; what was asked to go past them is left out. */
export interface CacheSummary {
  readonly l1: LayerSummary;
  readonly l2: LayerSummary;
  readonly l3: LayerSummary;
  /** The share of reads that the context tables were not asked for; null before any. */
  readonly combinedHitRate: number | null;
}

/** @param layer3Kinds kinds that are looked for in layer 3. */
export function summarize({ kinds }: Pick<CacheStats, 'kinds'>, layer3Kinds: readonly string[]): CacheSummary {
  const sum = (count: (counts: KindCounts) => number, of = Object.keys(kinds)) =>
    of.reduce((total, kind) => total + (kinds[kind] ? count(kinds[kind]) : 0), 0);
  const layer = (hits: number, misses: number) => ({ hits, misses, hitRate: share(hits, hits + misses) });
  const [l1, l2, l3] = [sum((one) => one.l1Hits), sum((one) => one.l2Hits), sum((one) => one.l3Hits)];
  const loads = sum((one) => one.loads);
  return {
    l1: layer(l1, l2 + l3 + loads),
    l2: layer(l2, l3 + loads),
    l3: layer(
      l3,
      sum((one) => one.loads, [...layer3Kinds]),
    ),
    combinedHitRate: share(l1 + l2 + l3, l1 + l2 + l3 + loads),
  };
}

const share = (part: number, whole: number) => (whole === 0 ? null : part / whole);
