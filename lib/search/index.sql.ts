import type { Context } from '../contexts/context.ts';
import type { RequestContext } from '../contexts/request.ts';
import { type HeadJson, jsonColumn, type PartsJson, toContext } from '../contexts/rows.ts';
import { isLiveNow } from '../contexts/snapshot.ts';
import { type Database, type Row, runOne, type Statement } from '../postgres/database.ts';
import { sql, toStatement } from '../postgres/sql.ts';
import type { Run } from './analysis.ts';

/** Under this name the search index follows the feed. */
export const followerName = 'search';

const ask = (
  database: Database,
  request: RequestContext,
  fragment: Parameters<typeof toStatement>[0],
): Promise<Row[]> => runOne(database.in(request), toStatement(fragment), request);

/**
 * The live ones of these contexts with their contents, until together they exceed `bytesMax`, the first in any case,
 * without its content where that alone is more; and which chunks are held of each. Looked up one by one, as by `is_head_still`.
 *
 * @returns `rest`: those that were too much.
 */
export async function readToIndex(
  database: Database,
  request: RequestContext,
  ids: readonly string[],
  bytesMax: number,
): Promise<{ contexts: Context[]; keys: Map<string, Set<string>>; rest: string[] }> {
  const [row = {}] = await ask(
    database,
    request,
    sql`with wanted as (
        select id, ordinality as position from jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb) with ordinality as w (id, ordinality)
      ), live as (
        select node, position, sum((node).size_bytes) over (order by position) - (node).size_bytes as before
        from wanted cross join lateral (
          select c as node, ${isLiveNow} as is_live from context c where c.space_id = ${request.space} and c.id = wanted.id offset 0) c
        where is_live
      )
      select (select json_agg(json_build_object('head', to_head(node), 'content', parts) order by position)
          from live left join lateral (
            select json_agg(json_build_array(encoding, encode(bytes, 'base64')) order by part) as parts
            from content k where k.space_id = ${request.space} and k.hash = (node).hash and (node).size_bytes <= ${bytesMax}) k on true
          where before = 0 or before + (node).size_bytes <= ${bytesMax})::text as items,
        (select jsonb_agg((node).id order by position) from live where before > 0 and before + (node).size_bytes > ${bytesMax})::text as rest,
        (select jsonb_object_agg(h.id, h.keys) from (
          select id, jsonb_agg(replace(key::text, '-', '')) as keys from held_chunks(array(select id from wanted)) group by id) h)::text as keys`,
  );
  const items = jsonColumn<{ head: HeadJson; content: PartsJson }[]>(row, 'items') ?? [];
  const held = Object.entries(jsonColumn<Record<string, string[]>>(row, 'keys') ?? {});
  return {
    contexts: items.map(({ head, content }) => toContext(head, content ?? undefined)),
    keys: new Map(held.map(([id, keys]) => [id, new Set(keys)])),
    rest: jsonColumn<string[]>(row, 'rest') ?? [],
  };
}

/** The very state of a context that was read: version numbers begin again where an id was purged. */
interface ReadState {
  readonly id: string;
  readonly version: number;
  readonly updatedMs: number;
}

/** A chunk as the index takes it in. */
export interface NewChunk extends ReadState {
  readonly key: string;
  readonly header: string;
  readonly text: string;
  readonly lexemes: string;
  /** In order: PostgreSQL sorts them for its index, and what is in order already it has soon sorted. */
  readonly terms: Int32Array;
  readonly words: number;
  /** Of the text as it is indexed. */
  readonly runs: readonly Run[];
}

