import { LRUCache } from 'lru-cache';
import { sha256 } from '../base/hash.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import type { Embedder } from './embedder.ts';
import type { Embedding } from './embedding.ts';
import { type FoundPage, keepVector, readVector, readVectorsOf, type VectorTerm } from './find.sql.ts';

/** The vectors of a query, of those embedders that have one; `isWhole` unless the first of them is away. */
export interface QueryVectors {
  readonly vectors: readonly { readonly embedder: string; readonly vector: Float32Array }[];
  readonly isWhole: boolean;
  /** Whether embedders on their way out were not asked. */
  readonly isReduced: boolean;
}

/** Makes the vectors of queries. */
export interface Queries {
  /** Those on their way out are asked only until the first has made all vectors of the space. */
  toVectors(request: RequestContext, text: string): Promise<QueryVectors>;
  /**
   * Hears whose vectors the space has, as a search with these has found it.
   *
   * @returns whether one was left out that has to be asked after all.
   */
  isMissing(request: RequestContext, asked: QueryVectors, vectorsOf: FoundPage['vectorsOf']): boolean;
}

// Of all spaces together; a vector of 1,536 numbers has 6 kB.
const heldMax = 1000;
const spacesMax = 10_000;

/**
 * Vectors of remote embedders are kept in the process and in layer 3, apart by space: what others have asked must not be told
 * by how long an answer takes.
 *
 * @param deps.isOwn whether `vectorsOf` says that it is the first embedder that has made all vectors.
 * @param deps.term how long layer 3 keeps them; null keeps none anywhere.
 */
export function createQueries(deps: {
  database: Database;
  embedding: Embedding;
  isOwn: (vectorsOf: string) => boolean;
  term: VectorTerm | null;
  onFailure: (error: unknown, space: string) => void;
}): Queries {
  const { database, embedding, isOwn, term, onFailure } = deps;
  const [first, ...leaving] = embedding.embedders;
  const held = new LRUCache<string, Float32Array>({ max: heldMax });
  // Slots of spaces that have vectors of the first embedder alone. Chunks that came in since do not change that: whoever is on
  // the way out makes none for them.
  const settled = new LRUCache<string, true>({ max: spacesMax });

  function hear({ slot }: RequestContext, vectorsOf: FoundPage['vectorsOf']): void {
    if (vectorsOf === undefined || (vectorsOf !== null && isOwn(vectorsOf))) settled.set(slot, true);
    else if (vectorsOf !== null) settled.delete(slot);
  }

  /** Asking PostgreSQL takes less time, and no money. */
  async function embeddersOf(request: RequestContext): Promise<readonly Embedder[]> {
    if (!settled.has(request.slot) && leaving.some(({ isRemote }) => isRemote))
      hear(request, await readVectorsOf(database, request));
    return settled.has(request.slot) ? [first] : embedding.embedders;
  }

  /** @returns undefined where the embedder is away, null where it has nothing to say. */
  async function make(request: RequestContext, embedder: Embedder, text: string) {
    if (!embedder.isRemote || term === null) return embedding.query(embedder, text);
    const key = sha256(`${embedder.id}\n${text}`);
    const place = `${request.slot}\n${key}`;
    const known = held.get(place) ?? (await readVector(database, request, key, term));
    const vector = known ?? (await embedding.query(embedder, text));
    if (vector) held.set(place, vector);
    if (vector && !known)
      await keepVector(database, request, { key, vector, ttlSeconds: term.ttlSeconds }).catch((error) =>
        onFailure(error, request.space),
      );
    return vector;
  }

  return {
    async toVectors(request, text) {
      const embedders = await embeddersOf(request);
      const made = await Promise.all(embedders.map((embedder) => make(request, embedder, text)));
      const vectors = embedders.flatMap(({ id: embedder }, at) => {
        const vector = made[at];
        return vector ? [{ embedder, vector }] : [];
      });
      return { vectors, isWhole: made[0] !== undefined, isReduced: embedders.length <= leaving.length };
    },
    isMissing(request, { isReduced }, vectorsOf) {
      hear(request, vectorsOf);
      return isReduced && vectorsOf !== null && !settled.has(request.slot);
    },
  };
}
