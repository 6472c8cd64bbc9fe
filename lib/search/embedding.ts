import { Problem } from '../base/problem.ts';
import { createBreaker } from '../cache/breaker.ts';
import type { Run } from './analysis.ts';
import type { Embedder } from './embedder.ts';

/** The embedders in use: the first makes the vectors of what is new; those after it are on their way out. */
export interface Embedding {
  readonly embedders: readonly [Embedder, ...Embedder[]];
  /**
   * Vectors of texts that are searched, as the first embedder makes them.
   *
   * @param options.runs those of each text, where they are known.
   * @throws Problem `unavailable`
   */
  documents(
    texts: readonly string[],
    options?: { readonly signal?: AbortSignal; readonly runs?: readonly (readonly Run[])[] },
  ): Promise<(Float32Array | null)[]>;
  /** A query's vector by one of them: null where it has nothing to say, undefined where it is away. */
  query(embedder: Embedder, text: string): Promise<Float32Array | null | undefined>;
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
  const [first] = embedders;
  // A batch that takes long, or that is refused, keeps no query from its vector.
  const createGuards = () => new Map(embedders.map((one) => [one, createBreaker({ clock, ...breaker, onFailure })]));
  const guards = { documents: createGuards(), queries: createGuards() };

  return {
    embedders,
    async documents(texts, { signal, runs } = {}) {
      const vectors: (Float32Array | null)[] = [];
      const { batchMax } = first;
      for (let at = 0; at < texts.length; at += batchMax) {
        const batch = texts.slice(at, at + batchMax);
        const options = { purpose: 'document', signal, runs: runs?.slice(at, at + batchMax) } as const;
        const made = await guards.documents.get(first)?.call(() => first.embed(batch, options));
        if (!made) throw new Problem('unavailable', 'The embedder does not answer.');
        vectors.push(...made);
      }
      return vectors;
    },
    async query(embedder, text) {
      const guard = guards.queries.get(embedder);
      const options = { purpose: 'query', signal: AbortSignal.timeout(queryMs) } as const;
      const made = await guard?.call(() => embedder.embed([text], options));
      return made ? (made[0] ?? null) : undefined;
    },
  };
}
