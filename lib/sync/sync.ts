import type { Clock } from '../base/clock.ts';
import type { Ids } from '../base/id.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { Feed } from '../contexts/feed.ts';
import { type RequestContext, type SpaceRef, systemRequest } from '../contexts/request.ts';
import { type Idempotency, idempotencyMismatch } from '../contexts/written.ts';
import { type Database, isDatabaseError } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { RunRef } from './bases.sql.ts';
import { type Conflicts, createConflicts } from './conflicts.ts';
import { type Counts, createCounts, createEngine, type Passage } from './engine.ts';
import { createFollowing, type DueReport, type Following } from './following.ts';
import type { Left } from './inspect.ts';
import type { Connectors, PeerDefinition } from './peer.ts';
import {
  beginRun,
  endRun,
  putPeer,
  type RunEntry,
  type RunStart,
  readDue,
  readPeers,
  readRun,
  readRuns,
  readWaiting,
  removePeer,
  type StoredPeer,
} from './peers.sql.ts';
import { createRunning, outOfTime } from './running.ts';
import { createSessions } from './sessions.ts';

/** A peer without its secrets. */
export interface Peer extends Omit<StoredPeer, 'remoteCursor' | 'definition'> {
  readonly definition: Omit<PeerDefinition, 'transport'> & { readonly transport: ShownTransport };
}
/** Headers and variables by name alone. */
type ShownTransport =
  | { readonly url: string; readonly headers?: Readonly<Record<string, null>> | undefined }
  | {
      readonly command: string;
      readonly args: readonly string[];
      readonly env?: Readonly<Record<string, null>> | undefined;
    };

/** An item that waits for the next run; without a reason where it only has to be looked at again. */
export interface Waiting {
  readonly id: string;
  readonly reason: string | null;
}

/** What a run did. */
export interface RunReport extends Counts {
  readonly runId: string;
  /** Why it stopped before it changed anything; absent where it did not. */
  readonly halted?: string;
  /** Whether its time was over before it had come to its end, so that it has to be run on under the same id. */
  readonly isUnfinished?: true;
  /** Up to which tick it has seen our side; null where it was halted or is unfinished. */
  readonly cursor: number | null;
  /** Up to a hundred items that could not be synchronised, and why. */
  readonly left: readonly Left[];
  readonly tookMs: number;
}

/** A run that was asked for, for whoever carries it out. */
export interface RunOrder {
  readonly peer: string;
  readonly runId: string;
  readonly isForced: boolean;
}

export interface DueOptions {
  readonly budgetMs: number;
  readonly isNudged?: boolean | undefined;
  readonly limitMs?: number | undefined;
}

