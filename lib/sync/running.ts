import { Problem } from '../base/problem.ts';
import type { RequestContext } from '../contexts/request.ts';
import { type Database, isDatabaseError } from '../postgres/database.ts';
import type { RunRef } from './bases.sql.ts';
import { holdRun } from './peers.sql.ts';

/** The runs that go on in this process. */
export interface Running {
  /**
   * Carries out a run, which has to end soon once its signal is aborted: by {@link Running.stop}, or because another run has
   * taken over the peer.
   *
   * @param work tells `hold` when it holds its peer; from then on, as long as it goes on, its lease is renewed.
   * @param limitMs after how long it is aborted with {@link outOfTime}; absent, never.
   */
  go<Done>(
    request: RequestContext,
    work: (signal: AbortSignal, hold: (run: RunRef) => void) => Promise<Done>,
    limitMs?: number,
  ): Promise<Done>;
  /** @throws what they were stopped with, where they were. */
  check(): void;
  /** Aborts all with this error, those to come as well, and waits for the end of those that go on. */
  stop(error: Error): Promise<void>;
}

/** What a run is aborted with that has used up its time. */
export const outOfTime = new Problem('unavailable', 'The time of the run was over; the next run goes on.');

// How often a lease is renewed while it lasts.
const renewals = 3;

export function createRunning({ database }: { database: Database }): Running {
  const running = new Set<Promise<unknown>>();
  const stopping = new AbortController();

  /** Renews the lease now and again. @returns what ends that, and waits for the renewal under way. */
  function keep(request: RequestContext, run: RunRef, controller: AbortController): () => Promise<void> {
    let renewal: Promise<void> | undefined;
    const renew = async () => {
      try {
        await holdRun(database, request, run);
      } catch (error) {
        // PostgreSQL may be back before the lease is over; otherwise the run finds out by itself.
        if (isDatabaseError(error) && error.sqlState === 'LM005') controller.abort(error);
      }
      renewal = undefined;
    };
    const timer = setInterval(() => {
      renewal ??= renew();
    }, run.leaseMs / renewals).unref();
    return async () => {
      clearInterval(timer);
      await renewal;
    };
  }

  return {
    async go(request, work, limitMs) {
      const controller = new AbortController();
      const timer = limitMs === undefined ? undefined : setTimeout(() => controller.abort(outOfTime), limitMs);
      const signal = AbortSignal.any([controller.signal, stopping.signal]);
      let end = async () => {};
      const done = work(signal, (run) => {
        end = keep(request, run, controller);
      });
      running.add(done);
      try {
        return await done;
      } finally {
        clearTimeout(timer);
        running.delete(done);
        await end();
      }
    },
    check: () => stopping.signal.throwIfAborted(),
    async stop(error) {
      stopping.abort(error);
      while (running.size > 0) await Promise.allSettled(running);
    },
  };
}
