import type { Cache } from '../cache/cache.ts';
import { keyOf } from '../cache/kind.ts';
import type { Database } from '../postgres/database.ts';
import type { CachedReads } from './cached-reads.ts';
import type { Change } from './context.ts';
import { createFollower } from './follower.ts';
import type { ContextKinds } from './kinds.ts';
import type { SpaceRef } from './request.ts';

/** The net below what writers tell layer 2. */
export interface Reconciling {
  /**
   * Removes the bytes of the contexts that the changes erased, and of every answer that may have been made of them, from layer 2.
   *
   * @returns how many entries went.
   * @throws Problem `unavailable` where layer 2 does not answer.
   */
  removeErased(space: SpaceRef, changes: readonly Change[]): Promise<number>;
  /** Brings layer 2 up to PostgreSQL's clock, and removes what was erased while it was away. */
  reconcile(space: SpaceRef, budgetMs: number): Promise<{ changes: number; isUnfinished: boolean }>;
}

const feedBatch = 1000;

export function createReconciling(deps: {
  database: Database;
  cache: Cache;
  kinds: ContextKinds;
  reads: CachedReads;
  /** Names of further kinds of answers that are made of contents. */
  derivedKinds: readonly string[];
}): Reconciling {
  const { database, cache, kinds, reads, derivedKinds } = deps;
  const names = [kinds.ancestry, kinds.effective, kinds.list, kinds.tree].map(({ name }) => name);
  const derived = [...names, ...derivedKinds].map((name) => keyOf({ name }, ''));

  const removeErased = async (space: SpaceRef, changes: readonly Change[]) => {
    const heads = changes.flatMap(({ operation, id }) =>
      operation === 'erase' && id !== null ? [keyOf(kinds.head, id)] : [],
    );
    return heads.length === 0 ? 0 : cache.purge(space.slot, [...derived, ...heads]);
  };

  return {
    removeErased,
    async reconcile(space, budgetMs) {
      const deadline = performance.now() + budgetMs;
      await reads.repair(space);
      const follower = createFollower({
        database,
        name: 'cache',
        batch: feedBatch,
        // Whatever was erased then is among these.
        async onExpired(_space, floor) {
          await cache.purge(space.slot, [...derived, keyOf(kinds.head, '')]);
          return floor;
        },
        // Its cursor moves only once the bytes are gone.
        async effect(changes) {
          await removeErased(space, changes);
          return { statements: [], taken: changes.length };
        },
      });
      for (let changes = 0; ; ) {
        const { taken, hasMore } = await follower.step(space);
        changes += taken;
        if (!hasMore || performance.now() >= deadline) return { changes, isUnfinished: hasMore };
      }
    },
  };
}
