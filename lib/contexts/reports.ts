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

// What warming can do something about.
const warmedKinds = ['head', 'effective'];

/** @param deps.everyMs how long after a report of a space the next is due; 0 never has one. */
export function createReports(deps: { database: Database; cache: Cache; ids: Ids; everyMs: number }): Reports {
  const { database, cache, ids, everyMs } = deps;
  function take({ space, slot }: SpaceRef, notBeforeMs: number): Statement | undefined {
    const report = everyMs === 0 ? null : cache.takeReport(slot, { everyMs: notBeforeMs, kinds: warmedKinds });
    return report === null ? undefined : insertReport(space, ids.sortable(), report);
  }

  return {
    due: (space) => take(space, everyMs),
    async flush(space) {
      const statement = take(space, 0);
      if (statement !== undefined) await runOne(database.in(space), statement);
    },
    statistics: (request) => readCacheStatistics(database, request),
  };
}
