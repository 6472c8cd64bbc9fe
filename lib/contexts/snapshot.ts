import { type Database, type Row, runOne } from '../postgres/database.ts';
import { type Fragment, raw, sql, toStatement } from '../postgres/sql.ts';
import type { Change } from './context.ts';
import type { RequestContext } from './request.ts';
import { feedColumn, feedTicksMax, spaceRow } from './rows.ts';

/** A request whose answer a cache may keep, and so needs the feed after this tick along with it. */
export interface LoadRequest extends RequestContext {
  readonly feedAfter?: number | undefined;
}

/** An answer of one statement with the clock of its own snapshot. */
export interface Read<Value> {
  /** The changes after `feedAfter`; null where they are too many, no longer kept, or were not asked for. */
  readonly feed: readonly Change[] | null;
  readonly value: Value;
  readonly seq: number;
  /** PostgreSQL's time, by which expiry is judged. */
  readonly nowMs: number;
}

/** What every read tells of its own snapshot: the clock, the time, and for a cache the feed after a tick. */
export function seen({ feedAfter }: LoadRequest): Fragment {
  const clock = sql`s.clock, to_ms(statement_timestamp()) as now_ms`;
  if (feedAfter === undefined) return clock;
  return sql`${clock}, feed_after(s, ${feedAfter}::bigint, ${feedTicksMax + 1})::text as feed`;
}

/** Of a row `c` of the table of contexts: whether it can be read as a head at the snapshot's time. */
export const isLiveNow = raw(`c.state = 'live' and (c.expires_at is null or c.expires_at > statement_timestamp())`);

/** Runs a statement that selects one row from `space s`, {@link seen} in it. */
export async function readSnapshot(
  database: Database,
  request: LoadRequest,
  fragment: Fragment,
): Promise<Omit<Read<unknown>, 'value'> & { readonly row: Row }> {
  const row = spaceRow(await runOne(database.in(request), toStatement(fragment), request), request);
  return { row, seq: Number(row['clock']), nowMs: Number(row['now_ms']), feed: feedColumn(row) };
}
