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
    sql`select from search_state s where s.space_id = ${request.space}
      and (s.has_garbage or (s.chunks > 0 and s.vectors_of is distinct from ${label}))`,
  );
  return rows.length > 0;
}

/** Whether it is this process that may speak to the engine, for so long. */
export async function takeLease(
  database: Database,
  request: RequestContext,
  holder: string,
  seconds: number,
): Promise<boolean> {
  const [row] = await ask(database, request, sql`select take_lease(${holder}, ${seconds}::double precision) as taken`);
  return row?.['taken'] === 't';
}

export const releaseLease = (holder: string): Statement => toStatement(sql`select release_lease(${holder})`);

/** Entries whose chunks are no more, of all contexts or of these. */
export async function listGarbage(
  database: Database,
  request: RequestContext,
  limit: number,
  of?: readonly string[],
): Promise<Place[]> {
  const rows = await ask(
    database,
    request,
    sql`select v.context_id as id, v.key from vector_entry v
      where v.space_id = ${request.space} and ${of === undefined ? sql`true` : sql`v.context_id in (select jsonb_array_elements_text(${JSON.stringify(of)}::jsonb))`} and ${hasNoChunk}
      limit ${limit}`,
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

/** @param isLast whether what is on its way can no longer arrive. */
export const removeEntries = (places: readonly Place[], isLast: boolean): Statement =>
  toStatement(sql`select remove_entries(${JSON.stringify(places)}::json, ${isLast})`);

/** Notes that nothing is left of chunks that went, unless there is. */
export const settleGarbage = (space: string): Statement[] => [
  toStatement(sql`select lock_search()`),
  toStatement(sql`update search_state set has_garbage = false where space_id = ${space}
    and not exists (select from vector_entry v where v.space_id = ${space} and ${hasNoChunk})`),
];

/** Notes that the engine has all chunks, unless one came in meanwhile. */
export const settleEntries = (space: string, label: string): Statement[] => [
  toStatement(sql`select lock_search()`),
  toStatement(sql`update search_state set vectors_of = ${label} where space_id = ${space} and not exists (
    select from chunk c where c.space_id = ${space} and not exists (
      select from vector_entry v where v.space_id = c.space_id and v.context_id = c.context_id and v.key = c.key and v.held_of = ${label}))`),
];

/** Notes a tenant that is dropped, for it to be dropped again. */
export async function noteDropped(database: Database, tenant: string): Promise<void> {
  await database.owner.run([
    toStatement(
      sql`insert into dropped_tenant (tenant) values (${tenant}) on conflict (tenant) do update set at = clock_timestamp()`,
    ),
  ]);
}

export async function listDropped(database: Database): Promise<string[]> {
  const [rows = []] = await database.owner.run([
    toStatement(sql`select tenant from dropped_tenant order by at limit 100`),
  ]);
  return rows.map((row) => String(row['tenant']));
}

/** Forgets a tenant of which nothing can be on its way any more. */
export async function settleDropped(database: Database, tenant: string): Promise<void> {
  await database.owner.run([
    toStatement(
      sql`delete from dropped_tenant where tenant = ${tenant} and at < clock_timestamp() - interval '5 minutes'`,
    ),
  ]);
}
