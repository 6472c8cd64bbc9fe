import type { Clock } from '../base/clock.ts';
import { sha256 } from '../base/hash.ts';
import type { Ids } from '../base/id.ts';
import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { Feed } from '../contexts/feed.ts';
import type { Operation } from '../contexts/operation.ts';
import { toProblem } from '../contexts/outcomes.ts';
import type { OperationResult } from '../contexts/write.sql.ts';
import { type Database, isDatabaseError, runOne } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { type RunRef, readAgreedBelow, type Settling, settleBases } from './bases.sql.ts';
import { createInspecting, type Left, type Look } from './inspect.ts';
import { brake, type Passing, survey } from './survey.ts';
import { type Held, isContextId, type Value } from './value.ts';

/** What a run did, in items. */
export interface Counts {
  /** Contexts changed here as the peer had changed them. */
  readonly pulled: number;
  /** Items changed at the peer as they had been changed here, and read back there. */
  readonly pushed: number;
  /** Items that both sides had changed, and that were joined. */
  readonly merged: number;
  /** Items whose changes collide, those included that were left as they were. */
  readonly conflicts: number;
  /** Items that could not be synchronised: the next run looks at each again. */
  readonly skipped: number;
}

/** What came of a run, and from where the next one goes on. */
export interface Passage {
  readonly counts: Counts;
  /** Why it was halted before it changed anything; it has no cursors then. */
  readonly halted?: string;
  readonly cursor?: number;
  readonly remoteCursor?: string;
  /** When the oldest of our changes was made that the peer had not seen; absent where there was none. */
  readonly oldestMs?: number | undefined;
  /** Up to a hundred items that could not be synchronised, and why. */
  readonly left: readonly Left[];
}

/** Synchronises; see SPEC.md for the states, the table and the invariants. */
export interface Engine {
  /**
   * Brings both sides together: surveys both, and item by item joins, applies, pushes, reads back and notes.
   *
   * @param options.run null changes nothing on either side, and only says what would be done.
   * @param options.isForced goes on although much is gone at once.
   * @param options.counts is added to on the way, for whoever has to tell what a run did that was stopped.
   * @throws Problem `unavailable` where the peer or PostgreSQL does not answer.
   */
  pass(
    passing: Passing,
    options: { readonly run: RunRef | null; readonly isForced: boolean; readonly counts: Counting },
  ): Promise<Passage>;
}

// Items looked at together, with a request for each thing that is read or written of them.
const chunkItems = 200;
// How often a run looks again at what was not settled: parents come before children, lost writes are written again.
const passesMax = 8;
const notedMax = 1000;
const shownMax = 100;

type Counting = { -readonly [Name in keyof Counts]: number };
export const createCounts = (): Counting => ({ pulled: 0, pushed: 0, merged: 0, conflicts: 0, skipped: 0 });

/** What a run keeps in mind from one item to the next. */
interface Course extends Passing {
  /** Null where it only says what it would do. */
  readonly run: RunRef | null;
  readonly counts: Counting;
  readonly isFollowed: boolean;
  readonly isForced: boolean;
  /** What is gone on each side as far as it is known by now. */
  readonly gone: { readonly ours: ReadonlySet<string>; readonly theirs: Set<string> };
  /** Ids of contexts at the peer of which all is known that lies below them. */
  readonly listed: Set<string>;
  /** Ids to be looked at; it grows as they are. */
  readonly queued: Set<string>;
  /** Ids that are noted as due, whatever comes of them. */
  readonly due: Set<string>;
}

