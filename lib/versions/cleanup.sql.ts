import type { RequestContext } from '../contexts/request.ts';
import { type Database, runOne } from '../postgres/database.ts';
import { type Fragment, sql, toStatement } from '../postgres/sql.ts';

/** Ids of contexts whose time is over and that have no tombstone yet. */
export async function findExpired(database: Database, request: RequestContext, limit: number): Promise<string[]> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select id from context where space_id = ${request.space} and state = 'live'
      and expires_at <= clock_timestamp() order by expires_at limit ${limit}`),
    request,
  );
  return rows.map((row) => String(row['id']));
}

/** What retention keeps, as the settings have it. */
export interface Bounds {
  readonly tombstoneDays: number;
  readonly retained: number;
  readonly retainedDays: number | null;
  readonly feedDays: number | null;
  readonly reportDays: number;
  readonly doneDays: number;
  readonly deadDays: number;
  readonly sessionDays: number;
}

/** What cleanup removes, kind by kind, in this order: what goes first may leave something for what follows. */
export const kinds = [
  'tombstones',
  'versions',
  'contents',
  'idempotencyKeys',
  'uploads',
  'changes',
  'conflicts',
  'cacheEntries',
  'cacheReports',
  'events',
  'sessions',
] as const;
export type Kind = (typeof kinds)[number];

/** Removes one bounded batch of one kind: one request. `isDone` where nothing was left to look at. */
export async function removeBatch(
  database: Database,
  request: RequestContext,
  kind: Kind,
  bounds: Bounds,
): Promise<{ removed: number; isDone: boolean }> {
  const limit = 500;
  const statements: Record<Kind, Fragment | null> = {
    tombstones: sql`purge_tombstones(${bounds.tombstoneDays}::double precision, ${limit})`,
    versions: sql`trim_versions(${bounds.retained}, ${bounds.retainedDays}::double precision, ${limit})`,
    contents: sql`collect_garbage(${limit})`,
    idempotencyKeys: sql`forget_keys(${limit})`,
    // Each may hold ten megabytes.
    uploads: sql`forget_uploads(20)`,
    conflicts: sql`forget_conflicts(${bounds.tombstoneDays}::double precision, ${limit})`,
    cacheEntries: sql`forget_entries(${limit})`,
    cacheReports: sql`forget_reports(${bounds.reportDays}::double precision, ${limit})`,
    events: sql`forget_events(${bounds.doneDays}::double precision, ${bounds.deadDays}::double precision, ${limit})`,
    sessions: sql`forget_sessions(${bounds.sessionDays}::double precision, ${limit})`,
    changes: bounds.feedDays === null ? null : sql`prune_feed(${bounds.feedDays}::double precision, ${limit})`,
  };
  const call = statements[kind];
  if (call === null) return { removed: 0, isDone: true };
  const [row = {}] = await runOne(database.in(request), toStatement(sql`select * from ${call} done`), request);
  const removed = Number(row['removed'] ?? row['done'] ?? 0);
  return { removed, isDone: Number(row['looked'] ?? removed) === 0 };
}