export interface NewDocument extends ReadState {
  readonly isTranscript: boolean;
  readonly keys: readonly string[];
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

/** @param embedder whose vectors follow in the same transaction; null where they are still to come. */
export function putChunks(chunks: readonly NewChunk[], embedder: string | null): Statement {
  const rows = JSON.stringify(chunks.map(({ runs: _, terms, ...chunk }) => ({ ...chunk, terms: toArray(terms) })));
  const { terms, counts } = countTerms(chunks);
  return toStatement(
    sql`select put_chunks(${rows}::json, ${embedder}, ${chunks.length}, ${toArray(terms)}::integer[], ${toArray(counts)}::integer[])`,
  );
}

/** As PostgreSQL reads an array. */
const toArray = (numbers: Int32Array) => `{${numbers}}`;

/** Each term, in order, and how many of the chunks hold it. */
function countTerms(chunks: readonly NewChunk[]): { terms: Int32Array; counts: Int32Array } {
  const held = new Map<number, number>();
  for (const { terms } of chunks) for (const term of terms) held.set(term, (held.get(term) ?? 0) + 1);
  const terms = Int32Array.from(held.keys()).sort();
  return { terms, counts: terms.map((term) => held.get(term) as number) };
}

export const putDocuments = (documents: readonly NewDocument[]): Statement =>
  toStatement(sql`select put_documents(${JSON.stringify(documents)}::json)`);

/** Words of the chunks that were put are found once what is pending is in order. */
export const orderTerms = (): Statement => toStatement(sql`select order_terms()`);

export const dropDocuments = (ids: readonly string[]): Statement =>
  toStatement(sql`select drop_documents(array(select jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb)))`);

export const putVectors = (
  vectors: readonly { readonly id: string; readonly key: string; readonly vector: string | null }[],
  embedder: string,
): Statement => toStatement(sql`select put_vectors(${JSON.stringify(vectors)}::json, ${embedder})`);

export async function countPending(database: Database, request: RequestContext): Promise<number> {
  const [row = {}] = await ask(database, request, sql`select pending_writes() as pending`);
  return Number(row['pending'] ?? 0);
}

/**
 * Begins a rebuild, or goes on with the one under way unless the feed has forgotten what came since it began.
 *
 * @returns the clock when it began.
 */
export async function beginRebuild(database: Database, request: RequestContext): Promise<number> {
  const [row] = await ask(database, request, sql`select begin_rebuild() as clock`);
  return Number(row?.['clock'] ?? 0);
}

/** The next live contexts of the rebuild under way, in order of their ids. */
export async function listToRebuild(database: Database, request: RequestContext, limit: number): Promise<string[]> {
  const rows = await ask(
    database,
    request,
    sql`select c.id from context c where c.space_id = ${request.space} and ${isLiveNow} and c.id > coalesce(
        (select s.rebuilt_to from search_state s where s.space_id = ${request.space}), '')
      order by c.id limit ${limit}`,
  );
  return rows.map((row) => String(row['id']));
}

/** Notes how far a rebuild has come; null where it has come to the end. */
export const markRebuilt = (space: string, to: string | null): Statement[] => [
  toStatement(sql`select lock_search()`),
  toStatement(sql`update search_state set rebuilt_to = ${to} where space_id = ${space}`),
];

/** Indexed contexts that are not live. */
export async function listDead(database: Database, request: RequestContext, limit: number): Promise<string[]> {
  const rows = await ask(
    database,
    request,
    sql`select d.id from search_document d where d.space_id = ${request.space} and not exists (
        select from context c where c.space_id = ${request.space} and c.id = d.id and ${isLiveNow})
      limit ${limit}`,
  );
  return rows.map((row) => String(row['id']));
}

/** Whether some chunk may lack its vector of this embedder. */
export async function lacksVectors(database: Database, request: RequestContext, embedder: string): Promise<boolean> {
  const rows = await ask(
    database,
    request,
    sql`select from search_state where space_id = ${request.space} and vectors_of is distinct from ${embedder} and chunks > 0`,
  );
  return rows.length > 0;
}

/** Chunks without a vector of this embedder. */
export async function listWithoutVector(
  database: Database,
  request: RequestContext,
  embedder: string,
  limit: number,
): Promise<{ id: string; key: string; text: string }[]> {
  const rows = await ask(
    database,
    request,
    sql`select c.context_id as id, c.key, concat_ws(E'\n', nullif(c.header, ''), c.text) as text from chunk c
      where c.space_id = ${request.space} and not exists (
        select from chunk_vector v where v.space_id = c.space_id and v.embedder = ${embedder} and v.context_id = c.context_id and v.key = c.key)
      limit ${limit}`,
  );
  return rows.map((row) => ({ id: String(row['id']), key: String(row['key']), text: String(row['text']) }));
}

/** Notes that all chunks have their vectors, unless one came in meanwhile, and lets go of those of other embedders. */
export function settleVectors(space: string, embedder: string): Statement[] {
  return [
    toStatement(sql`select lock_search()`),
    toStatement(sql`update search_state set vectors_of = ${embedder} where space_id = ${space} and not exists (
      select from chunk c where c.space_id = ${space} and not exists (
        select from chunk_vector v where v.space_id = c.space_id and v.embedder = ${embedder} and v.context_id = c.context_id and v.key = c.key))`),
    toStatement(sql`delete from chunk_vector where space_id = ${space} and embedder <> ${embedder}
      and exists (select from search_state where space_id = ${space} and vectors_of = ${embedder})`),
  ];
}

/** Whether the vectors of the space are to be made as this process has them; see `claim_vectors`. */
export async function claimVectors(
  database: Database,
  request: RequestContext,
  { label, startedMs, isNamed }: { readonly label: string; readonly startedMs: number; readonly isNamed: boolean },
): Promise<boolean> {
  const [row] = await ask(
    database,
    request,
    sql`select claim_vectors(${label}, ${startedMs}::bigint, ${isNamed}) as mine`,
  );
  return row?.['mine'] === 't';
}

/** Keeps an approximate index over the vectors of an embedder, where pgvector has it; before the first of them it costs nothing. */
export async function enableVectorIndex(
  database: Database,
  { id, dimensions }: { readonly id: string; readonly dimensions: number },
): Promise<void> {
  await runOne(database.owner, { text: 'select enable_vector_index($1, $2::integer)', params: [id, dimensions] });
}

/** Makes room for vectors; false where PostgreSQL has no pgvector. */
export async function enableVectors(database: Database): Promise<boolean> {
  const [row] = await runOne(database.owner, { text: 'select enable_vectors() as done', params: [] });
  return row?.['done'] === 't';
}
