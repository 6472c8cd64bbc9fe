import type { Settings } from '../config/settings.ts';
import type { Feed } from '../contexts/feed.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import { countAgreed, readAgreed, readIds, readMoved } from './bases.sql.ts';
import type { PeerSession, Refused } from './peer.ts';
import type { RunStart } from './peers.sql.ts';
import { isContextId } from './value.ts';

/** A run of a peer, and what it runs on. */
export interface Passing {
  /** As whom it writes: actor kind `sync`, id the peer's name. */
  readonly request: RequestContext;
  readonly session: PeerSession;
  readonly start: RunStart;
  /** Ends the run; what it was aborted with is thrown. */
  readonly signal: AbortSignal;
}

/** Which items a run has to look at. */
export interface Surveyed {
  readonly wanted: ReadonlySet<string>;
  /** Items that one side had and that are gone there, as far as the survey can tell. */
  readonly gone: { readonly ours: ReadonlySet<string>; readonly theirs: Set<string> };
  /** What the peer has and cannot be taken. */
  readonly refused: readonly Refused[];
  /** From where the next run goes on, on our side and on theirs. */
  readonly cursor: number;
  readonly remoteCursor: string;
  /** When the oldest of our changes was made that the peer has not seen; absent where there is none. */
  readonly oldestMs?: number | undefined;
  /** Whether of the other side only changes were told, not all there is. */
  readonly isFollowed: boolean;
}

const pageIds = 10_000;
const pageChanges = 1000;

/**
 * Finds what may differ: all of both sides on a first run, and where the feed no longer tells what has changed; else what
 * has changed on either side since the last run, and what that left over.
 */
export async function survey(deps: { database: Database; feed: Feed }, passing: Passing): Promise<Surveyed> {
  const { request, session, start } = passing;
  const { peer } = start;
  const isFirst = peer.remoteCursor === null || start.floor > peer.cursor;
  const theirs = await session.survey(isFirst ? null : peer.remoteCursor);
  const ours = isFirst ? await listOurs(deps.database, passing) : await followOurs(deps.feed, passing);
  const wanted = new Set([...start.due, ...ours.found]);
  const gone = { ours: new Set(ours.gone), theirs: new Set<string>() };
  const agreed = isFirst || theirs.isWhole ? await readAgreed(deps.database, request, peer.name) : undefined;
  for (const [id, print] of theirs.items) {
    if (!isContextId(id)) continue;
    if (print === null) gone.theirs.add(id);
    if (print === undefined || agreed === undefined || print !== (agreed.get(id) ?? null)) wanted.add(id);
  }
  for (const id of agreed?.keys() ?? []) {
    if (theirs.isWhole && !theirs.items.has(id)) gone.theirs.add(id);
    if (isFirst && !ours.found.has(id)) gone.ours.add(id);
  }
  const moved = await followMoved(deps.database, passing, ours.moved);
  for (const id of moved.gone) gone.ours.add(id);
  for (const id of [...moved.below, ...gone.ours, ...gone.theirs]) wanted.add(id);
  const { cursor, oldestMs } = ours;
  const isFollowed = !theirs.isWhole;
  return { wanted, gone, refused: theirs.refused, cursor, remoteCursor: theirs.cursor, oldestMs, isFollowed };
}

/** All that is the peer's business here. */
async function listOurs(database: Database, { request, session, start }: Passing) {
  const { kinds } = session.lens;
  const { subtree } = start.peer.definition;
  const found = new Set<string>();
  for (let after = ''; ; ) {
    const page = await readIds(database, request, { kinds, subtree, after, limit: pageIds });
    for (const id of page) found.add(id);
    const last = page.at(-1);
    if (page.length < pageIds || last === undefined)
      return { found, gone: [], moved: new Set<string>(), cursor: start.clock, oldestMs: undefined };
    after = last;
  }
}

/** What may have come over the edge of the subtree with what was moved, whose changes do not name it. */
async function followMoved(database: Database, { request, start }: Passing, moved: ReadonlySet<string>) {
  const { name: peer, definition } = start.peer;
  const { subtree } = definition;
  // Wherever its root lies, the subtree is what lies below it.
  const ids = [...moved].filter((id) => id !== subtree);
  if (subtree === undefined || ids.length === 0) return { below: [], gone: [] };
  return readMoved(database, request, { peer, subtree, ids });
}

/** What others than this peer have changed here since its last run, and what anybody has moved. */
async function followOurs(feed: Feed, { request, session, start }: Passing) {
  const found = new Set<string>();
  const gone = new Set<string>();
  const moved = new Set<string>();
  let oldestMs: number | undefined;
  for (let since = start.peer.cursor; ; ) {
    const { changes, next } = await feed.read(request, { since, limit: pageChanges, waitMs: 0 });
    for (const { id, version, operation, parentBefore, parentAfter, actor, atMs } of changes) {
      const isEcho = actor?.kind === 'sync' && actor.id === start.peer.name;
      if (id !== null && version !== 1 && parentBefore !== parentAfter) moved.add(id);
      if (id === null || isEcho || !session.lens.mayHold(id)) continue;
      found.add(id);
      oldestMs ??= atMs;
      if (operation === 'delete' || operation === 'expire' || operation === 'erase') gone.add(id);
      else gone.delete(id);
    }
    if (changes.length < pageChanges) return { found, gone, moved, cursor: next, oldestMs };
    since = next;
  }
}

/**
 * Why a run must not go on: more of what was agreed on is gone on one side than a person is likely to mean, such as by a
 * lost file; undefined where it may.
 */
export async function brake(
  { database, settings }: { database: Database; settings: Settings },
  { request, start }: Passing,
  gone: { readonly ours: ReadonlySet<string>; readonly theirs: ReadonlySet<string> },
): Promise<string | undefined> {
  const { brakeItems, brakeShare } = settings.sync;
  const most = Math.max(brakeItems, Math.floor(start.items * brakeShare));
  for (const [side, where] of [
    ['ours', 'here'],
    ['theirs', 'at the peer'],
  ] as const) {
    // What is gone on a side that nothing is taken from takes nothing away.
    const { direction } = start.peer.definition;
    if ((side === 'theirs' && direction === 'push') || (side === 'ours' && direction === 'pull')) continue;
    const other = side === 'ours' ? gone.theirs : gone.ours;
    const only = [...gone[side]].filter((id) => !other.has(id));
    const lost = only.length > most ? await countAgreed(database, request, start.peer.name, only) : 0;
    if (lost <= most) continue;
    return `${lost} of ${start.items} items are gone ${where} since the last run. If that is meant, run it with force.`;
  }
  return undefined;
}
