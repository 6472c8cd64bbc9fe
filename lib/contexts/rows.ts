import { Problem } from '../base/problem.ts';
import { type Row, spaceGone } from '../postgres/database.ts';
import { decodeContent } from './content.ts';
import type { Actor, Change, Context, ContextHead, VersionEntry } from './context.ts';
import type { RequestContext } from './request.ts';

/** The shape that the SQL functions `to_head` and `to_version` print. */
export interface HeadJson {
  id: string;
  version: number;
  state: ContextHead['state'];
  hash: string | null;
  contentType: string | null;
  sizeBytes: number;
  kind: string;
  parentId: string | null;
  metadata: string;
  expiresMs: number | null;
  actorKind: Actor['kind'];
  actorId: string;
  createdMs: number;
  updatedMs: number;
  operation?: string;
  pinned?: boolean;
  mergedFrom?: unknown;
  message?: string | null;
}

interface ChangeJson {
  tick: number;
  kind: Change['kind'];
  id: string | null;
  version: number | null;
  operation: string;
  hash: string | null;
  parentBefore: string | null;
  parentAfter: string | null;
  items: string[] | null;
  actorKind: Actor['kind'] | null;
  actorId: string | null;
  origin: string | null;
  atMs: number;
}

export type PartsJson = [encoding: string, base64: string][] | null;

/** Reads a column that holds JSON; null where the column is null. */
export function jsonColumn<Value>(row: Row, column: string): Value | null {
  const text = row[column];
  return text === null || text === undefined ? null : (JSON.parse(text) as Value);
}

/** Ticks that a read brings along for the caches; a longer stretch is told as "too long". */
export const feedTicksMax = 256;

/** The changes that `feed_after` told; null where they are too many, no longer kept, or were not asked for. */
export function feedColumn(row: Row): Change[] | null {
  const feed = jsonColumn<ChangeJson[]>(row, 'feed');
  return feed === null || feed.length > feedTicksMax ? null : feed.map(toChange);
}

/**
 * The row of the space itself, which every read answers with, clock included.
 *
 * @throws Problem `unauthenticated` where the space was deleted meanwhile, and its keys with it.
 * @throws Problem `invalid_request` for a `Context-Seq` that was never given out: a mistake, not a state to wait for.
 */
export function spaceRow(rows: readonly Row[], request: Pick<RequestContext, 'seq'>): Row {
  const [row] = rows;
  if (row === undefined) throw spaceGone();
  const clock = row['clock'];
  if (clock !== undefined && request.seq > Number(clock)) throw neverGivenOut(request.seq, Number(clock));
  return row;
}

/** A `Context-Seq` above the clock. */
export function neverGivenOut(seq: number, clock: number): Problem {
  const message = `the clock of this space stands at ${clock}`;
  return new Problem('invalid_request', `Context-Seq ${seq} was never given out: ${message}.`, {
    errors: [{ path: 'Context-Seq', message }],
  });
}

export function toHead(json: HeadJson): ContextHead {
  const { actorKind, actorId } = json;
  return {
    id: json.id,
    parentId: json.parentId,
    kind: json.kind,
    contentType: json.contentType,
    metadata: json.metadata,
    version: json.version,
    hash: json.hash,
    sizeBytes: json.sizeBytes,
    createdMs: json.createdMs,
    updatedMs: json.updatedMs,
    expiresMs: json.expiresMs,
    actor: { kind: actorKind, id: actorId },
    state: json.state,
  };
}

export function toContext(json: HeadJson, parts: PartsJson | undefined): Context {
  return parts ? { ...toHead(json), content: decodeContent(parts) } : toHead(json);
}

export function toVersionEntry(json: HeadJson): VersionEntry {
  return {
    ...toHead(json),
    operation: json.operation ?? 'put',
    isPinned: json.pinned ?? false,
    mergedFrom: json.mergedFrom ?? null,
    message: json.message ?? null,
  };
}

export function toChange(json: ChangeJson): Change {
  const { actorKind, actorId, ...rest } = json;
  return { ...rest, actor: actorKind === null ? null : { kind: actorKind, id: actorId ?? '' } };
}

export type { ChangeJson };