export function createEngine(deps: {
  database: Database;
  contexts: Contexts;
  feed: Feed;
  settings: Settings;
  clock: Clock;
  ids: Ids;
}): Engine {
  const { database, contexts, ids } = deps;
  const { inspect } = createInspecting(deps);

  /**
   * Notes what was found out, in the transaction of `operations` where there are any. Contents that are here already are
   * not sent again, unless they have gone meanwhile.
   */
  async function note(
    { request, run }: Passing & { readonly run: RunRef },
    settlings: readonly Settling[],
    {
      stored = new Set(),
      operations = [],
      isHolding = false,
    }: { stored?: ReadonlySet<string>; operations?: readonly Operation[]; isHolding?: boolean } = {},
  ): Promise<readonly OperationResult[]> {
    if (settlings.length + operations.length === 0 && !isHolding) return [];
    const attempt = async (isStored: (hash: string) => boolean) => {
      const beside = await settleBases(run, settlings, isStored);
      if (operations.length > 0) {
        const answer = await contexts.write(request, operations, { atomic: false, beside });
        return answer.outcome === 'done' ? answer.results : [];
      }
      await retryLost(() => runOne(database.in(request), beside, request));
      return [];
    };
    return attempt((hash) => stored.has(hash)).catch((error) => {
      if (!isDatabaseError(error) || error.sqlState !== 'LM006') throw error;
      return attempt(() => false);
    });
  }

  /** What a run notes of an item that the peer need not hear of. */
  function toSettling(look: Look, { session }: Passing): Settling {
    const { id, step, known, ours, theirs, head } = look;
    const print = (value: Value | null | undefined) => (value ? session.lens.fingerprint(value) : undefined);
    if (step.conflicts !== undefined) {
      const sideOf = (held: Held | null) => held?.value ?? null;
      const fingerprints = { ours: print(ours?.value) ?? null, theirs: print(theirs?.value) ?? null };
      const sides = { base: look.agreedValue, ours: sideOf(ours), theirs: sideOf(theirs) };
      const seen = known.conflict;
      const oursVersion = head?.version ?? 0;
      const isSame = seen?.fingerprints.ours === fingerprints.ours && seen.fingerprints.theirs === fingerprints.theirs;
      if (isSame && seen.oursVersion === oursVersion) return { id, seen: seen.id };
      const conflictId = seen?.id ?? ids.sortable();
      return {
        id,
        seen: seen?.id,
        conflict: { id: conflictId, ...sides, oursVersion, fingerprints, paths: step.conflicts },
      };
    }
    if (step.agree === undefined) return { id, ...settlesConflict(known) };
    const isApplied = step.apply === undefined && step.overruled === undefined ? undefined : true;
    return { id, ...settlesConflict(known), isApplied, agree: step.agree, fingerprint: print(step.agree) };
  }

  /** Has the peer make what it lacks, and notes what it holds then. */
  async function push(
    passing: Passing & { readonly run: RunRef },
    looks: readonly Look[],
    stored: ReadonlySet<string>,
  ) {
    const { session } = passing;
    const print = (value: Value | null) => value && session.lens.fingerprint(value);
    // Held once more right before; and what the peer may come to hold without our hearing of it is known to be ours.
    const sent = looks.flatMap(({ id, base, step }) =>
      base === 'none' && step.push ? [{ id, isDue: true, fingerprint: print(step.push) ?? undefined }] : [],
    );
    await note(passing, sent, { isHolding: true });
    const changes = looks.map(({ id, theirs, step }) => ({ id, from: theirs?.value ?? null, to: step.push ?? null }));
    const pushed = await session.push(changes);
    const left: Left[] = [];
    const done: Settling[] = [];
    for (const { id, step, known } of looks) {
      const answer = pushed.get(id);
      if (answer === undefined) left.push({ id, reason: 'The peer has not told what became of it.' });
      else if ('refused' in answer) left.push({ id, reason: answer.refused, isPlace: answer.isPlace });
      else if (print(answer.value) !== print(step.push ?? null)) {
        left.push({ id, reason: 'The peer says that it took it, but does not hold it.' });
      } else {
        const fingerprint = print(step.agree ?? null) ?? undefined;
        done.push({ id, ...settlesConflict(known), agree: step.agree, fingerprint });
      }
    }
    await note(passing, done, { stored });
    return { left, done: new Set(done.map(({ id }) => id)) };
  }

  /**
   * What may have come over the edge of the subtree at the peer with what lies above it: changes there do not name it. What went
   * out counts as gone there.
   */
  async function lookBelow(course: Course, looks: readonly Look[]): Promise<Set<string>> {
    const { request, session, start, isFollowed, gone, listed } = course;
    const { name: peer, definition } = start.peer;
    const below = new Set<string>();
    if (definition.subtree === undefined || !isFollowed) return below;
    const out = looks.flatMap(({ id, isOutside }) => (isOutside.theirs ? [id] : []));
    for (const id of out.length === 0 ? [] : await readAgreedBelow(database, request, peer, out)) {
      gone.theirs.add(id);
      below.add(id);
    }
    const cameIn = new Map<string, Look>();
    for (const look of looks) {
      const { id, base, known, theirs, step, isOutside, theirVersion = 2 } = look;
      // What was seen outside before is agreed on no more, or was left over, or collided. What cannot be read may be there.
      const isNew = base === 'none' || start.due.has(id) || known.conflict !== null;
      const isThere = theirs !== null || (step.refused !== undefined && !isOutside.theirs);
      if (isNew && isThere && theirVersion > 1 && id !== definition.subtree) cameIn.set(id, look);
    }
    const list = async (id: string) => {
      const parent = cameIn.get(id)?.theirs?.value.parentId ?? null;
      cameIn.delete(id);
      if (parent !== null && cameIn.has(parent)) await list(parent);
      // What lies below something that was listed is in that list.
      if (listed.has(id)) return;
      listed.add(id);
      for (const one of (await session.below?.(id)) ?? []) {
        listed.add(one);
        if (isContextId(one)) below.add(one);
      }
    };
    for (const id of [...cameIn.keys()]) if (cameIn.has(id)) await list(id);
    return below;
  }

  /**
   * Has that looked at, by the next run where this one is cut off.
   *
   * @returns the ids that nobody has looked at yet, or why the run must not go on.
   */
  async function queueBelow(
    course: Course,
    looks: readonly Look[],
  ): Promise<readonly string[] | { readonly halted: string }> {
    const { run, queued, due, gone } = course;
    const before = gone.theirs.size;
    const below = [...(await lookBelow(course, looks))].filter((id) => !queued.has(id));
    const halted = course.isForced || gone.theirs.size === before ? undefined : await brake(deps, course, gone);
    if (halted !== undefined) return { halted };
    for (const id of below) queued.add(id);
    for (let at = 0; run !== null && at < below.length; at += notedMax) {
      const some = below.slice(at, at + notedMax);
      await note(
        { ...course, run },
        some.map((id) => ({ id, isDue: true })),
      );
      for (const id of some) due.add(id);
    }
    return below;
  }

  /** Settles some items, and answers with those it could not settle, what else has to be looked at, and how many it had room for. */
  async function settle(course: Course, wanted: readonly string[], displaced: ReadonlySet<string>) {
    const { run, counts, due } = course;
    const looks = await inspect(course, wanted, displaced);
    const below = await queueBelow(course, looks);
    if ('halted' in below) return below;
    const left: Left[] = [];
    const actual = looks.filter(({ id, step: { refused, isPlace } }) => {
      if (refused !== undefined) left.push({ id, reason: refused, isPlace });
      return refused === undefined;
    });
    const count = ({ step }: Look, as: 'pulled' | 'pushed') => counts[step.isJoined ? 'merged' : as]++;
    counts.conflicts += actual.filter(({ step }) => step.conflicts !== undefined).length;
    const toApply = actual.filter(({ step }) => step.apply !== undefined || step.overruled !== undefined);
    const toPush = actual.filter(({ step }) => step.push !== undefined);
    if (run === null) {
      for (const look of toApply) count(look, 'pulled');
      for (const look of toPush) if (look.step.apply === undefined) count(look, 'pushed');
      return { left, below, taken: looks.length };
    }
    const writes = toApply.flatMap((look) => toOperations(look, course).map((operation) => ({ look, operation })));
    const operations = writes.map(({ operation }) => operation);
    const settlings = actual
      .filter(({ step }) => step.push === undefined)
      .map((look) => ({ look, settling: toSettling(look, course) }))
      .filter(({ look, settling }) => due.has(look.id) || !isIdle(look, settling));
    // Beside the write stands what it wrote alone: to lock other contexts after its tick could lock writers out for good.
    const [beside, apart] = [true, false].map((isWritten) =>
      settlings.flatMap(({ settling }) => ((settling.isApplied === true) === isWritten ? [settling] : [])),
    ) as [Settling[], Settling[]];
    const stored = new Set(
      operations.flatMap((one) => (one.op === 'put' && one.content ? [sha256(one.content.bytes)] : [])),
    );
    for (const { head, known } of looks) for (const hash of [head?.hash, known.value?.hash]) if (hash) stored.add(hash);
    const writing = { ...course, run };
    const unwritten = new Set<string>();
    for (const result of await note(writing, beside, { stored, operations })) {
      const { look } = writes[result.index] as (typeof writes)[number];
      const refusal = refusalOf(result);
      if (refusal === undefined || unwritten.has(look.id)) continue;
      unwritten.add(look.id);
      left.push({ id: look.id, ...refusal });
    }
    const unrelated = looks.flatMap(({ id, step, known }): Settling[] =>
      step.isForeign && known.conflict !== null ? [{ id, ...settlesConflict(known) }] : [],
    );
    await note(writing, [...apart, ...unrelated], { stored });
    for (const look of toApply) if (look.step.push === undefined && !unwritten.has(look.id)) count(look, 'pulled');
    const sent = toPush.filter(({ id }) => !unwritten.has(id));
    if (sent.length > 0) {
      const pushed = await push(writing, sent, stored);
      left.push(...pushed.left);
      for (const look of sent) if (pushed.done.has(look.id)) count(look, 'pushed');
    }
    return { left, below, taken: looks.length };
  }

  /** Settles all items, again and again as long as that settles more of them. */
  async function settleAll(course: Course): Promise<{ left: readonly Left[]; halted?: string }> {
    let left: readonly Left[] = [];
    let displaced: ReadonlySet<string> = new Set();
    for (let pass = 0; pass < passesMax; pass++) {
      const still: Left[] = [];
      const queue = pass === 0 ? [...course.queued] : left.map(({ id }) => id);
      for (let at = 0; at < queue.length; ) {
        course.signal.throwIfAborted();
        const done = await settle(course, queue.slice(at, at + chunkItems), displaced);
        if ('halted' in done) return { left: still, halted: done.halted };
        still.push(...done.left);
        // What is found on the way comes after what was known before.
        for (const id of done.below) queue.push(id);
        at += done.taken;
      }
      left = still;
      if (course.run === null || left.length === 0) break;
      if (left.length < queue.length) continue;
      // Nothing more can be settled where it stands. What has no place is given one.
      const stuck = left.filter(({ id, isPlace }) => isPlace && !displaced.has(id)).map(({ id }) => id);
      if (stuck.length === 0) break;
      displaced = new Set([...displaced, ...stuck]);
    }
    return { left };
  }

  return {
    async pass(passing, { run, isForced, counts }) {
      const { wanted, gone, refused, isFollowed, ...cursors } = await survey(deps, passing);
      const halted = isForced ? undefined : await brake(deps, passing, gone);
      if (halted !== undefined) return { counts, halted, left: [] };
      const refusedIds = new Set(refused.map(({ id }) => id));
      const queued = new Set([...wanted].filter((id) => !refusedIds.has(id)).sort());
      const listed = new Set<string>();
      const course = {
        ...passing,
        run,
        counts,
        isFollowed,
        isForced,
        gone,
        listed,
        queued,
        due: new Set(passing.start.due),
      };
      const settled = await settleAll(course);
      if (settled.halted !== undefined) return { counts, halted: settled.halted, left: [] };
      const left = [...refused, ...settled.left].map(plainReason);
      counts.skipped = left.length;
      const due = left.map(({ id, reason }): Settling => ({ id, isDue: true, note: reason }));
      for (let at = 0; run !== null && at < due.length; at += notedMax) {
        await note({ ...passing, run }, due.slice(at, at + notedMax));
      }
      return { counts, ...cursors, left: left.slice(0, shownMax) };
    },
  };
}

