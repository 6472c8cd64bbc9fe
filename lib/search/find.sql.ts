import type { ContextHead } from '../contexts/context.ts';
import { type ContextFilter, filterConditions } from '../contexts/filter.ts';
import type { RequestContext } from '../contexts/request.ts';
import { type HeadJson, jsonColumn, toHead } from '../contexts/rows.ts';
import { type LoadRequest, type Read, readSnapshot, seen } from '../contexts/snapshot.ts';
import { type Database, type Row, runOne } from '../postgres/database.ts';
import { join, sql, toStatement } from '../postgres/sql.ts';
import { toTerms } from './analysis.ts';
import type { WordQuery } from './query.ts';
import type { QueryVectors } from './query-vectors.ts';
import type { EngineHit } from './vector-engine.ts';

/** What is looked for. */
export interface Wanted {
  /** Lexemes of null are not looked for; what must and must not be there holds for both legs. */
  readonly words: Omit<WordQuery, 'lexemes'> & { readonly lexemes: readonly string[] | null };
  /** By meaning: the query's vector as each embedder makes it, the current one first. */
  readonly vectors: QueryVectors['vectors'];
  /** What another engine has found in the place of that; null where there is none, or it is away. */
  readonly found: readonly EngineHit[] | null;
  /** What the likeness of vectors counts beside that of words, 0 to 1. */
  readonly weight: number;
  readonly filter: ContextFilter | null;
  readonly isByChunk: boolean;
  readonly limit: number;
  /** How many are enough that the heads hold for sure: what comes after those is left out. */
  readonly enough: number;
  /** Of BM25: how soon more of a word says no more, and how much length counts. */
  readonly k1: number;
  readonly b: number;
  /** What of its score a turn of a transcript adds to those beside it, and to those one further. */
  readonly near: number;
  readonly far: number;
  /** From how many chunks of the space on likeness is looked for by an approximate index, where there is one; null never. */
  readonly hnsw: number | null;
  /** How many chunks are scored by words at most, as far as the rarest word leaves a choice. */
  readonly candidates: number;
}

/** A chunk that was found, and the head of its context in the same snapshot. */
export interface Found {
  readonly head: ContextHead;
  readonly key: string;
  readonly score: number;
  readonly text: string;
  /** Counted from 0. */
  readonly ordinal: number;
  /** In bytes of the content that was indexed. */
  readonly start: number;
  readonly end: number;
  /** Whether another version than the head was indexed. */
  readonly isBehind: boolean;
}

export interface FoundPage {
  /** The best first. */
  readonly found: readonly Found[];
  /** Writes that the index has not seen yet. */
  readonly pending: number;
  /** Whether PostgreSQL has a place for vectors. */
  readonly hasVectors: boolean;
  /** By whom every chunk has its vector, see `Vectors`; null where some may lack it, undefined where there is no chunk. */
  readonly vectorsOf: string | null | undefined;
  /** When the next context of the space expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

/** The best chunks by words and by meaning, as `find_chunks` of `migrations/functions/11-search.sql` finds them. */
export async function findChunks(database: Database, request: LoadRequest, wanted: Wanted): Promise<Read<FoundPage>> {
  const { space } = request;
  const { words, vectors, filter, ...query } = wanted;
  const allowed =
    filter === null
      ? sql`null`
      : sql`(select coalesce(array_agg(c.id), '{}') from context c where ${join(filterConditions(space, filter), ' and ')})`;
  const asked = JSON.stringify({
    ...query,
    terms: words.lexemes && toTerms(space, words.lexemes).map((term, at) => ({ lexeme: words.lexemes?.[at], term })),
    needed: toTerms(space, words.needed),
    must: words.must,
    mustNot: words.mustNot,
    vectors: vectors.map(({ embedder, vector }) => ({ embedder, vector: toLiteral(vector) })),
  });
  const { row, ...read } = await readSnapshot(
    database,
    request,
    sql`select ${seen(request)}, f.* from space s cross join lateral find_chunks(${asked}::jsonb, ${allowed}) f where s.id = ${space}`,
  );
  const found = (jsonColumn<(Omit<Found, 'head'> & { head: HeadJson })[]>(row, 'found') ?? []).map((one) => ({
    ...one,
    key: one.key.replaceAll('-', ''),
    head: toHead(one.head),
  }));
  const expiresMs = row['expires_ms'] ? Number(row['expires_ms']) : null;
  const vectorsOf = toVectorsOf(row);
  const hasVectors = row['has_vectors'] === 't';
  return { ...read, value: { found, vectorsOf, pending: Number(row['pending']), hasVectors, expiresMs } };
}

const toVectorsOf = (row: Row) => (row['has_chunks'] === 't' ? (row['vectors_of'] ?? null) : undefined);

/** As {@link FoundPage} has it. */
export async function readVectorsOf(database: Database, request: RequestContext): Promise<FoundPage['vectorsOf']> {
  const [row = {}] = await runOne(
    database.in(request),
    toStatement(sql`select vectors_of, chunks > 0 as has_chunks from search_state where space_id = ${request.space}`),
    request,
  );
  return toVectorsOf(row);
}

/** How long layer 3 keeps a vector that nobody asks for. */
export interface VectorTerm {
  readonly ttlSeconds: number;
  /** So long before its end, and after, a vector that is asked for is given a new term. */
  readonly renewSeconds: number;
}

/** The vector of a query that layer 3 holds. */
export async function readVector(
  database: Database,
  request: RequestContext,
  key: string,
  { ttlSeconds, renewSeconds }: VectorTerm,
): Promise<Float32Array | undefined> {
  const [row] = await runOne(
    database.in(request),
    toStatement(
      sql`select held_vector(${key}, ${ttlSeconds}::double precision, ${renewSeconds}::double precision) as body`,
    ),
    request,
  );
  return row?.['body'] ? Float32Array.from(JSON.parse(row['body']) as number[]) : undefined;
}

/** Ids of the live contexts that a filter leaves. */
export async function listAllowed(
  database: Database,
  request: RequestContext,
  filter: ContextFilter,
): Promise<string[]> {
  const conditions = join(filterConditions(request.space, filter), ' and ');
  const [row] = await runOne(
    database.in(request),
    toStatement(sql`select coalesce(jsonb_agg(c.id), '[]')::text as ids from context c where ${conditions}`),
    request,
  );
  return JSON.parse(row?.['ids'] ?? '[]') as string[];
}

/** Has layer 3 keep the vector of a query, which nothing that is written makes wrong. */
export async function keepVector(
  database: Database,
  request: RequestContext,
  { key, vector, ttlSeconds }: Pick<VectorTerm, 'ttlSeconds'> & { readonly key: string; readonly vector: Float32Array },
): Promise<void> {
  const statement = sql`select keep_entry('vector', ${key}, 0, '[]', ${toLiteral(vector)}, ${ttlSeconds}::double precision * (0.9 + random() * 0.2))`;
  await runOne(database.in(request), toStatement(statement), request);
}

/** As pgvector reads it. */
function toLiteral(vector: Float32Array): string {
  let text = '';
  for (const value of vector) text += `${text === '' ? '[' : ','}${Number(value.toPrecision(5))}`;
  return `${text}]`;
}
