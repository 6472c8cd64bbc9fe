import type { Ids } from '../base/id.ts';
import { Problem } from '../base/problem.ts';
import { createTurns } from '../base/turns.ts';
import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { toProblem } from '../contexts/outcomes.ts';
import { type RequestContext, type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Memory } from '../memory/memory.ts';
import { type Database, isDatabaseError } from '../postgres/database.ts';
import { attemptsMax, backOff, retryLost } from '../postgres/retry.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { type Effects, hashesOf, planEvent, type SessionState, wantedHeads } from './effects.ts';
import { readHeads } from './heads.ts';
import { type Claim, claimEvents, type EventEnd, endEvent, failEvent, type PendingEvent, runEnd } from './inbox.sql.ts';
import { applyMemoryCall, memoryCallOf } from './memory-calls.ts';

/** What a run over the inbox of a space did. */
export interface WorkReport {
  /** Events that are done. */
  readonly events: number;
  /** Events that failed, to be tried again, and those of them that were given up. */
  readonly failed: number;
  readonly dead: number;
  /** When the next one is due, in milliseconds from now; null where nothing is pending. */
  readonly nextMs: number | null;
}

/** Makes contexts of the events that were received. */
export interface Working {
  /**
   * Works what is due in a space, those of a session in order and by one worker at a time over all instances; no new event is
   * begun after the budget. Killed anywhere, the next run goes on: an event and what it amounts to end in one transaction.
   */
  work(space: SpaceRef, budgetMs: number): Promise<WorkReport>;
  /** From now on what is received here is worked at once, for a process that stays. @returns what ends that. */
  follow(): () => Promise<void>;
  /** Hears that something was received. */
  wake(space: SpaceRef): void;
}

// Events of a session that are taken together, and their bytes: what is fetched by one request.
const claimedMax = 16;
const claimedBytesMax = 4_194_304;

