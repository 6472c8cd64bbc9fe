import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { systemRequest } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import { findExpired, type Removed, removeBatch } from './cleanup.sql.ts';

/** What a cleanup did to one space. */
export interface CleanupReport extends Removed {
  /** Contexts whose time was over and that have their tombstone now. */
  readonly expired: number;
  /** Whether the budget ended before the work did; the next run goes on. */
  readonly isUnfinished: boolean;
}

const batchSize = 100;

/**
 * Gives expired contexts their tombstones and removes what retention no longer keeps, in bounded batches: stopped
 * anywhere, the next run goes on.
 *
 * @param budgetMs no new batch begins after this long.
 */
export async function cleanSpace(
  deps: { database: Database; contexts: Contexts; settings: Settings },
  space: string,
  budgetMs: number,
): Promise<CleanupReport> {
  const { database, contexts, settings } = deps;
  const request = systemRequest(space, 'cleanup');
  const deadline = performance.now() + budgetMs;
  const total = { expired: 0, tombstones: 0, versions: 0, contents: 0, idempotencyKeys: 0, changes: 0 };
  for (;;) {
    const ids = await findExpired(database, request, batchSize);
    if (ids.length > 0) {
      await contexts.write(
        request,
        ids.map((id) => ({ op: 'expire', id })),
        { atomic: false },
      );
      total.expired += ids.length;
    }
    const removed = await removeBatch(database, request, {
      tombstoneDays: settings.tombstones.retainedDays,
      retained: settings.versions.retained,
      retainedDays: settings.versions.retainedDays,
      feedDays: settings.feed.retainedDays,
      limit: batchSize,
    });
    let isBusy = ids.length > 0;
    for (const key of ['tombstones', 'versions', 'contents', 'idempotencyKeys', 'changes'] as const) {
      total[key] += removed[key];
      isBusy ||= removed[key] > 0;
    }
    if (!isBusy) return { ...total, isUnfinished: false };
    if (performance.now() > deadline) return { ...total, isUnfinished: true };
  }
}
