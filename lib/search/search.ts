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
import type { LoadRequest } from '../contexts/snapshot.ts';
import { createThrough, toLoaded } from '../contexts/through.ts';
import type { Database } from '../postgres/database.ts';
import { type Chunk, chunkContext } from './chunk.ts';
import type { Embedding, QueryVector, QueryVectors } from './embedding.ts';
import { type Found, findChunks, keepVector, type Wanted } from './find.sql.ts';
import type { Indexing } from './indexing.ts';
import { readQuery } from './query.ts';
import { createSearchKind } from './search-kind.ts';
import { snippetOf } from './snippet.ts';

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
  readonly engine: 'pgvector';
  /** The id of the embedder. */
  readonly embedder: string;
  /** Heads whose contents are about the query, the best first: one request to PostgreSQL, or none from the caches. */
  search(request: RequestContext, query: SearchQuery): Promise<SearchAnswer & { readonly seq: number }>;
  readonly indexing: Indexing;
}

/** How long a search waits for the index. */
const waitMs = 10_000;
// How many chunks are asked for at most, and how much content is read to see whether a head still holds what was found.
const askedMax = 1500;
const verifiedBytesMax = 16_777_216;

export function createSearch(deps: {
  database: Database;
  cache: Cache;
  contexts: Contexts;
  embedding: Embedding;
  indexing: Indexing;
  settings: Settings;
  onFailure: (error: unknown, space: string) => void;
}): Search {
  const { database, cache, contexts, embedding, indexing, settings, onFailure } = deps;
  const { k1, b, candidates, weight } = settings.search;
  const [embedder] = embedding.embedders;
  const kind = createSearchKind(settings);
  const { throughOne } = createThrough({ cache, originMs: settings.cache.originMs });

  async function load(request: LoadRequest, query: SearchQuery): Promise<Loaded<SearchAnswer>> {
    const words = readQuery(query.query);
    const isSemantic = query.mode !== 'keyword';
    let asked: QueryVectors = isSemantic ? await embedding.query(query.query) : { vectors: [], isWhole: true };
    const wanted = {
      words: query.mode === 'semantic' ? { ...words, lexemes: null } : words,
      embedders: embedding.embedders.map(({ id }) => id),
      weight: weight ?? embedder.weight,
      filter: query.filter,
      isByChunk: query.groupBy === 'chunk',
      k1,
      b,
      candidates,
    };
    const find = () => findEnough(request, { ...wanted, vectors: asked.vectors }, query.limit);
    let { found, ...read } = await find();
    const { unknown } = read.value;
    if (unknown.length > 0) {
      asked = await embedding.query(query.query, unknown);
      [{ found, ...read }] = await Promise.all([find(), keepVectors(request, asked.vectors)]);
    }
    const hits = found.map((one): SearchHit => {
      const { head, score, text, ordinal, start, end } = one;
      return { head, score, snippet: snippetOf(text, words.lexemes), chunk: { ordinal, start, end } };
    });
    const { pending, hasVectors, expiresMs } = read.value;
    const degraded: 'semantic'[] = isSemantic && !(asked.isWhole && hasVectors) ? ['semantic'] : [];
    const loaded = toLoaded<SearchAnswer>({ hits, pending, degraded, expiresMs }, [anyItem, invalidatedItem], read);
    // The index goes on without a tick, and so does an engine that comes back.
    const isPassing = pending > 0 || degraded.length > 0;
    return { ...loaded, values: loaded.values.map((one) => ({ ...one, isPassing })) };
  }

  async function keepVectors(request: LoadRequest, vectors: readonly QueryVector[]): Promise<void> {
    const { ttlSeconds } = settings.cache.kinds.vector;
    for (const { key, vector } of vectors) {
      if (key === null || vector === null) continue;
      await keepVector(database, request, { key, vector, ttlSeconds }).catch((error) =>
        onFailure(error, request.space),
      );
    }
  }

  /** Asks again for more where too many of those found are of versions that the heads have left behind. */
  async function findEnough(request: LoadRequest, wanted: Omit<Wanted, 'limit'>, limit: number) {
    for (let asked = limit + 20; ; asked *= 4) {
      const { value, ...read } = await findChunks(database, request, { ...wanted, limit: asked });
      const verified = await verify(request, value.found, limit);
      const seen = new Set<string>();
      const found = wanted.isByChunk
        ? verified
        : verified.filter(({ head: { id } }) => seen.size !== seen.add(id).size);
      if (found.length >= limit || value.found.length < asked || asked >= askedMax)
        return { found: found.slice(0, limit), value, ...read };
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
    engine: 'pgvector',
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
