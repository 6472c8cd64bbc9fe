import { sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import { createBreaker } from '../cache/breaker.ts';
import type { Embedder } from './embedder.ts';

/** A query's vector, or the key by which layer 3 may hold it. */
export interface QueryVector {
  readonly embedder: string;
  readonly vector: Float32Array | null;
  readonly key: string | null;
}

/** The vectors of a query, as far as it has some; `isWhole` unless the first embedder is away. */
export interface QueryVectors {
  readonly vectors: readonly QueryVector[];
  readonly isWhole: boolean;
}

/** The embedders in use: the first makes the vectors of what is new; those after it are on their way out. */
export interface Embedding {
  readonly embedders: readonly [Embedder, ...Embedder[]];
  /** Vectors of texts that are searched, as the first embedder makes them. @throws Problem `unavailable` */
  documents(texts: readonly string[], signal?: AbortSignal): Promise<(Float32Array | null)[]>;
  /**
   * A query's vectors; of embedders that are asked over the network the keys alone, unless they are named.
   *
   * @param asked ids of embedders that are to be asked.
   */
  query(text: string, asked?: readonly string[]): Promise<QueryVectors>;
}

/** @param deps.onFailure hears of texts that were not embedded. */
export function createEmbedding(deps: {
  embedders: readonly [Embedder, ...Embedder[]];
  clock: () => number;
  breaker: { readonly failures: number; readonly withinMs: number; readonly openMs: number };
  /** How long a query waits for its vector. */
  queryMs: number;
  /** Whether layer 3 keeps vectors of queries that were made elsewhere. */
  isKept: boolean;
  onFailure: (error: unknown) => void;
}): Embedding {
  const { embedders, clock, breaker, queryMs, isKept, onFailure } = deps;
  const guarded = embedders.map((embedder) => {
    const guard = createBreaker({ clock, ...breaker, onFailure });
    return { embedder, guard };
  });
  const [first] = guarded as [(typeof guarded)[number]];

  async function make(
    { embedder, guard }: (typeof guarded)[number],
    text: string,
  ): Promise<QueryVector | null | 'away'> {
    const options = { purpose: 'query', signal: AbortSignal.timeout(queryMs) } as const;
    const made = await guard.call(() => embedder.embed([text], options));
    if (made === null) return 'away';
    const [vector] = made;
    return vector ? { embedder: embedder.id, vector, key: keyOf(embedder, text) } : null;
  }

  const keyOf = ({ id, isRemote }: Embedder, text: string) => (isRemote && isKept ? sha256(`${id}\n${text}`) : null);

  return {
    embedders,
    async documents(texts, signal) {
      const vectors: (Float32Array | null)[] = [];
      const { batchMax } = first.embedder;
      for (let at = 0; at < texts.length; at += batchMax) {
        const batch = texts.slice(at, at + batchMax);
        const made = await first.guard.call(() => first.embedder.embed(batch, { purpose: 'document', signal }));
        if (made === null) throw new Problem('unavailable', 'The embedder does not answer.');
        vectors.push(...made);
      }
      return vectors;
    },
    async query(text, asked = []) {
      const answers = await Promise.all(
        guarded.map((one) => {
          const key = keyOf(one.embedder, text);
          const isAsked = key === null || asked.includes(one.embedder.id);
          return isAsked ? make(one, text) : { embedder: one.embedder.id, vector: null, key };
        }),
      );
      const vectors = answers.flatMap((one) => (one === null || one === 'away' ? [] : [one]));
      return { vectors, isWhole: answers[0] !== 'away' };
    },
  };
}
