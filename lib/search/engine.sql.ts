import type { RequestContext } from '../contexts/request.ts';
import { type Database, type Row, runOne, type Statement } from '../postgres/database.ts';
import { type Fragment, sql, toStatement } from '../postgres/sql.ts';
import type { Place } from './vector-engine.ts';

/** An entry as it was sent; another revision is another sending. */
export interface Sent extends Place {
  readonly revision: string;
}

const ask = (database: Database, request: RequestContext, fragment: Fragment): Promise<Row[]> =>
  runOne(database.in(request), toStatement(fragment), request);

const toPlace = (row: Row): Place => ({ id: String(row['id']), key: String(row['key']).replaceAll('-', '') });

const hasNoChunk = sql`not exists (
  select from chunk c where c.space_id = v.space_id and c.context_id = v.context_id and c.key = v.key)`;

/** Whether the engine may lack something of the space, or have too much. */
export async function needsEngine(database: Database, request: RequestContext, label: string): Promise<boolean> {
  const rows = await ask(
    database,
    request,
    sql`select from search_state s where s.space_id = ${request.space} and s.vectors_of is distinct from ${label}
      and (s.chunks > 0 or exists (select from vector_entry v where v.space_id = s.space_id))`,
  );
  return rows.length > 0;
}

/** Entries whose chunks are no more, in order, after one. */
export async function listGarbage(
  database: Database,
  request: RequestContext,
  after: Place | undefined,
  limit: number,
): Promise<Place[]> {
  const rows = await ask(
    database,
    request,
    sql`select v.context_id as id, v.key from vector_entry v
      where v.space_id = ${request.space} and v.held_of is null and ${hasNoChunk}
        and (v.context_id, v.key) > (${after?.id ?? ''}, ${after?.key ?? '0'.repeat(32)}::uuid)
      order by v.context_id, v.key limit ${limit}`,
  );
  return rows.map(toPlace);
}

/** Chunks that the engine has not confirmed. */
export async function listUnsent(
  database: Database,
  request: RequestContext,
  label: string,
  limit: number,
): Promise<(Place & { readonly text: string })[]> {
  const rows = await ask(
    database,
    request,
    sql`select c.context_id as id, c.key, concat_ws(E'\\n', nullif(c.header, ''), c.text) as text from chunk c
      where c.space_id = ${request.space} and not exists (
        select from vector_entry v where v.space_id = c.space_id and v.context_id = c.context_id and v.key = c.key and v.held_of = ${label})
      limit ${limit}`,
  );
  return rows.map((row) => ({ ...toPlace(row), text: String(row['text']) }));
}

export async function beginEntries(
  database: Database,
  request: RequestContext,
  places: readonly Place[],
): Promise<Sent[]> {
  const wanted = JSON.stringify(places.map(({ id, key }) => ({ id, key })));
  const rows = await ask(database, request, sql`select id, key, revision from begin_entries(${wanted}::json)`);
  return rows.map((row) => ({ ...toPlace(row), revision: String(row['revision']) }));
}

export const confirmEntries = (sent: readonly Sent[], label: string): Statement =>
  toStatement(sql`select confirm_entries(${JSON.stringify(sent)}::json, ${label})`);

export const forgetEntries = (places: readonly Place[]): Statement =>
  toStatement(sql`select forget_entries_of(${JSON.stringify(places)}::json)`);

/** Notes that the engine has all chunks and nothing else, unless something came in meanwhile. */
export const settleEntries = (space: string, label: string): Statement[] => [
  toStatement(sql`select lock_search()`),
  toStatement(sql`update search_state set vectors_of = ${label} where space_id = ${space}
    and not exists (select from vector_entry v where v.space_id = ${space} and v.held_of is null and ${hasNoChunk})
    and not exists (
      select from chunk c where c.space_id = ${space} and not exists (
        select from vector_entry v where v.space_id = c.space_id and v.context_id = c.context_id and v.key = c.key and v.held_of = ${label}))`),
];
