import type { RequestContext } from '../contexts/request.ts';
import { type Database, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';

/** Ids of contexts whose time is over and that have no tombstone yet. */
export async function findExpired(database: Database, request: RequestContext, limit: number): Promise<string[]> {
  const rows = await runOne(
    database.in(request.space),
    toStatement(sql`select id from context where space_id = ${request.space} and state = 'live'
      and expires_at <= clock_timestamp() order by expires_at limit ${limit}`),
    request,
  );
  return rows.map((row) => String(row['id']));
}

/** What one batch removed. */
export interface Removed {
  readonly tombstones: number;
  readonly versions: number;
  readonly contents: number;
  readonly idempotencyKeys: number;
  readonly changes: number;
}

/** Removes one bounded batch of everything whose time is over. */
export async function removeBatch(
  database: Database,
  request: RequestContext,
  bounds: {
    readonly tombstoneDays: number;
    readonly retained: number;
    readonly retainedDays: number | null;
    readonly feedDays: number | null;
    readonly limit: number;
  },
): Promise<Removed> {
  const { limit } = bounds;
  const feed = bounds.feedDays === null ? raw('0') : sql`prune_feed(${bounds.feedDays}::double precision, ${limit})`;
  const rows = await runOne(
    database.in(request.space),
    toStatement(sql`select purge_tombstones(${bounds.tombstoneDays}::double precision, ${limit}) as tombstones,
      trim_versions(${bounds.retained}, ${bounds.retainedDays}::double precision, ${limit}) as versions,
      forget_keys(${limit}) as keys, collect_orphans(${limit}) as contents, ${feed} as changes`),
    request,
  );
  const count = (column: string) => Number(rows[0]?.[column] ?? 0);
  return {
    tombstones: count('tombstones'),
    versions: count('versions'),
    contents: count('contents'),
    idempotencyKeys: count('keys'),
    changes: count('changes'),
  };
}
