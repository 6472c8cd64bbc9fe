import type { SpaceRef } from '../contexts/request.ts';

/** What a look at the peers of a space has found and done. */
export interface DueReport {
  /** Runs that came to their end, and those that failed. */
  readonly runs: number;
  readonly failed: number;
  /** When the next one is due, in milliseconds from now; null where no peer has an interval. */
  readonly nextMs: number | null;
}

/** Runs peers when they are due, in a process that stays. */
export interface Following {
  /** From now on. @returns what ends that, and waits for the runs that are going on. */
  follow(): () => Promise<void>;
  /** Hears that something was written, or, where `isPeer`, that a peer was named. */
  wake(space: SpaceRef, isPeer?: boolean): void;
  /** Hears what a look at the peers of a space has found, whoever looked. */
  note(space: SpaceRef, report: DueReport): void;
}

// After a look that failed, such as with PostgreSQL away.
const retryMs = 30_000;

/** @param deps.delayMs how long writes are gathered before the peers are run. */
export function createFollowing(deps: {
  delayMs: number;
  runDue: (space: SpaceRef, isNudged: boolean) => Promise<DueReport>;
  onFailure: (error: unknown, space: SpaceRef) => void;
}): Following {
  const { delayMs, runDue, onFailure } = deps;
  // Spaces with peers that have an interval: only in those a write is of interest.
  const known = new Map<string, { timer: NodeJS.Timeout; atMs: number; isNudged: boolean }>();
  const watched = new Set<string>();
  const running = new Map<string, Promise<void>>();
  let isFollowing = false;

  function schedule(space: SpaceRef, inMs: number, isNudged: boolean): void {
    const { slot } = space;
    const atMs = performance.now() + inMs;
    const before = known.get(slot);
    if (before !== undefined && before.atMs <= atMs) {
      before.isNudged ||= isNudged;
      return;
    }
    clearTimeout(before?.timer);
    const entry = {
      // Node takes no longer time than this.
      timer: setTimeout(() => begin(space), Math.min(inMs, 2 ** 31 - 1)),
      atMs,
      isNudged: isNudged || (before?.isNudged ?? false),
    };
    known.set(slot, entry);
  }

  function begin(space: SpaceRef): void {
    const { slot } = space;
    const isNudged = known.get(slot)?.isNudged ?? false;
    known.delete(slot);
    if (running.has(slot)) {
      schedule(space, delayMs, isNudged);
      return;
    }
    const run = runDue(space, isNudged).then(
      (report) => note(space, report),
      (error) => {
        onFailure(error, space);
        if (isFollowing) schedule(space, retryMs, isNudged);
      },
    );
    running.set(
      slot,
      run.finally(() => running.delete(slot)),
    );
  }

  function note(space: SpaceRef, { nextMs }: DueReport): void {
    if (nextMs === null) watched.delete(space.slot);
    else {
      watched.add(space.slot);
      if (isFollowing) schedule(space, Math.max(nextMs, delayMs), false);
    }
  }

  return {
    note,
    follow() {
      isFollowing = true;
      return async () => {
        isFollowing = false;
        for (const { timer } of known.values()) clearTimeout(timer);
        known.clear();
        await Promise.all(running.values());
      };
    },
    wake(space, isPeer = false) {
      if (isFollowing && (isPeer || watched.has(space.slot))) schedule(space, delayMs, true);
    },
  };
}