export function createWorking(deps: {
  database: Database;
  contexts: Contexts;
  memory: Memory;
  ids: Ids;
  settings: Settings;
  telemetry: Telemetry;
}): Working {
  const { database, contexts, memory, ids, settings, telemetry } = deps;
  const { attempts, retryMs, leaseMs, capture, ownServers } = settings.factory;
  const partBytes = Math.min(settings.factory.sessionBytes, settings.limits.contextBytes - 1024);
  const turns = createTurns();
  const timers = new Map<string, NodeJS.Timeout>();
  const again = new Set<string>();
  let isFollowing = false;

  /** Carries out an event and ends it. @returns what its session is like then. */
  async function carryOut(
    request: RequestContext,
    event: PendingEvent,
    state: SessionState,
    by: { readonly worker: string; readonly leaseMs: number },
  ): Promise<SessionState> {
    const call = memoryCallOf(event, ownServers);
    // Not in the transaction that ends the event; what is applied again changes nothing more.
    if (call !== undefined) await applyMemoryCall(memory, request, call);
    let isFree = false;
    for (let attempt = 1; ; attempt++) {
      const heads = await readHeads(contexts, request, wantedHeads(event, state));
      const effects = planEvent(event, state, heads, { partBytes, capture, isFree });
      const outcome = await write(request, effects, toEnd(event, state, effects, by));
      if (outcome === 'done') return { ...state, part: effects.part, facts: effects.facts };
      isFree ||= outcome === 'misplaced';
      if (attempt === attemptsMax)
        throw new Problem('unavailable', 'Others keep writing the contexts of this session.');
      await backOff(attempt);
    }
  }

  /** @returns `stale` where somebody else has written one of the contexts meanwhile, `misplaced` where the tree has no room for it. */
  async function write(
    request: RequestContext,
    { operations }: Effects,
    end: EventEnd,
  ): Promise<'done' | 'stale' | 'misplaced'> {
    const beside = endEvent(end);
    if (operations.length === 0) {
      await retryLost(() => runEnd(database, request, beside));
      return 'done';
    }
    const answer = await contexts.write(request, operations, { atomic: true, beside });
    if (answer.outcome === 'done') return 'done';
    if (answer.outcome !== 'refused') throw new Problem('internal', 'The write ended in a way nobody foresaw.');
    const { outcome } = answer.result;
    if (outcome === 'stale' || outcome === 'exists' || outcome === 'parent_not_found') return 'stale';
    if (outcome === 'parent_cycle' || outcome === 'tree_too_deep') return 'misplaced';
    throw toProblem(answer.result);
  }

  function toEnd(
    event: PendingEvent,
    { session }: SessionState,
    { operations, part, facts }: Effects,
    by: { readonly worker: string; readonly leaseMs: number },
  ): EventEnd {
    const written = hashesOf(operations);
    return { id: event.id, session, ...by, part, facts, written, contexts: Object.keys(written) };
  }

  async function workSession(
    space: SpaceRef,
    claim: Claim,
    worker: string,
    tally: Tally,
    deadline: number,
  ): Promise<void> {
    const { events, ...rest } = claim;
    let state: SessionState = rest;
    for (const [index, event] of events.entries()) {
      const startedMs = performance.now();
      const isLast = index === events.length - 1 || performance.now() >= deadline;
      const signal = AbortSignal.timeout(leaseMs);
      const request: RequestContext = {
        ...systemRequest(space, 'factory'),
        actor: { kind: 'factory', id: event.actor },
        noCache: true,
        // Whoever takes longer has lost the session by then.
        signal: () => signal,
      };
      try {
        state = await carryOut(request, event, state, { worker, leaseMs: isLast ? 0 : leaseMs });
        tally.events++;
        note('done', event, startedMs);
      } catch (error) {
        await giveUp(space, { id: event.id, session: claim.session, worker, error }).then((outcome) => {
          if (outcome === null) return;
          tally.failed++;
          if (outcome === 'dead') tally.dead++;
          note(outcome === 'dead' ? 'dead' : 'failed', event, startedMs);
        });
        return;
      }
      if (isLast) return;
    }
  }

  /** Notes why an event failed. @returns null where it was somebody else's by then: another worker's, or erased. */
  async function giveUp(
    space: SpaceRef,
    {
      error,
      ...of
    }: { readonly id: string; readonly session: string; readonly worker: string; readonly error: unknown },
  ): Promise<'pending' | 'dead' | null> {
    if (isTaken(error)) return null;
    const reason = reasonOf(error);
    const request = systemRequest(space, 'factory');
    const outcome = await retryLost(() => failEvent(database, request, { ...of, reason }, { attempts, retryMs })).catch(
      (failure) => {
        if (isTaken(failure)) return null;
        throw failure;
      },
    );
    const facts = { space: space.space, id: of.id, reason };
    telemetry.log({
      level: outcome === 'dead' ? 'error' : 'warn',
      event: `factory.${outcome ?? 'taken'}`,
      facts,
      error,
    });
    return outcome;
  }

  const note = (outcome: 'done' | 'failed' | 'dead', { event }: PendingEvent, startedMs: number) =>
    telemetry.hookEvent({ stage: 'work', event, outcome, durationMs: performance.now() - startedMs });

  async function run(space: SpaceRef, budgetMs: number): Promise<WorkReport> {
    const deadline = performance.now() + budgetMs;
    const tally: Tally = { events: 0, failed: 0, dead: 0 };
    const request = systemRequest(space, 'factory');
    for (;;) {
      const worker = ids.sortable();
      const of = { worker, leaseMs, limit: claimedMax, bytes: claimedBytesMax, attempts };
      const { claim, nextMs, dead } = await retryLost(() => claimEvents(database, request, of));
      for (const { id, event } of dead) {
        tally.failed++;
        tally.dead++;
        telemetry.hookEvent({ stage: 'work', event, outcome: 'dead', durationMs: leaseMs });
        telemetry.log({
          level: 'error',
          event: 'factory.dead',
          facts: { space: space.space, id, reason: 'its worker ended' },
        });
      }
      if (claim === null) return { ...tally, nextMs };
      await workSession(space, claim, worker, tally, deadline);
      if (performance.now() >= deadline) return { ...tally, nextMs: 0 };
    }
  }

  const work = (space: SpaceRef, budgetMs: number) => turns.take(space.slot, () => run(space, budgetMs));

  async function catchUp(space: SpaceRef): Promise<void> {
    again.delete(space.slot);
    if (!isFollowing) return;
    const { nextMs } = await work(space, Number.POSITIVE_INFINITY);
    if (nextMs !== null) later(space, nextMs);
  }

  /** Comes back when what failed is due again. */
  function later(space: SpaceRef, inMs: number): void {
    if (!isFollowing) return;
    clearTimeout(timers.get(space.slot));
    timers.set(
      space.slot,
      setTimeout(
        () => {
          timers.delete(space.slot);
          wake(space);
        },
        Math.max(inMs, 50),
      ),
    );
  }

  function wake(space: SpaceRef): void {
    if (!isFollowing || again.has(space.slot)) return;
    again.add(space.slot);
    // Behind the answer that is being made just now.
    setImmediate(() =>
      turns
        .take(`wake ${space.slot}`, () => catchUp(space))
        .catch((error) => {
          telemetry.log({ level: 'error', event: 'factory.failed', facts: { space: space.space }, error });
          later(space, retryMs);
        }),
    );
  }

  return {
    work,
    wake,
    follow() {
      isFollowing = true;
      return async () => {
        isFollowing = false;
        for (const timer of timers.values()) clearTimeout(timer);
        timers.clear();
        await turns.settled();
      };
    },
  };
}

const isTaken = (error: unknown) => isDatabaseError(error) && error.sqlState === 'LM008';

interface Tally {
  events: number;
  failed: number;
  dead: number;
}

/** Why an event failed, as whoever may read the inbox may know it: no driver's words, no contents. */
function reasonOf(error: unknown): string {
  if (error instanceof Problem) return `${error.code}: ${error.message}`;
  if (isDatabaseError(error)) return `internal: PostgreSQL refused it with ${error.sqlState}.`;
  return 'internal: It failed in a way nobody foresaw; the log tells more.';
}
