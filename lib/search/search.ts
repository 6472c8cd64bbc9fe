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
import { chunkContext } from './chunk.ts';
import type { Embedding } from './embedding.ts';
import { type Found, findChunks } from './find.sql.ts';
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

export function createSearch(deps: {
  database: Database;
  cache: Cache;
  contexts: Contexts;
  embedding: Embedding;
  indexing: Indexing;
  settings: Settings;
}): Search {
  const { database, cache, contexts, embedding, indexing, settings } = deps;
  const { k1, b, candidates } = settings.search;
  const [embedder] = embedding.embedders;
  const kind = createSearchKind(settings);
  const { throughOne } = createThrough({ cache, originMs: settings.cache.originMs });

  async function load(request: LoadRequest, query: SearchQuery): Promise<Loaded<SearchAnswer>> {
    const words = readQuery(query.query);
    const isSemantic = query.mode !== 'keyword';
    const { vectors, isWhole } = isSemantic ? await embedding.query(query.query) : { vectors: [], isWhole: true };
    const { weight } = embedder;
    const wanted = {
      words: query.mode === 'semantic' ? { ...words, lexemes: null } : words,
      vectors,
      weight,
      filter: query.filter,
      isByChunk: query.groupBy === 'chunk',
      // Some may be of a version that the head has left behind.
      limit: query.limit + 20,
      k1,
      b,
      candidates,
    };
    const { value, ...read } = await findChunks(database, request, wanted);
    const verified = await verify(request, value.found);
    const hits = verified.slice(0, query.limit).map((one): SearchHit => {
      const { head, score, text, ordinal, start, end } = one;
      return { head, score, snippet: snippetOf(text, words.lexemes), chunk: { ordinal, start, end } };
    });
    const degraded: 'semantic'[] = isSemantic && !(isWhole && value.hasVectors) ? ['semantic'] : [];
    const answer = { hits, pending: value.pending, degraded, expiresMs: value.expiresMs };
    const loaded = toLoaded<SearchAnswer>(answer, [anyItem, invalidatedItem], read);
    // The index goes on without a tick, and so does an engine that comes back.
    const isPassing = value.pending > 0 || degraded.length > 0;
    return { ...loaded, values: loaded.values.map((one) => ({ ...one, isPassing })) };
  }

  /** Leaves out chunks that were indexed of an older version than the head and that it no longer holds. */
  async function verify(request: RequestContext, found: readonly Found[]): Promise<Found[]> {
    const behind = found.filter(({ head, version }) => head.version !== version);
    if (behind.length === 0) return [...found];
    const heads = new Map(behind.map(({ head }) => [head.id, head]));
    const references = [...heads.values()].map(({ id, version }) => ({ id, version }));
    const { value } = await contexts.readExact(request, references);
    const now = new Map(
      value.flatMap((context) => {
        if (context?.content === undefined) return [];
        const { chunks } = chunkContext(context, context.content);
        return [[context.id, new Map(chunks.map((chunk, ordinal) => [chunk.key, { ...chunk, ordinal }]))]];
      }),
    );
    return found.flatMap((one) => {
      if (one.head.version === one.version) return [one];
      const chunk = now.get(one.head.id)?.get(one.key);
      return chunk === undefined ? [] : [{ ...one, ordinal: chunk.ordinal, start: chunk.start, end: chunk.end }];
    });
  }

  async function waitForIndex(request: RequestContext): Promise<void> {
    const deadline = performance.now() + waitMs;
    while ((await indexing.pending(request)) > 0 && performance.now() < deadline) {
      await indexing.index(request, deadline - performance.now());
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