/** The writes of a step, each on condition that nobody has written before it. What is overruled comes first, and stays in the history. */
function toOperations({ id, head, ours, step }: Look, { session, start }: Passing): Operation[] {
  const { name, definition } = start.peer;
  const { lens } = session;
  const put = (value: Value, more: object): Operation => ({
    ...lens.toPut(id, value, head, definition.subtree),
    ...more,
  });
  const message = `from peer ${name}`;
  // What was erased counts as never written.
  const ifVersion = head?.version ?? 0;
  const { overruled, isJoined } = step;
  const first = overruled && put(overruled, { ifVersion, message: `${message}, overruled by ${definition.strategy}` });
  const last = { ifVersion: first ? ifVersion + 1 : ifVersion };
  const value = step.apply === undefined ? (ours?.value ?? null) : step.apply;
  const second: Operation =
    value === null
      ? { op: 'delete', id, children: 'fail', ...last }
      : put(value, { ...last, message, operation: isJoined ? 'merge' : 'put' });
  return first ? [first, second] : [second];
}

/** A reason as it can be kept and told: a peer may say anything. */
function plainReason({ reason, ...left }: Left): Left {
  return {
    ...left,
    reason: reason
      .slice(0, 300)
      .toWellFormed()
      .replaceAll(/\p{Cc}/gu, ' '),
  };
}

/** That the conflict over an item, if there was one when it was looked at, is none any more. */
const settlesConflict = ({ conflict }: Look['known']): Pick<Settling, 'seen' | 'isSettled'> =>
  conflict === null ? {} : { seen: conflict.id, isSettled: true };

/** Whether nothing would change by noting it. */
function isIdle({ known, base, agreed }: Look, settling: Settling): boolean {
  if (settling.conflict !== undefined || settling.isApplied) return false;
  if (known.conflict !== null) return settling.agree === undefined && settling.isSettled === undefined;
  if (settling.agree === undefined) return true;
  return settling.agree === null ? base === 'none' : agreed === settling.fingerprint;
}

/** Why an operation was not carried out; undefined where it was. */
function refusalOf(result: OperationResult): Omit<Left, 'id'> | undefined {
  const { outcome } = result;
  if (outcome === 'created' || outcome === 'updated' || outcome === 'deleted') return undefined;
  if (outcome === 'unchanged' || outcome === 'stale') return { reason: 'Somebody else has just written it.' };
  const isPlace = outcome === 'parent_not_found' || outcome === 'parent_cycle' || outcome === 'tree_too_deep';
  return { reason: toProblem(result).message, isPlace };
}
