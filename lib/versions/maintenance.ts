import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { findExpired, type Kind, kinds, removeBatch } from './cleanup.sql.ts';

/** What a cleanup did to one space: how many of each kind it removed. */
export interface CleanupReport extends Readonly<Record<Kind, number>> {
  /** Contexts whose time was over and that have their tombstone now. */
  readonly expired: number;
  /** Whether the budget ended before the work did; the next run goes on. */
  readonly isUnfinished: boolean;
}

const expiredBatch = 100;

/**
 * Gives expired contexts their tombstones and removes what retention no longer keeps, in bounded batches: stopped
 * anywhere, the next run goes on.
 *
 * @param budgetMs no new batch begins after this long.
 */
export async function cleanSpace(
  deps: { database: Database; contexts: Contexts; settings: Settings },
  space: SpaceRef,
  budgetMs: number,
): Promise<CleanupReport> {
  const { database, contexts, settings } = deps;
  const request = systemRequest(space, 'cleanup');
  const deadline = performance.now() + budgetMs;
  const total = {
    expired: 0,
    tombstones: 0,
    versions: 0,
    contents: 0,
    idempotencyKeys: 0,
    uploads: 0,
    changes: 0,
    conflicts: 0,
    cacheEntries: 0,
    cacheReports: 0,
    events: 0,
    sessions: 0,
  };
  const bounds = {
    tombstoneDays: settings.tombstones.retainedDays,
    retained: settings.versions.retained,
    retainedDays: settings.versions.retainedDays,
    feedDays: settings.feed.retainedDays,
    reportDays: settings.cache.reportDays,
    doneDays: settings.factory.doneDays,
    deadDays: settings.factory.deadDays,
    sessionDays: settings.factory.sessionDays,
  };
  const isOver = () => performance.now() >= deadline;

  async function expire(): Promise<boolean> {
    const ids = await findExpired(database, request, expiredBatch);
    if (ids.length === 0) return true;
    await contexts.write(
      request,
      ids.map((id) => ({ op: 'expire', id })),
      { atomic: false },
    );
    total.expired += ids.length;
    return false;
  }
  async function remove(kind: Kind): Promise<boolean> {
    const { removed, isDone } = await retryLost(() => removeBatch(database, request, kind, bounds));
    total[kind] += removed;
    return isDone;
  }

  for (const step of [expire, ...kinds.map((kind) => () => remove(kind))]) {
    for (let isDone = false; !isDone; isDone = await step()) {
      if (isOver()) return { ...total, isUnfinished: true };
    }
  }
  return { ...total, isUnfinished: false };
}
