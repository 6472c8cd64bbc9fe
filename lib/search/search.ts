import { setTimeout as sleep } from 'node:timers/promises';
import { sha256 } from '../base/hash.ts';
import type { Loaded } from '../cache/answers.ts';
import type { Cache } from '../cache/cache.ts';
import type { Settings } from '../config/settings.ts';
import type { ContextHead } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { ContextFilter } from '../contexts/filter.ts';
import { anyItem, invalidatedItem } from '../contexts/items.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { LoadRequest, Read } from '../contexts/snapshot.ts';
import { createThrough, toLoaded } from '../contexts/through.ts';
import type { Database } from '../postgres/database.ts';
import { type Chunk, chunkContext } from './chunk.ts';
import { engineLabel, isEngineLabel, tenantOf } from './engine-vectors.ts';
import { type Found, type FoundPage, findChunks, listAllowed, type Wanted } from './find.sql.ts';
import type { Indexer } from './indexer.ts';
import type { Indexing } from './indexing.ts';
import { readQuery } from './query.ts';
import { createQueries, type QueryVectors } from './query-vectors.ts';
import { createSearchKind } from './search-kind.ts';
import { snippetOf } from './snippet.ts';
import type { VectorEngine } from './vector-engine.ts';

export interface SearchQuery {
  /** Words of any language; `"…"` has to be there, `-word` must not. */
  readonly query: string;
  readonly mode: 'hybrid' | 'semantic' | 'keyword';
  /** 1–100. */
  readonly limit: number;
  readonly filter: ContextFilter | null;
  /** Every chunk by itself, or the best of each context. */
  readonly groupBy: 'context' | 'chunk';
  /** Whether what was written before the search is waited for. */
  readonly isIndexed: boolean;
}

export interface SearchHit {
  /** As it stood when it was found. */
  readonly head: ContextHead;
  /** The higher the better; comparable within one answer alone. */
  readonly score: number;
  readonly snippet: string;
  /** Its place among the chunks of the content, from 0, and in the content's bytes, the end not included. */
  readonly chunk: { readonly ordinal: number; readonly start: number; readonly end: number };
}

export interface SearchAnswer {
  readonly hits: readonly SearchHit[];
  /** Writes that the index has not seen yet. */
  readonly pending: number;
  /** Legs that are down. */
  readonly degraded: readonly 'semantic'[];
  /** When the next context of the space expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

export interface Search {
  /** What holds the vectors. */
  readonly engine: 'pgvector' | VectorEngine['name'];
  /** The id of the embedder. */
  readonly embedder: string;
  /** Heads whose contents are about the query, the best first: one request to PostgreSQL, or none from the caches. */
  search(request: RequestContext, query: SearchQuery): Promise<SearchAnswer & { readonly seq: number }>;
  readonly indexing: Indexing;
}

interface Attempt {
  readonly read: Read<FoundPage>;
  /** Whether there may be more. */
  readonly isFull: boolean;
  /** Whether likeness was looked for among all chunks. */
  readonly isWhole: boolean;
  /** Whether it could be, but for vectors that are missing. */
  readonly isLacking: boolean;
}

/** How long a search waits for the index. */
const waitMs = 10_000;
// How many chunks are asked for at most.
const askedMax = 1500;
// Contexts that a filter names to the engine beside PostgreSQL; ten thousand take it 0.2 s.
const idsMax = 10_000;
// How much content is read to see whether heads still hold what was found.
const verifiedBytesMax = 16_777_216;
const noVectors: QueryVectors = { vectors: [], isWhole: true, isReduced: false };

