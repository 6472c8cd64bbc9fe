import type { RequestContext } from '../contexts/request.ts';
import { jsonColumn, spaceRow } from '../contexts/rows.ts';
import type { Idempotency } from '../contexts/written.ts';
import { type Database, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { PeerDefinition } from './peer.ts';

/** A peer as it is kept, secrets and all. */
export interface StoredPeer {
  readonly name: string;
  readonly definition: PeerDefinition;
  readonly createdMs: number;
  readonly updatedMs: number;
  /** When the schedule runs it next; null where it has no interval. */
  readonly nextMs: number | null;
  /** Runs that failed since the last that did not. */
  readonly failures: number;
  /** The run that has it now. */
  readonly runId: string | null;
  /** Up to which tick its runs have seen our side. */
  readonly cursor: number;
  readonly remoteCursor: string | null;
  /** Items that wait for the next run. */
  readonly due: number;
  /** Open conflicts. */
  readonly conflicts: number;
}

export interface ChangeOptions extends Partial<Idempotency> {
  readonly actor: RequestContext['actor'];
  readonly auditId: string;
}

export async function putPeer(
  database: Database,
  request: RequestContext,
  peer: { readonly name: string; readonly definition: PeerDefinition },
  options: ChangeOptions,
): Promise<{ peer?: StoredPeer; created?: boolean; recorded?: { created: boolean } | null }> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select put_peer(${peer.name}, ${JSON.stringify(peer.definition)}::jsonb,
      ${JSON.stringify(options)}::jsonb)::text as answer`),
    request,
  );
  return jsonColumn(spaceRow(rows, request), 'answer') ?? {};
}

export async function removePeer(
  database: Database,
  request: RequestContext,
  name: string,
  options: ChangeOptions,
): Promise<{ removed?: boolean; recorded?: unknown }> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select remove_peer(${name}, ${JSON.stringify(options)}::jsonb)::text as answer`),
    request,
  );
  return jsonColumn(spaceRow(rows, request), 'answer') ?? {};
}

/** One page of peers by name, after `after`, or the one of a name. */
export async function readPeers(
  database: Database,
  request: RequestContext,
  page: { readonly after?: string | undefined; readonly limit: number } | { readonly name: string },
): Promise<{ items: StoredPeer[]; seq: number }> {
  const which =
    'name' in page
      ? sql` and p.name = ${page.name}`
      : page.after === undefined
        ? raw('')
        : sql` and p.name > ${page.after}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (select jsonb_agg(to_peer(row) order by (row).name) from (
        select p as row from peer p where p.space_id = s.id${which} order by p.name limit ${'name' in page ? 1 : page.limit}
      ) page)::text as peers from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { items: jsonColumn<StoredPeer[]>(row, 'peers') ?? [], seq: Number(row['clock']) };
}

/**
 * Peers with an interval that are to be run now, and in how many milliseconds the next of the others is due: those whose time
 * has come, and where `isNudged` those that others' changes have left behind, unless their last run failed.
 */
export async function readDue(
  database: Database,
  request: RequestContext,
  isNudged: boolean,
): Promise<{ names: string[]; nextMs: number | null }> {
  const behind = isNudged
    ? sql`p.failures = 0 and exists (select from follower f join change h on h.space_id = f.space_id and h.tick > f.cursor
          where f.space_id = p.space_id and f.name = 'peer:' || p.name and h.kind = 'context'
            and (h.actor_kind <> 'sync' or h.actor_id <> p.name))`
    : raw('false');
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select p.name, coalesce(p.run_until < clock_timestamp(), true) and (p.next_at <= clock_timestamp() or ${behind}) as is_due,
        to_ms(greatest(p.next_at, p.run_until)) - to_ms(clock_timestamp()) as next_ms
      from peer p where p.space_id = ${request.space} and p.next_at is not null order by greatest(p.next_at, p.run_until)`),
    request,
  );
  const isDue = (row: (typeof rows)[number]) => row['is_due'] === 't';
  const next = rows.find((row) => !isDue(row))?.['next_ms'];
  return {
    names: rows.filter(isDue).map((row) => String(row['name'])),
    nextMs: next === undefined ? null : Number(next),
  };
}

/** What a run begins from. */
export interface RunStart {
  readonly peer: StoredPeer;
  /** The clock of the space. */
  readonly clock: number;
  /** Changes up to this tick are no longer in the feed. */
  readonly floor: number;
  /** How many items are agreed on. */
  readonly items: number;
  /** Ids that this run looks at whatever has changed. */
  readonly due: ReadonlySet<string>;
}

