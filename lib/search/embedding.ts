import { Problem } from '../base/problem.ts';
import { createBreaker } from '../cache/breaker.ts';
import type { Embedder } from './embedder.ts';

/** The embedders in use: the first makes the vectors of what is new; those after it are on their way out. */
export interface Embedding {
  readonly embedders: readonly [Embedder, ...Embedder[]];
  /** Vectors of texts that are searched, as the first embedder makes them. @throws Problem `unavailable` */
  documents(texts: readonly string[]): Promise<(Float32Array | null)[]>;
  /** The vector of a query by each embedder that answers; `isWhole` where the first did. */
  query(text: string): Promise<{
    readonly vectors: readonly { readonly embedder: string; readonly vector: Float32Array }[];
    readonly isWhole: boolean;
  }>;
}

/** @param deps.onFailure hears of texts that were not embedded. */
export function createEmbedding(deps: {
  embedders: readonly [Embedder, ...Embedder[]];
  clock: () => number;
  breaker: { readonly failures: number; readonly withinMs: number; readonly openMs: number };
  /** How long a query waits for its vector. */
  queryMs: number;
  onFailure: (error: unknown) => void;
}): Embedding {
  const { embedders, clock, breaker, queryMs, onFailure } = deps;
  const guarded = embedders.map((embedder) => {
    const guard = createBreaker({ clock, ...breaker, onFailure });
    return { embedder, guard };
  });
  const [first] = guarded as [(typeof guarded)[number]];

  return {
    embedders,
    async documents(texts) {
      const vectors: (Float32Array | null)[] = [];
      const { batchMax } = first.embedder;
      for (let at = 0; at < texts.length; at += batchMax) {
        const batch = texts.slice(at, at + batchMax);
        const made = await first.guard.call(() => first.embedder.embed(batch, { purpose: 'document' }));
        if (made === null) throw new Problem('unavailable', 'The embedder does not answer.');
        vectors.push(...made);
      }
      return vectors;
    },
    async query(text) {
      const answers = await Promise.all(
        guarded.map(async ({ embedder, guard }) => {
          const options = { purpose: 'query', signal: AbortSignal.timeout(queryMs) } as const;
          const made = await guard.call(() => embedder.embed([text], options));
          return { embedder: embedder.id, vector: made?.[0] ?? null, isThere: made !== null };
        }),
      );
      const vectors = answers.flatMap(({ embedder, vector }) => (vector === null ? [] : [{ embedder, vector }]));
      return { vectors, isWhole: answers[0]?.isThere ?? false };
    },
  };
}
