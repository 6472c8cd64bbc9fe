import type { Kind } from '../cache/kind.ts';
import { createPacking, unpack } from '../cache/packing.ts';
import type { Settings } from '../config/settings.ts';
import type { SearchAnswer } from './search.ts';

/** Search answers as the caches keep them. */
export function createSearchKind({ cache }: Settings): Kind<SearchAnswer> {
  const { layers, ttlSeconds } = cache.kinds.search;
  const pack = createPacking(cache);
  return {
    name: 'search',
    layers,
    ttlMs: () => ttlSeconds * 1000,
    encode: (answer, id) => pack(JSON.stringify({ id, answer })),
    decode(text, id) {
      const { id: of, answer } = JSON.parse(unpack(text)) as { id: string; answer: SearchAnswer };
      if (of !== id || !Array.isArray(answer?.hits)) throw new Error('a damaged entry');
      return answer;
    },
    bytesOf: ({ hits }) =>
      hits.reduce((sum, { head, snippet }) => sum + 800 + 2 * (snippet.length + head.metadata.length), 300),
    expiresMs: ({ expiresMs }) => expiresMs,
  };
}