/** Takes a peer for a run; null where there is none, or the run that has it, or how this very run has ended before. */
export async function beginRun(
  database: Database,
  request: RequestContext,
  run: { readonly peer: string; readonly runId: string; readonly leaseMs: number; readonly trigger: string },
): Promise<RunStart | { readonly running: string } | { readonly ended: RunEntry['outcome'] } | null> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select begin_run(${run.peer}, ${run.runId}, ${run.leaseMs}, ${run.trigger})::text as answer`),
    request,
  );
  const answer = jsonColumn<RunJson | { running: string } | { ended: RunEntry['outcome'] }>(
    spaceRow(rows, request),
    'answer',
  );
  return answer !== null && 'peer' in answer ? toStart(answer) : answer;
}

type RunJson = Omit<RunStart, 'due'> & { due: string[] };
const toStart = (json: RunJson): RunStart => ({ ...json, due: new Set(json.due) });

/** The same without taking the peer, for a run that only looks. */
export async function readRun(database: Database, request: RequestContext, peer: string): Promise<RunStart | null> {
  const rows = await runOne(database.in(request), toStatement(sql`select read_run(${peer})::text as answer`), request);
  const answer = jsonColumn<RunJson>(spaceRow(rows, request), 'answer');
  return answer && toStart(answer);
}

/** Holds the peer of a run for longer; breaks with `LM005` where another run has taken it over. */
export async function holdRun(
  database: Database,
  request: RequestContext,
  { peer, runId, leaseMs }: { readonly peer: string; readonly runId: string; readonly leaseMs: number },
): Promise<void> {
  await runOne(database.in(request), toStatement(sql`select hold_peer(${peer}, ${runId}, ${leaseMs})`), request);
}

export interface RunEnd {
  /** `running` is one that goes on in another process. */
  readonly outcome: 'done' | 'halted' | 'failed' | 'running';
  readonly reason?: string | undefined;
  readonly counts: object;
  readonly cursor?: number | undefined;
  readonly remoteCursor?: string | undefined;
  /** By what the interval is multiplied until the next run. */
  readonly backOff: number;
}

export async function endRun(
  database: Database,
  request: RequestContext,
  run: { readonly peer: string; readonly runId: string },
  end: RunEnd,
): Promise<void> {
  await runOne(
    database.in(request),
    toStatement(sql`select end_run(${run.peer}, ${run.runId}, ${JSON.stringify(end)}::jsonb)`),
    request,
  );
}

/** A run as it is told. */
export interface RunEntry {
  readonly id: string;
  readonly trigger: string;
  readonly outcome: 'running' | 'done' | 'halted' | 'failed' | 'lost';
  readonly reason: string | null;
  readonly counts: Readonly<Record<string, number>>;
  readonly startedMs: number;
  readonly finishedMs: number | null;
}

/** One page of the runs of a peer, newest first, from below `before` on; null where there is no such peer. */
export async function readRuns(
  database: Database,
  request: RequestContext,
  page: { readonly peer: string; readonly before?: string | undefined; readonly limit: number },
): Promise<RunEntry[] | null> {
  const below = page.before === undefined ? raw('') : sql` and r.id < ${page.before}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select exists (select from peer where space_id = s.id and name = ${page.peer}) as is_known, (
        select jsonb_agg(jsonb_build_object('id', id, 'trigger', trigger, 'outcome', outcome, 'reason', reason, 'counts', counts,
          'startedMs', to_ms(started_at), 'finishedMs', to_ms(finished_at)) order by id desc) from (
          select * from peer_run r where r.space_id = s.id and r.peer = ${page.peer}${below} order by r.id desc limit ${page.limit}
        ) page)::text as runs
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return row['is_known'] === 't' ? (jsonColumn<RunEntry[]>(row, 'runs') ?? []) : null;
}

/** Up to `limit` items that wait for the next run of a peer, and why. */
export async function readWaiting(
  database: Database,
  request: RequestContext,
  page: { readonly peer: string; readonly limit: number },
): Promise<{ id: string; reason: string | null }[]> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select id, note from peer_base where space_id = ${request.space} and peer = ${page.peer} and is_due
      order by id limit ${page.limit}`),
    request,
  );
  return rows.map((row) => ({ id: String(row['id']), reason: row['note'] ?? null }));
}
