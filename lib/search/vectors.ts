import { type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Database, Statement } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { toIndexed } from './chunk.ts';
import type { Embedding } from './embedding.ts';
import {
  claimVectors,
  enableVectorIndex,
  enableVectors,
  followerName,
  lacksVectors,
  listWithoutVector,
  type NewChunk,
  putChunks,
  putVectors,
  settleVectors,
} from './index.sql.ts';

/** Where the vectors of chunks are kept, and how they come there. */
export interface Vectors {
  /** What stores new chunks, with their vectors where those are to be had at once. */
  storing(space: SpaceRef, chunks: readonly NewChunk[]): Promise<{ statements: Statement[]; embedded: number }>;
  /**
   * Makes up for what is missing, and lets go of what is too much.
   *
   * @param deadline by `performance.now()`.
   * @returns how many texts were embedded, and whether nothing is left to do.
   */
  settle(space: SpaceRef, deadline: number): Promise<{ embedded: number; isSettled: boolean }>;
  /** Lets go of what is left of contexts that were erased. @throws Problem `unavailable` */
  forget(space: SpaceRef, ids: readonly string[]): Promise<void>;
  /** Lets go of all that a closed space has. @throws Problem `unavailable` */
  forgetSpace(space: SpaceRef): Promise<void>;
  /** Lets go, once more, of what spaces had that were deleted lately. */
  forgetDropped(): Promise<void>;
}

/** By what right a process makes the vectors of a space as its own embedder has them. */
export interface Claim {
  /** When it began, in milliseconds since 1970: it takes nothing back from who began later. */
  readonly startedMs: number;
  /** Whether its embedder was chosen; the built-in one, there by default, takes over from nobody. */
  readonly isNamed: boolean;
}

// Texts that are embedded at once.
export const textsMax = 512;
// Chunks that wait for the vectors of a remote embedder, at most, and how long new chunks wait for their vectors; without, they are found by words meanwhile.
const inlineMax = 64;
const embedderMs = 10_000;

/** Vectors beside the chunks, where PostgreSQL has pgvector. */
export function createStoredVectors(deps: {
  database: Database;
  embedding: Embedding;
  /** Whether an approximate index is kept, too. */
  isIndexed: boolean;
  claim: Claim;
  onFailure: (error: unknown, space: string) => void;
}): Vectors {
  const { database, embedding, isIndexed, claim, onFailure } = deps;
  const [embedder] = embedding.embedders;
  // Asked of PostgreSQL once, unless it is told that there is no room for them.
  let hasVectors: Promise<boolean> | undefined;

  function vectorsEnabled(): Promise<boolean> {
    hasVectors ??= prepare().catch((error) => {
      hasVectors = undefined;
      throw error;
    });
    return hasVectors;
  }

  async function prepare(): Promise<boolean> {
    const isThere = await enableVectors(database);
    if (isThere && isIndexed && !database.isEmbedded) await enableVectorIndex(database, embedder);
    return isThere;
  }

  /** Undefined where the embedder has failed. */
  function embed(space: string, chunks: readonly NewChunk[]): Promise<(Float32Array | null)[] | undefined> {
    const options = { signal: AbortSignal.timeout(embedderMs), runs: chunks.map(({ runs }) => runs) };
    return embedding.documents(chunks.map(toIndexed), options).catch((error) => {
      onFailure(error, space);
      return undefined;
    });
  }

  return {
    async storing({ space }, chunks) {
      // A provider takes its time: what is many is found by words first.
      const isLater = !(await vectorsEnabled()) || (embedder.isRemote && chunks.length > inlineMax);
      const vectors = isLater ? undefined : await embed(space, chunks);
      if (vectors === undefined) return { statements: [putChunks(chunks, null)], embedded: 0 };
      const statements = [putChunks(chunks, embedder.id), putVectors(toRows(chunks, vectors), embedder.id)];
      return { statements, embedded: chunks.length };
    },

    async settle(space, deadline) {
      const request = systemRequest(space, followerName);
      const run = (statements: Statement[]) => retryLost(() => database.in(request).run(statements));
      let embedded = 0;
      if (!(await lacksVectors(database, request, embedder.id)) || !(await vectorsEnabled()))
        return { embedded, isSettled: true };
      if (!(await claimVectors(database, request, { label: embedder.id, ...claim })))
        return { embedded, isSettled: true };
      for (;;) {
        const limit = Math.min(textsMax, embedder.batchMax);
        const lacking = await listWithoutVector(database, request, embedder.id, limit);
        if (lacking.length === 0) {
          await run(settleVectors(space.space, embedder.id));
          return { embedded, isSettled: true };
        }
        const vectors = await embedding.documents(lacking.map(({ text }) => text));
        embedded += lacking.length;
        await run([putVectors(toRows(lacking, vectors), embedder.id)]);
        if (performance.now() >= deadline) return { embedded, isSettled: false };
      }
    },

    // They go with the chunks.
    async forget() {},
    async forgetSpace() {},
    async forgetDropped() {},
  };
}

function toRows(
  chunks: readonly { readonly id: string; readonly key: string }[],
  vectors: readonly (Float32Array | null)[],
) {
  return chunks.map(({ id, key }, at) => ({ id, key, vector: vectors[at] ? toWhole(vectors[at]) : null }));
}

/** In millionths: WebAssembly reads whole numbers ten times as fast as fractions, and PostgreSQL makes the length 1 again. */
function toWhole(vector: Float32Array): string {
  let text = '';
  for (const value of vector) text += `${text === '' ? '[' : ','}${Math.round(value * 1e6)}`;
  return `${text}]`;
}
