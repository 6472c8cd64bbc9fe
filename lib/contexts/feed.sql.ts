import { type Database, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { Change } from './context.ts';
import type { RequestContext } from './request.ts';
import { type ChangeJson, jsonColumn, spaceRow, toChange } from './rows.ts';

/** A stretch of the feed. */
export interface FeedPage {
  readonly changes: readonly Change[];
  /** The space's clock in the same snapshot. */
  readonly seq: number;
  /** Changes up to this tick are no longer kept. */
  readonly floor: number;
}

/**
 * Changes after `since`, in order. Ticks become visible in order, so nothing is ever inserted behind what was read.
 *
 * @param page.isContextsOnly leaves out what is no change of a context (their ticks are used up all the same).
 */
export async function readChanges(
  database: Database,
  request: RequestContext,
  page: { readonly since: number; readonly limit: number; readonly isContextsOnly: boolean },
): Promise<FeedPage> {
  const kind = page.isContextsOnly ? sql` and kind = 'context'` : raw('');
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, s.feed_floor, (
        select json_agg(to_change_json(row) order by (row).tick) from (
          select h as row from change h where h.space_id = s.id and h.tick > ${page.since}${kind} order by h.tick limit ${page.limit}
        ) page)::text as changes
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return {
    changes: (jsonColumn<ChangeJson[]>(row, 'changes') ?? []).map(toChange),
    seq: Number(row['clock']),
    floor: Number(row['feed_floor']),
  };
}
