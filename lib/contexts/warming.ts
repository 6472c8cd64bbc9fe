import type { Clock } from '../base/clock.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { Database } from '../postgres/database.ts';
import { readWarmPlan } from './cache.sql.ts';
import type { CachedReads } from './cached-reads.ts';
import { readList } from './read.sql.ts';
import { type SpaceRef, systemRequest } from './request.ts';

/** What is to be warmed: these, or the most valuable of all or of a part of the space. */
export interface WarmRequest {
  readonly ids?: readonly string[] | undefined;
  readonly kind?: string | undefined;
  readonly subtreeOf?: string | undefined;
  /** How many values at most. */
  readonly top?: number | undefined;
  /** No new step begins after this long. */
  readonly budgetMs: number;
}

export interface WarmReport {
  /** Values that were loaded for layer 2, or folded. */
  readonly warmed: number;
  /** Values it had already, could not be given, or that the budget did not reach. */
  readonly skipped: number;
  readonly tookMs: number;
}

/** Fills the caches before anyone asks. */
export interface Warming {
  /** Runs through what is wanted, the most valuable first: each step of 50 values is three requests at most. */
  warm(space: SpaceRef, wanted: WarmRequest): Promise<WarmReport>;
}

const stepKeys = 50;
const pageContexts = 200;

export function createWarming(deps: {
  database: Database;
  reads: CachedReads;
  clock: Clock;
  settings: Settings;
}): Warming {
  const { database, reads, clock, settings } = deps;
  const { top: topDefault, halfLifeHours } = settings.cache.warm;

  async function plan(
    space: SpaceRef,
    { ids, kind, subtreeOf, top = topDefault }: WarmRequest,
    isOver: () => boolean,
  ): Promise<string[]> {
    if (ids !== undefined) return ids.map((id) => `head:${id}`);
    const request = systemRequest(space, 'warm');
    if (kind === undefined && subtreeOf === undefined)
      return readWarmPlan(database, request, { halfLifeHours, limit: top });
    const found: string[] = [];
    for (let after: { id: string; updatedMs: number } | undefined; found.length < top && !isOver(); ) {
      const limit = Math.min(pageContexts, top - found.length);
      const page = { filter: { kind, subtreeOf }, order: 'updated', after, limit } as const;
      const { value } = await readList(database, request, page);
      found.push(...value.items.map(({ id }) => `head:${id}`));
      const last = value.items.at(-1);
      if (!value.hasMore || last === undefined) break;
      after = last;
    }
    // Of these first what is read most; the others as they are, the newest first.
    const ranks = new Map(
      (await readWarmPlan(database, request, { halfLifeHours, limit: top })).map((key, rank) => [key, rank]),
    );
    return found.sort((left, right) => (ranks.get(left) ?? top) - (ranks.get(right) ?? top));
  }

  return {
    async warm(space, wanted) {
      const startedMs = clock();
      const isOver = () => clock() - startedMs >= wanted.budgetMs;
      const keys = await plan(space, wanted, isOver);
      let warmed = 0;
      // In the order of their value, but heads that follow one another together.
      for (let at = 0; at < keys.length && !isOver(); ) {
        const isHead = (key: string | undefined) => key?.startsWith('head:') ?? false;
        let end = at + 1;
        while (isHead(keys[at]) && isHead(keys[end]) && end - at < stepKeys) end++;
        warmed += await step(space, keys.slice(at, end)).catch(skipUnlessAway);
        at = end;
      }
      return { warmed, skipped: keys.length - warmed, tookMs: clock() - startedMs };
    },
  };

  async function step(space: SpaceRef, keys: readonly string[]): Promise<number> {
    const ids = keys.map((key) => key.slice(key.indexOf(':') + 1));
    if (keys[0]?.startsWith('head:')) return (await reads.warmHeads(space, ids)).warmed;
    // Reading is warming here: what no layer has is folded, and kept in all of them.
    return (await reads.warmEffective(space, ids[0] as string)) ? 1 : 0;
  }
}

/** What cannot be given, such as a chain that has grown too large, is skipped; a PostgreSQL that is away ends the run. */
function skipUnlessAway(error: unknown): number {
  if (error instanceof Problem && error.code !== 'unavailable') return 0;
  throw error;
}
