import type { RequestContext } from '../contexts/request.ts';
import { jsonColumn, spaceRow } from '../contexts/rows.ts';
import type { Idempotency } from '../contexts/written.ts';
import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { Facts } from './facts.ts';
import type { Project } from './project.ts';
import type { Message, Piece } from './transcript.ts';

/** An event as it is committed. */
export interface NewEvent {
  readonly id: string;
  readonly session: string;
  /** The context of its project, unless the session has one already. */
  readonly project: string;
  /** Its name. */
  readonly event: string;
  readonly actor: string;
  /** SHA-256 of what was sent. */
  readonly digest: string;
  readonly payload: { readonly event: Readonly<Record<string, unknown>>; readonly project: Project };
  /** The contexts it is for, as far as that is known by now. */
  readonly contexts: readonly string[];
  /** Names the file that the piece of the transcript is from. */
  readonly source: string;
  readonly piece?: Piece | undefined;
}

export interface Received {
  readonly clock: number;
  /** `known` where the same event was committed before. */
  readonly outcome: 'received' | 'known';
  readonly id: string;
  /** The context of the session's project. */
  readonly project: string;
  /** Up to which byte nothing of the transcript is missing. */
  readonly position: number;
}

/** Commits an event: one request, one transaction. Null where its key was used for another request. */
export async function receiveEvent(
  database: Database,
  request: RequestContext,
  event: NewEvent,
  options: { readonly idempotency: Idempotency | undefined; readonly againSeconds: number },
): Promise<Received | null> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select receive_event(${JSON.stringify(event)}::jsonb, ${JSON.stringify(options.idempotency ?? {})}::jsonb,
      ${options.againSeconds}::double precision)::text as answer`),
    request,
  );
  const answer = jsonColumn<Received | { recorded: null }>(spaceRow(rows, request), 'answer');
  return answer === null || 'recorded' in answer ? null : answer;
}

/** Up to where the transcript of a session was taken. */
export async function readPosition(
  database: Database,
  request: RequestContext,
  of: { readonly session: string; readonly source: string },
): Promise<number> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (select position from factory_transcript where space_id = s.id and session_id = ${of.session}
      and source = ${of.source}) as position from space s where s.id = ${request.space}`),
    request,
  );
  return Number(spaceRow(rows, request)['position'] ?? 0);
}

/** An event that is to be worked. */
export interface PendingEvent {
  readonly id: string;
  readonly event: string;
  readonly actor: string;
  readonly payload: {
    readonly event: Readonly<Record<string, unknown>>;
    /** Absent where all but the event's name was erased. */
    readonly project?: Project;
    readonly messages: readonly Message[];
  };
  readonly receivedMs: number;
}

/** A session that was taken for work. */
export interface Claim {
  readonly session: string;
  readonly project: string;
  readonly part: number;
  readonly facts: Facts;
  readonly events: readonly PendingEvent[];
}

/** What there is to work; where there is none, when there will be. */
export interface Claimed {
  readonly claim: Claim | null;
  /** In milliseconds from now; null where nothing is pending. */
  readonly nextMs: number | null;
  /** Events whose workers ended in the midst of them once too often. */
  readonly dead: readonly { readonly id: string; readonly event: string }[];
}

/** Takes a session with events that are due. */
export async function claimEvents(
  database: Database,
  request: RequestContext,
  of: {
    readonly worker: string;
    readonly leaseMs: number;
    readonly limit: number;
    readonly bytes: number;
    readonly attempts: number;
  },
): Promise<Claimed> {
  const { worker, leaseMs, limit, bytes, attempts } = of;
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select claim_events(${worker}, ${leaseMs}, ${limit}, ${bytes}::bigint, ${attempts})::text as answer`,
    ),
    request,
  );
  return jsonColumn<Claimed>(spaceRow(rows, request), 'answer') ?? { claim: null, nextMs: null, dead: [] };
}

/** How an event ended, and what its session is like then. */
export interface EventEnd {
  readonly id: string;
  readonly session: string;
  readonly worker: string;
  /** 0 lets the session go. */
  readonly leaseMs: number;
  readonly part: number;
  readonly facts: Facts;
  /** The contexts it was written to. */
  readonly contexts: readonly string[];
  /** By id the SHA-256 of what the same transaction has written; where that is not there, the event goes on. */
  readonly written: Readonly<Record<string, string>>;
}

/** The statement that ends an event. It breaks with `LM008` where another worker has taken over. */
export function endEvent(end: EventEnd): Statement {
  return toStatement(sql`select end_event(${JSON.stringify(end)}::jsonb)`);
}

export async function runEnd(database: Database, request: RequestContext, statement: Statement): Promise<void> {
  await runOne(database.in(request), statement, request);
}

export async function failEvent(
  database: Database,
  request: RequestContext,
  of: { readonly id: string; readonly session: string; readonly worker: string; readonly reason: string },
  bounds: { readonly attempts: number; readonly retryMs: number },
): Promise<'pending' | 'dead' | null> {
  const [row = {}] = await runOne(
    database.in(request),
    toStatement(sql`select fail_event(${of.id}, ${of.session}, ${of.worker}, ${of.reason}, ${bounds.attempts},
      ${bounds.retryMs}::double precision) as state`),
    request,
  );
  return (row['state'] ?? null) as 'pending' | 'dead' | null;
}

/** An event as it is told. */
export interface EventEntry {
  readonly id: string;
  readonly session: string;
  readonly event: string;
  readonly state: 'pending' | 'done' | 'dead';
  readonly attempts: number;
  /** What the last attempt failed by, or `erased`. */
  readonly reason: string | null;
  readonly contexts: readonly string[];
  readonly receivedMs: number;
  readonly finishedMs: number | null;
  /** When it is tried again; null for what is not pending. */
  readonly nextMs: number | null;
}

/** One page of events, newest first, from below `before` on. */
export async function readEvents(
  database: Database,
  request: RequestContext,
  page: {
    readonly state?: EventEntry['state'] | undefined;
    readonly before?: string | undefined;
    readonly limit: number;
  },
): Promise<{ items: EventEntry[]; seq: number }> {
  const state = page.state === undefined ? raw('') : sql` and i.state = ${page.state}`;
  const below = page.before === undefined ? raw('') : sql` and i.id < ${page.before}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (select jsonb_agg(to_event(row) order by (row).id desc) from (
        select i as row from inbox i where i.space_id = s.id${state}${below} order by i.id desc limit ${page.limit}
      ) page)::text as events from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { items: jsonColumn<EventEntry[]>(row, 'events') ?? [], seq: Number(row['clock']) };
}

/** Has a dead event worked again; null where there is no such event. */
export async function replayEvent(
  database: Database,
  request: RequestContext,
  id: string,
): Promise<{ readonly event: EventEntry; readonly isBegun: boolean } | null> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select replay_event(${id})::text as answer`),
    request,
  );
  return jsonColumn(spaceRow(rows, request), 'answer');
}
