/** A chunk among those of a space. */
export interface Place {
  /** Of its context. */
  readonly id: string;
  readonly key: string;
}

/** A chunk as an engine keeps it: without its text. */
export interface EngineEntry extends Place {
  /** Its lexemes in their order, a space between. */
  readonly lexemes: string;
  /** Of length 1; null where the embedder has nothing to say about it. */
  readonly vector: Float32Array | null;
}

/** What an engine is asked. */
export interface EngineQuery {
  /** Any of these may be there; null does not look for words. */
  readonly lexemes: readonly string[] | null;
  /** All of these have to be. */
  readonly needed: readonly string[];
  /** None of these may be. */
  readonly excluded: readonly string[];
  /** The vector of the query by each embedder, the current one first. */
  readonly vectors: readonly { readonly embedder: string; readonly vector: Float32Array }[];
  /** What the likeness of vectors counts beside that of words, 0 to 1. */
  readonly weight: number;
  /** The contexts that may be found; null does not bound them. */
  readonly ids: readonly string[] | null;
  /** Contexts that are wanted, unless it is chunks. */
  readonly limit: number;
  readonly isByChunk: boolean;
}

/** A chunk that was found; of its context it may be the past. */
export interface EngineHit extends Place {
  /** 0 to 1, comparable within one answer. */
  readonly score: number;
}

/**
 * A search engine beside PostgreSQL, which holds vectors and lexemes of chunks, apart by tenants. It is told of each chunk at
 * least once, and what it tells is compared with PostgreSQL. Implementations: `engines/`. Every verb throws Problem
 * `unavailable` where the engine does not do what it is asked, in time.
 */
export interface VectorEngine {
  readonly name: 'weaviate';
  /** Tells what it keeps entries in from anything else that ever had its place; undefined before the first entry. */
  identity(): Promise<string | undefined>;
  /** Makes room for an embedder's vectors. @returns the identity. */
  prepare(embedder: string): Promise<string>;
  /** Keeps the entries, over those of the same places; their vectors are the embedder's. */
  put(tenant: string, embedder: string, entries: readonly EngineEntry[]): Promise<void>;
  /** Forgets entries, whether they are there or not. */
  remove(tenant: string, places: readonly Place[]): Promise<void>;
  /** Forgets a tenant with all it has. */
  dropTenant(tenant: string): Promise<void>;
  /** The best entries, the best first; null where it has nothing of the tenant. */
  find(tenant: string, query: EngineQuery): Promise<EngineHit[] | null>;
  /** Asks whether it answers searches, and finds nothing. */
  ping(): Promise<void>;
  close(): Promise<void>;
}
