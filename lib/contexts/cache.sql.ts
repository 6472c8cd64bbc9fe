import type { Report } from '../cache/cache.ts';
import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { RequestContext } from './request.ts';

/** Keeps an answer in layer 3, unless it is true no more or a newer one is there; see `10-cache.sql`. */
export async function keepEntry(
  database: Database,
  request: RequestContext,
  entry: {
    readonly kind: string;
    readonly key: string;
    readonly at: number;
    readonly deps: readonly string[];
    readonly ttlSeconds: number;
  },
  body: string,
): Promise<boolean> {
  const { kind, key, at, deps, ttlSeconds } = entry;
  const [row] = await runOne(
    database.in(request),
    toStatement(
      sql`select keep_entry(${kind}, ${key}, ${at}::bigint, ${JSON.stringify(deps)}::jsonb, ${body}, ${ttlSeconds}::double precision) as kept`,
    ),
    request,
  );
  return row?.['kept'] === 't';
}

/** What layer 3 holds under a key, and why it would be found or not. */
export async function explainEntry(
  database: Database,
  request: RequestContext,
  kind: string,
  key: string,
): Promise<{ at: number; deps: string[]; isOver: boolean; isUntouched: boolean } | null> {
  const [row] = await runOne(
    database.in(request),
    toStatement(sql`select e.at, to_jsonb(e.deps)::text as deps, e.expires_at <= statement_timestamp() as is_over,
        is_untouched(s, e.deps, e.at) as is_untouched
      from cache_entry e join space s on s.id = e.space_id
      where e.space_id = ${request.space} and e.kind = ${kind} and e.key = ${key}`),
    request,
  );
  if (row === undefined) return null;
  const deps = JSON.parse(row['deps'] ?? '[]') as string[];
  return { at: Number(row['at']), deps, isOver: row['is_over'] === 't', isUntouched: row['is_untouched'] === 't' };
}

/** Inserts what an instance counted of a space. */
export function insertReport(space: string, id: string, { kinds, accesses }: Report): Statement {
  return toStatement(sql`insert into cache_report (space_id, id, kinds, accesses)
    values (${space}, ${id}, ${JSON.stringify(kinds)}::jsonb, ${JSON.stringify(accesses)}::jsonb)`);
}

/** What is worth having in the caches, the most valuable first, as `kind:id`. */
export async function readWarmPlan(
  database: Database,
  request: RequestContext,
  bounds: { readonly halfLifeHours: number; readonly limit: number },
): Promise<string[]> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select warm_plan(${bounds.halfLifeHours}::double precision, ${bounds.limit}) as key`),
    request,
  );
  return rows.map((row) => String(row['key']));
}

/** What layer 3 holds of a space, and what its instances reported, by kind of answer. */
export interface KindStatistics {
  readonly kind: string;
  readonly l1Hits: number;
  readonly l2Hits: number;
  readonly l3Hits: number;
  readonly loads: number;
  readonly hitRate: number | null;
  readonly l3Entries: number;
  readonly l3Bytes: number;
}

export async function readCacheStatistics(database: Database, request: RequestContext): Promise<KindStatistics[]> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select ${raw('kind, l1_hits, l2_hits, l3_hits, loads, hit_rate, l3_entries, l3_bytes')}
      from cache_statistics where space_id = ${request.space} order by kind`),
    request,
  );
  return rows.map((row) => ({
    kind: String(row['kind']),
    l1Hits: Number(row['l1_hits']),
    l2Hits: Number(row['l2_hits']),
    l3Hits: Number(row['l3_hits']),
    loads: Number(row['loads']),
    hitRate: row['hit_rate'] === null ? null : Number(row['hit_rate']),
    l3Entries: Number(row['l3_entries']),
    l3Bytes: Number(row['l3_bytes']),
  }));
}