export function createSearch(
  deps: Omit<Indexer, 'vectors'> & { database: Database; cache: Cache; contexts: Contexts; settings: Settings },
): Search {
  const { database, cache, contexts, embedding, indexing, engine, guard, settings, onFailure } = deps;
  const { layers, ttlSeconds } = settings.cache.kinds.vector;
  const { k1, b, candidates, near, far, weight, hnswChunks: hnsw } = settings.search;
  const [embedder] = embedding.embedders;
  const queries = createQueries({
    database,
    embedding,
    isOwn: (label) => (engine === undefined ? label === embedder.id : isEngineLabel(label, engine, embedder.id)),
    term: layers.length > 0 ? { ttlSeconds, renewSeconds: ttlSeconds * settings.cache.renewShare } : null,
    onFailure,
  });
  const kind = createSearchKind(settings);
  const { throughOne } = createThrough({ cache, originMs: settings.cache.originMs });

  async function load(request: LoadRequest, query: SearchQuery): Promise<Loaded<SearchAnswer>> {
    const words = readQuery(query.query);
    const isSemantic = query.mode !== 'keyword';
    const asked = isSemantic ? await queries.toVectors(request, query.query) : noVectors;
    const wanted = {
      words: query.mode === 'semantic' ? { ...words, lexemes: null } : words,
      vectors: asked.vectors,
      weight: weight ?? embedder.weight,
      filter: query.filter,
      isByChunk: query.groupBy === 'chunk',
      k1,
      b,
      candidates,
      near,
      far,
      hnsw,
    };
    const find = isSemantic && engine !== undefined ? findBeside : findInside;
    const { found, isWhole, isLacking, read } = await findEnough(request, wanted, query.limit, find);
    // Another process has made the vectors anew as one of those has them that were left out.
    if (isSemantic && queries.isMissing(request, asked, read.value.vectorsOf)) return load(request, query);
    // The embedder, or the engine, is back.
    if (isSemantic && asked.isWhole && isLacking) indexing.wake(request);
    const hits = found.map((one): SearchHit => {
      const { head, score, text, ordinal, start, end } = one;
      return { head, score, snippet: snippetOf(text, words.lexemes), chunk: { ordinal, start, end } };
    });
    const { pending, expiresMs } = read.value;
    const degraded: 'semantic'[] = isSemantic && !(asked.isWhole && isWhole) ? ['semantic'] : [];
    const loaded = toLoaded<SearchAnswer>({ hits, pending, degraded, expiresMs }, [anyItem, invalidatedItem], read);
    // The index goes on without a tick, and so does an engine that comes back.
    const isPassing = pending > 0 || degraded.length > 0;
    return { ...loaded, values: loaded.values.map((one) => ({ ...one, isPassing })) };
  }

  /** By words and vectors in PostgreSQL. */
  async function findInside(request: LoadRequest, wanted: Wanted): Promise<Attempt> {
    const read = await findChunks(database, request, wanted);
    const { found, hasVectors, vectorsOf } = read.value;
    const isFilled = vectorsOf === undefined || embedding.embedders.some(({ id }) => id === vectorsOf);
    const isLacking = hasVectors && !isFilled;
    return { read, isFull: found.length >= wanted.limit, isWhole: hasVectors && isFilled, isLacking };
  }

  const labelOf = async (of: VectorEngine) => engineLabel(of, (await of.identity()) ?? '', embedder.id);

  /** By the engine beside PostgreSQL; where it is away, or may lack something, by words in PostgreSQL, too. */
  async function findBeside(request: LoadRequest, wanted: Wanted): Promise<Attempt> {
    const { words, vectors: asked, weight: counts, filter, limit, isByChunk } = wanted;
    // Many are narrowed down to by PostgreSQL.
    const allowed = filter === null ? null : await listAllowed(database, request, filter);
    const ids = allowed !== null && allowed.length > idsMax ? null : allowed;
    const { lexemes, needed, excluded } = words;
    const question = { lexemes, needed, excluded, vectors: asked, weight: counts, ids, limit, isByChunk };
    // Of a tenant that it does not know it has nothing, whatever PostgreSQL knows.
    const answer = await guard.call(async () => {
      const found = await engine?.find(tenantOf(request), question);
      return { hits: found ?? null, label: found && engine && (await labelOf(engine)) };
    });
    const hits = answer?.hits ?? null;
    const ask = (isByWords: boolean) =>
      findChunks(database, request, {
        ...wanted,
        words: isByWords ? words : { ...words, lexemes: null },
        vectors: [],
        found: hits,
      });
    let read = await ask(hits === null);
    const { vectorsOf } = read.value;
    const isWhole = answer !== null && (vectorsOf === undefined || (hits !== null && vectorsOf === answer.label));
    if (hits !== null && !isWhole && lexemes !== null) read = await ask(true);
    return {
      read,
      isFull: (hits ?? read.value.found).length >= limit,
      isWhole,
      isLacking: answer !== null && !isWhole,
    };
  }

  /** Asks again for more where too many of those found are not the heads' any more. */
  async function findEnough(
    request: LoadRequest,
    wanted: Omit<Wanted, 'limit' | 'enough' | 'found'>,
    limit: number,
    find: (request: LoadRequest, wanted: Wanted) => Promise<Attempt>,
  ) {
    for (let asked = limit + 20; ; asked *= 4) {
      const { read, isFull, ...state } = await find(request, { ...wanted, found: null, limit: asked, enough: limit });
      const verified = await verify(request, read.value.found, limit);
      const seen = new Set<string>();
      const found = wanted.isByChunk
        ? verified
        : verified.filter(({ head: { id } }) => seen.size !== seen.add(id).size);
      if (found.length >= limit || !isFull || asked >= askedMax)
        return { found: found.slice(0, limit), read, ...state };
    }
  }

  /**
   * Leaves out chunks that were indexed of another version than the head and that it does not hold, and what stands in heads
   * that are too large together to be read for one search.
   */
  async function verify(request: RequestContext, found: readonly Found[], limit: number): Promise<Found[]> {
    const behind = new Map<string, ContextHead>();
    let bytes = 0;
    for (const { head, isBehind } of found) {
      if (!isBehind || behind.has(head.id) || behind.size >= 2 * limit) continue;
      bytes += head.sizeBytes;
      if (behind.size > 0 && bytes > verifiedBytesMax) break;
      behind.set(head.id, head);
    }
    if (behind.size === 0) return [...found];
    const references = [...behind.values()].map(({ id, version }) => ({ id, version }));
    const { value } = await contexts.readExact(request, references);
    const now = new Map<string, Map<string, Chunk & { ordinal: number }>>();
    for (const context of value) {
      if (context?.content === undefined || context.updatedMs !== behind.get(context.id)?.updatedMs) continue;
      const { chunks } = chunkContext(context, context.content);
      now.set(context.id, new Map(chunks.map((chunk, ordinal) => [chunk.key, { ...chunk, ordinal }])));
    }
    return found.flatMap((one) => {
      if (!one.isBehind) return [one];
      const chunk = now.get(one.head.id)?.get(one.key);
      return chunk === undefined ? [] : [{ ...one, ordinal: chunk.ordinal, start: chunk.start, end: chunk.end }];
    });
  }

  /** Until nothing is pending or the time is over; what keeps the index from it is told by `pending`. */
  async function waitForIndex(request: RequestContext): Promise<void> {
    const deadline = performance.now() + waitMs;
    const over = sleep(waitMs, undefined, { ref: false });
    const isCaughtUp = async () => (await indexing.pending(request)) === 0;
    while (performance.now() < deadline && !(await isCaughtUp())) {
      const run = indexing.index(request, deadline - performance.now()).then(
        () => true,
        (error) => onFailure(error, request.space),
      );
      if (!(await Promise.race([run, over]))) return;
    }
  }

  return {
    engine: engine?.name ?? 'pgvector',
    embedder: embedder.id,
    indexing,
    async search(request, query) {
      if (query.isIndexed) await waitForIndex(request);
      const { isIndexed: _waited, ...asked } = query;
      const key = sha256(JSON.stringify([embedder.id, asked]));
      const { value, seq } = await throughOne(request, kind, key, (of) => load(of, query));
      return { ...value, seq };
    },
  };
}