/** Synchronisation with peers: stores of other programs that hold some of the same. */
export interface Sync {
  readonly conflicts: Conflicts;
  /**
   * Names a peer or changes it. A header or variable that is null keeps its value.
   *
   * @throws Problem `forbidden` for a command where the server may not start any.
   */
  putPeer(
    request: RequestContext,
    name: string,
    definition: PeerDefinition,
    idempotency?: Idempotency,
  ): Promise<{ peer: Peer; isCreated: boolean }>;
  /** With up to a hundred items that wait for its next run, and why. @throws Problem `not_found`. */
  getPeer(request: RequestContext, name: string): Promise<Peer & { readonly waiting: readonly Waiting[] }>;
  listPeers(
    request: RequestContext,
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<{ items: readonly Peer[]; seq: number }>;
  /** Forgets a peer and what was agreed on with it. What either side holds stays. @throws Problem `not_found`. */
  removePeer(request: RequestContext, name: string, idempotency?: Idempotency): Promise<void>;
  /**
   * Runs a peer now. Stopped anywhere, the next run goes on.
   *
   * @param options.isDry says what would be done, and does nothing.
   * @param options.isForced goes on although much is gone on one side.
   * @param options.runId of a run that was asked for: it goes on where it was interrupted, however often it is begun, until it has ended.
   * @param options.limitMs after how long it is stopped; absent, never. One that was asked for and has moved something is unfinished then.
   * @throws Problem `not_found`, `sync_running`, `already_exists` for a run that has ended, or `unavailable` where the peer does
   *   not answer, or nothing was moved in time.
   */
  run(
    request: RequestContext,
    name: string,
    options: {
      readonly isDry?: boolean;
      readonly isForced?: boolean;
      readonly trigger: string;
      readonly runId?: string;
      readonly limitMs?: number | undefined;
    },
  ): Promise<RunReport>;
  /** Newest first. @throws Problem `not_found`. */
  runs(
    request: RequestContext,
    page: { readonly peer: string; readonly before?: string | undefined; readonly limit: number },
  ): Promise<readonly RunEntry[]>;
  /**
   * Has another process run a peer, where this one does not stay for it.
   *
   * @returns false where this process runs peers itself.
   * @throws Problem `not_found`, `sync_running`, `forbidden`, or `unavailable` where nobody hears of it.
   */
  ask(request: RequestContext, order: RunOrder): Promise<boolean>;
  /**
   * Runs the peers of a space whose time has come, `isNudged` those too that a change of others has left behind; no new run begins
   * after the budget, and after `limitMs` the one that goes on is stopped.
   */
  runDue(space: SpaceRef, of: DueOptions): Promise<DueReport>;
  /** Whether something that was written is of interest to a peer. */
  isFollowed(space: SpaceRef): Promise<boolean>;
  /**
   * From now on the peers that have an interval are run when they are due and soon after a write, for a process that stays.
   *
   * @returns what ends that and every run that goes on, for good, and waits for their end.
   */
  follow: Following['follow'];
  /** Hears that something was written. */
  wake(space: SpaceRef): void;
  close(): Promise<void>;
}

/**
 * @param deps.mayStartCommands whether a peer may be a process of this machine.
 */
export function createSync(deps: {
  database: Database;
  contexts: Contexts;
  feed: Feed;
  connectors: Connectors;
  mayStartCommands: boolean;
  /** Has a run carried out by a process that stays for it; absent where this one does. */
  runElsewhere?: ((space: SpaceRef, order: RunOrder) => Promise<void>) | undefined;
  settings: Settings;
  telemetry: Telemetry;
  clock: Clock;
  ids: Ids;
}): Sync {
  const { database, connectors, mayStartCommands, settings, telemetry, clock, ids } = deps;
  const { answerMs, leaseMs, idleSeconds } = settings.sync;
  const options = { answerMs, contextBytes: settings.limits.contextBytes };
  const sessions = createSessions({ connectors, options, idleMs: idleSeconds * 1000 });
  const engine = createEngine(deps);
  const running = createRunning(deps);

  const changing = (request: RequestContext, idempotency: Idempotency | undefined) => ({
    ...idempotency,
    actor: request.actor,
    auditId: ids.sortable(),
  });

  async function find(request: RequestContext, name: string): Promise<Peer> {
    const { items } = await readPeers(database, request, { name });
    if (items[0] === undefined) throw peerNotFound(name);
    return toPeer(items[0]);
  }

  function refuseCommand({ transport }: { readonly transport: object }): void {
    if (!('command' in transport) || mayStartCommands) return;
    const message =
      'A peer that is a command is started only by a server on the loopback address with embedded engines, or where LAMINA_ALLOW_COMMANDS is 1.';
    throw new Problem('forbidden', message);
  }

  async function run(request: RequestContext, name: string, wanted: Parameters<Sync['run']>[2]): Promise<RunReport> {
    running.check();
    const startedMs = performance.now();
    const writing: RequestContext = { ...request, actor: { kind: 'sync', id: name }, seq: 0 };
    const runId = wanted.runId ?? ids.sortable();
    const ref = { peer: name, runId, leaseMs };
    const { isDry = false, isForced = false, trigger, limitMs } = wanted;
    const held = isDry ? null : ref;
    const counts = createCounts();
    const pass = async (start: RunStart, signal: AbortSignal): Promise<Passage> => {
      const { definition } = start.peer;
      refuseCommand(definition);
      return sessions.using(`${request.slot} ${name}`, { definition, signal }, (session) =>
        engine.pass({ request: writing, session, start, signal }, { run: held, isForced, counts }),
      );
    };
    const work = async (signal: AbortSignal, hold: (run: RunRef) => void): Promise<Passage | undefined> => {
      const start = isDry
        ? await readRun(database, request, name)
        : await retryLost(() => beginRun(database, request, { ...ref, trigger }));
      if (start === null) throw peerNotFound(name);
      if ('running' in start)
        throw new Problem('sync_running', `Peer ${name} is being run already.`, { runId: start.running });
      if ('ended' in start) throw new Problem('already_exists', `The run ${runId} has ended already: ${start.ended}.`);
      if (held) hold(held);
      const done = await pass(start, signal).catch(async (error) => {
        const problem = toRunProblem(signal.aborted ? signal.reason : error, name);
        const isUnfinished = problem === outOfTime && wanted.runId !== undefined && hasMoved(counts);
        if (held) await end(request, start, ref, { startedMs, problem, counts, isUnfinished });
        if (!isUnfinished) throw problem;
        return undefined;
      });
      if (held && done) await end(request, start, ref, { startedMs, passage: done, counts });
      return done;
    };
    const passage = await running.go(request, work, limitMs);
    const { halted, cursor = null, left = [] } = passage ?? {};
    return {
      runId,
      ...counts,
      ...(halted === undefined ? {} : { halted }),
      ...(passage === undefined ? { isUnfinished: true } : {}),
      cursor,
      left,
      tookMs: performance.now() - startedMs,
    };
  }

  /** Notes how a run ended, and when the next one is due. A failed one is tried again later and later. */
  async function end(
    request: RequestContext,
    { peer }: RunStart,
    ref: { readonly peer: string; readonly runId: string },
    {
      startedMs,
      counts,
      passage,
      problem,
      isUnfinished = false,
    }: {
      readonly startedMs: number;
      readonly counts: Counts;
      readonly passage?: Passage;
      readonly problem?: Problem;
      readonly isUnfinished?: boolean;
    },
  ): Promise<void> {
    const isWell = problem === undefined && passage?.halted === undefined;
    // Who was stopped on the way is due at once.
    const isStopped = problem === stopped || (problem === outOfTime && hasMoved(counts));
    const backOff = isStopped ? 0 : isWell ? 1 : 2 ** Math.min(peer.failures + 1, 6);
    const { halted, cursor, remoteCursor, oldestMs } = passage ?? {};
    const outcome = problem !== undefined ? 'failed' : halted !== undefined ? 'halted' : 'done';
    const lagMs = oldestMs === undefined ? undefined : clock() - oldestMs;
    telemetry.syncRun({ type: peer.definition.type, outcome, durationMs: performance.now() - startedMs, lagMs });
    if (problem)
      telemetry.log({
        level: 'warn',
        event: 'sync.failed',
        facts: { space: request.space, peer: peer.name },
        error: problem,
      });
    const reason = problem?.message ?? halted;
    await retryLost(() =>
      endRun(database, request, ref, {
        outcome: isUnfinished ? 'running' : outcome,
        reason,
        counts,
        cursor,
        remoteCursor,
        backOff,
      }),
    ).catch((error) => {
      // Whoever has taken over the peer has ended this run as well.
      if (!isDatabaseError(error) || error.sqlState !== 'LM005') throw error;
    });
  }

  async function runDue(space: SpaceRef, { budgetMs, isNudged = false, limitMs }: DueOptions): Promise<DueReport> {
    const startedMs = performance.now();
    const request = systemRequest(space, 'sync');
    const { names, nextMs } = await readDue(database, request, isNudged);
    const done = { runs: 0, failed: 0 };
    for (const name of names) {
      const tookMs = performance.now() - startedMs;
      if (tookMs >= budgetMs) break;
      const wanted = { trigger: isNudged ? 'change' : 'schedule', limitMs: limitMs && limitMs - tookMs };
      await run(request, name, wanted).then(
        () => done.runs++,
        (error) => {
          if (!(error instanceof Problem && error.code === 'sync_running')) done.failed++;
        },
      );
    }
    if (names.length === 0) return { ...done, nextMs };
    const after = await readDue(database, request, false);
    return { ...done, nextMs: after.names.length > 0 ? 0 : after.nextMs };
  }
  const following = createFollowing({
    delayMs: settings.sync.delayMs,
    runDue: (space, isNudged) => runDue(space, { isNudged, budgetMs: Number.POSITIVE_INFINITY }),
    onFailure: (error, { space }) => telemetry.log({ level: 'error', event: 'sync.failed', facts: { space }, error }),
  });

  return {
    conflicts: createConflicts(deps),

    async putPeer(request, name, definition, idempotency) {
      refuseCommand(definition);
      const answer = await retryLost(() =>
        putPeer(database, request, { name, definition }, changing(request, idempotency)),
      );
      if (answer.recorded === null) throw idempotencyMismatch();
      following.wake(request, true);
      if (answer.peer) return { peer: toPeer(answer.peer), isCreated: answer.created === true };
      return { peer: await find(request, name), isCreated: answer.recorded?.created === true };
    },

    async getPeer(request, name) {
      const peer = await find(request, name);
      const waiting = peer.due === 0 ? [] : await readWaiting(database, request, { peer: name, limit: waitingMax });
      return { ...peer, waiting };
    },

    async listPeers(request, page) {
      const { items, seq } = await readPeers(database, request, page);
      return { items: items.map(toPeer), seq };
    },

    async removePeer(request, name, idempotency) {
      const answer = await retryLost(() => removePeer(database, request, name, changing(request, idempotency)));
      if (answer.recorded === null) throw idempotencyMismatch();
      if (answer.removed === false) throw peerNotFound(name);
    },

    run,

    async runs(request, page) {
      const runs = await readRuns(database, request, page);
      if (runs === null) throw peerNotFound(page.peer);
      return runs;
    },

    async ask(request, order) {
      if (deps.runElsewhere === undefined) return false;
      const { definition, runId } = await find(request, order.peer);
      refuseCommand(definition);
      if (runId !== null) throw new Problem('sync_running', `Peer ${order.peer} is being run already.`, { runId });
      await deps.runElsewhere(request, order).catch((error) => {
        throw new Problem('unavailable', 'The run could not be ordered; try again in a moment.', {}, error);
      });
      return true;
    },

    async isFollowed(space) {
      return (await readDue(database, systemRequest(space, 'sync'), true)).names.length > 0;
    },

    async runDue(space, of) {
      const report = await runDue(space, of);
      following.note(space, report);
      return report;
    },
    follow() {
      const end = following.follow();
      return async () => {
        const ended = end();
        await running.stop(stopped);
        await ended;
      };
    },
    wake: (space) => following.wake(space),

    async close() {
      await running.stop(stopped);
      await sessions.close();
    },
  };
}

const hasMoved = ({ pulled, pushed, merged, conflicts }: Counts) => pulled + pushed + merged + conflicts > 0;

const stopped = new Problem('unavailable', 'The server is stopping; the next run goes on.');

// What an answer tells of the items that wait.
const waitingMax = 100;

const peerNotFound = (name: string) => new Problem('not_found', `There is no peer ${name}.`, { name });

/** What a run failed by, as a caller may know it. */
function toRunProblem(error: unknown, name: string): Problem {
  if (isDatabaseError(error) && error.sqlState === 'LM005') {
    return new Problem('sync_running', `Another run has taken over peer ${name}.`, {}, error);
  }
  if (error instanceof Problem) return error;
  return new Problem('unavailable', `The run of peer ${name} failed; the next one goes on.`, {}, error);
}

function toPeer({ remoteCursor: _, definition, ...rest }: StoredPeer): Peer {
  const { transport } = definition;
  const hide = (secrets: Readonly<Record<string, string>> | undefined) =>
    secrets && Object.fromEntries(Object.keys(secrets).map((name) => [name, null]));
  const shown =
    'url' in transport
      ? { url: transport.url, headers: hide(transport.headers) }
      : { ...transport, env: hide(transport.env) };
  return { ...rest, definition: { ...definition, transport: shown } };
}
