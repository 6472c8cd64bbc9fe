import type { Clock } from '../base/clock.ts';
import type { Ids } from '../base/id.ts';
import type { Cache } from '../cache/cache.ts';
import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { insertReport, type KindStatistics, readCacheStatistics } from './cache.sql.ts';
import type { RequestContext, SpaceRef } from './request.ts';

/** What this instance's caches did, on its way into the database. */
export interface Reports {
  /** A report for a write to bring along, where the last one is long enough ago. */
  due(space: SpaceRef): Statement | undefined;
  /** Reports now, where there is something to report. */
  flush(space: SpaceRef): Promise<void>;
  /** What the instances reported of a space, and what layer 3 holds of it. */
  statistics(request: RequestContext): Promise<KindStatistics[]>;
}

/** @param deps.everyMs how long after a report of a space the next is due; 0 never has one. */
export function createReports(deps: {
  database: Database;
  cache: Cache;
  clock: Clock;
  ids: Ids;
  everyMs: number;
}): Reports {
  const { database, cache, clock, ids, everyMs } = deps;
  const reportedMs = new Map<string, number>();

  function take({ space, slot }: SpaceRef): Statement | undefined {
    reportedMs.set(slot, clock());
    const report = cache.takeReport(slot);
    return report === null ? undefined : insertReport(space, ids.sortable(), report);
  }

  return {
    due(space) {
      const last = reportedMs.get(space.slot);
      // The first write after the start has nothing to tell yet.
      if (last === undefined) reportedMs.set(space.slot, clock());
      return everyMs > 0 && last !== undefined && clock() - last >= everyMs ? take(space) : undefined;
    },
    async flush(space) {
      const statement = everyMs > 0 ? take(space) : undefined;
      if (statement !== undefined) await runOne(database.in(space), statement);
    },
    statistics: (request) => readCacheStatistics(database, request),
  };
}
