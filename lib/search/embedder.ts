import type { Run } from './analysis.ts';

/** Turns texts into vectors. Implementations: `embedders/`. */
export interface Embedder {
  /** Names model, dimensions and revision: vectors of different ids are never compared. */
  readonly id: string;
  /** How many numbers a vector has. */
  readonly dimensions: number;
  /** How much the likeness of vectors counts beside that of words, 0 to 1: weak models less. */
  readonly weight: number;
  /** Whether asking it costs time and money, so that the vectors of queries are worth keeping. */
  readonly isRemote: boolean;
  /** Texts of one {@link Embedder.embed} at most. */
  readonly batchMax: number;
  /**
   * A vector of length 1 for each text, in order; null for a text that it has nothing to say about.
   *
   * @param options.purpose whether the texts are searched or search.
   * @param options.runs those of each text, where they are known: what looks at words has no need to split them again.
   * @throws Problem `unavailable` where the provider does not answer as it should, in time.
   */
  embed(
    texts: readonly string[],
    options: {
      readonly purpose: 'document' | 'query';
      readonly signal?: AbortSignal | undefined;
      readonly runs?: readonly (readonly Run[])[] | undefined;
    },
  ): Promise<(Float32Array | null)[]>;
}

/** Makes the vector's length 1; null for one of length 0. */
export function toUnit(vector: Float32Array): Float32Array | null {
  let square = 0;
  for (const value of vector) square += value * value;
  if (!(square > 0) || !Number.isFinite(square)) return null;
  const scale = 1 / Math.sqrt(square);
  return vector.map((value) => value * scale);
}
