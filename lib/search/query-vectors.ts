import { LRUCache } from 'lru-cache';
import { sha256 } from '../base/hash.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import type { Embedder } from './embedder.ts';
import type { Embedding } from './embedding.ts';
import { keepVector, readVector } from './find.sql.ts';

/** The vectors of a query, of those embedders that have one; `isWhole` unless the first of them is away. */
export interface QueryVectors {
  readonly vectors: readonly { readonly embedder: string; readonly vector: Float32Array }[];
  readonly isWhole: boolean;
}

// Of all spaces together; a vector of 1,536 numbers has 6 kB.
const heldMax = 1000;

/**
 * Makes the vectors of queries. Those of remote embedders are kept in the process and in layer 3, apart by space: what
 * others have asked must not be told by how long an answer takes.
 *
 * @param deps.ttlSeconds how long layer 3 keeps them; null keeps none anywhere.
 */
export function createQueryVectors(deps: {
  database: Database;
  embedding: Embedding;
  ttlSeconds: number | null;
  onFailure: (error: unknown, space: string) => void;
}): (request: RequestContext, text: string) => Promise<QueryVectors> {
  const { database, embedding, ttlSeconds, onFailure } = deps;
  const held = new LRUCache<string, Float32Array>({ max: heldMax });

  /** @returns undefined where the embedder is away, null where it has nothing to say. */
  async function make(request: RequestContext, embedder: Embedder, text: string) {
    if (!embedder.isRemote || ttlSeconds === null) return embedding.query(embedder, text);
    const key = sha256(`${embedder.id}\n${text}`);
    const place = `${request.slot}\n${key}`;
    const known = held.get(place) ?? (await readVector(database, request, key));
    const vector = known ?? (await embedding.query(embedder, text));
    if (vector) held.set(place, vector);
    if (vector && !known)
      await keepVector(database, request, { key, vector, ttlSeconds }).catch((error) =>
        onFailure(error, request.space),
      );
    return vector;
  }

  return async (request, text) => {
    const made = await Promise.all(embedding.embedders.map((embedder) => make(request, embedder, text)));
    const vectors = made.flatMap((vector, at) => {
      const { id: embedder } = embedding.embedders[at] as Embedder;
      return vector ? [{ embedder, vector }] : [];
    });
    return { vectors, isWhole: made[0] !== undefined };
  };
}
