import type { MaybePromise } from '../base/maybe-promise.ts';
import { Problem } from '../base/problem.ts';
import { type Database, isDatabaseError, type Statement } from '../postgres/database.ts';
import type { Change } from './context.ts';
import { readChanges } from './feed.sql.ts';
import { moveCursor, readCursor } from './follower.sql.ts';
import { type SpaceRef, systemRequest } from './request.ts';

/** A reader of the feed that remembers how far it has come. */
export interface Follower {
  /**
   * Takes one batch of changes in `space` and carries out the effect. Killed anywhere, it begins the same batch again;
   * run on several instances at once, each change's effect is committed once.
   *
   * @returns how many changes were taken, and whether more are waiting.
   * @throws Problem `cursor_expired` for a follower that begins behind what the feed still holds; a known one is waited for.
   */
  step(space: SpaceRef): Promise<{ taken: number; hasMore: boolean }>;
}

/** What a batch of changes amounts to. */
export interface Effect {
  /** Committed together with the cursor. */
  readonly statements: readonly Statement[];
  /** How many of the changes they stand for, from the first; those behind come again. */
  readonly taken: number;
}

/**
 * The one loop behind everything that follows the feed.
 *
 * @param deps.batch how many changes a step takes at most.
 */
export function createFollower(deps: {
  database: Database;
  name: string;
  batch: number;
  /**
   * Does what stands for the changes that the feed no longer holds, which goes up to `floor`; absent, the follower has to be
   * built anew. @returns the tick up to which it stands for them, null where it is not done yet.
   */
  onExpired?: (space: SpaceRef, floor: number) => Promise<number | null>;
  effect: (changes: readonly Change[], space: string) => MaybePromise<Effect>;
}): Follower {
  const { database, name, batch, effect } = deps;
  return {
    async step(of) {
      const { space } = of;
      const request = systemRequest(of, name);
      const cursor = await readCursor(database, request, name);
      const { changes, seq, floor } = await readChanges(database, request, {
        since: cursor,
        limit: batch,
        isContextsOnly: false,
      });
      if (floor > cursor && deps.onExpired) {
        const to = await deps.onExpired(of, floor);
        if (to !== null && to > cursor) await database.in(request).run([moveCursor(name, cursor, to)]);
        return { taken: 0, hasMore: true };
      }
      if (floor > cursor) {
        throw new Problem('cursor_expired', `The feed no longer holds what ${name} has not seen; build it anew.`, {
          resumeFrom: String(floor),
        });
      }
      if (changes.length === 0 && seq <= cursor) return { taken: 0, hasMore: false };
      const { statements, taken } = await effect(changes, space);
      const isAll = taken === changes.length && changes.length < batch;
      const to = isAll ? seq : (changes[taken - 1]?.tick ?? cursor);
      try {
        await database.in(request).run([...statements, moveCursor(name, cursor, to)]);
      } catch (error) {
        if (isDatabaseError(error) && error.sqlState === 'LM002') return { taken: 0, hasMore: true };
        throw error;
      }
      return { taken, hasMore: to < seq };
    },
  };
}
