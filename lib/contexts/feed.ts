import { invalid, Problem } from '../base/problem.ts';
import type { Database } from '../postgres/database.ts';
import type { Change } from './context.ts';
import { readChanges } from './feed.sql.ts';
import type { Nudges } from './nudges.ts';
import type { RequestContext } from './request.ts';

/** The feed as readers see it. */
export interface Feed {
  /**
   * Changes of contexts after `since` (a tick, or `latest`), oldest first. Where there are none yet, waits up to
   * `waitMs` for one.
   *
   * @throws Problem `cursor_expired` with `resumeFrom` where retention has taken changes after `since`.
   * @throws Problem `invalid_request` for a tick that was never given out.
   */
  read(
    request: RequestContext,
    page: { readonly since: number | 'latest'; readonly limit: number; readonly waitMs: number },
  ): Promise<{ changes: readonly Change[]; next: number; seq: number }>;
}

// Other instances do not nudge this one, so a waiting reader looks again this often.
const lookAgainMs = 500;

export function createFeed(deps: { database: Database; nudges: Nudges }): Feed {
  const { database, nudges } = deps;
  return {
    async read(request, page) {
      const { since, limit } = page;
      const signal = request.signal?.();
      const deadline = performance.now() + page.waitMs;
      let from = since;
      for (;;) {
        const position = from === 'latest' ? Number.MAX_SAFE_INTEGER : from;
        const seen = nudges.count(request.space);
        const found = await readChanges(database, request, { since: position, limit, isContextsOnly: true });
        if (from === 'latest') from = found.seq;
        requireReachable(from, found);
        const isFull = found.changes.length === limit;
        const next = isFull ? (found.changes.at(-1)?.tick ?? from) : found.seq;
        const leftMs = deadline - performance.now();
        if (found.changes.length > 0 || leftMs <= 0 || signal?.aborted) {
          return { changes: found.changes, next, seq: found.seq };
        }
        from = next;
        await nudges.wait(request.space, seen, Math.min(lookAgainMs, leftMs), signal);
      }
    },
  };
}

function requireReachable(since: number, found: { readonly seq: number; readonly floor: number }): void {
  if (since > found.seq) throw invalid('since', `the clock of this space stands at ${found.seq}`);
  if (since < found.floor) {
    throw new Problem('cursor_expired', `The feed no longer holds what followed ${since}; list the contexts anew.`, {
      resumeFrom: String(found.floor),
    });
  }
}
