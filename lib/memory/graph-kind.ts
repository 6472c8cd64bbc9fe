import type { Kind } from '../cache/kind.ts';
import { createPacking, unpack } from '../cache/packing.ts';
import type { Settings } from '../config/settings.ts';
import type { Graph } from './graph.ts';

/** A graph as the caches keep it. */
export interface CachedGraph extends Graph {
  /** What its contents take. */
  readonly bytes: number;
  /** When the first of its nodes expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

export function createGraphKind({ cache }: Settings): Kind<CachedGraph> {
  const { layers, ttlSeconds } = cache.kinds.graph;
  const pack = createPacking(cache);
  return {
    name: 'graph',
    layers,
    ttlMs: () => ttlSeconds * 1000,
    encode: (graph, id) => pack(JSON.stringify({ id, graph })),
    decode(text, id) {
      const { id: of, graph } = JSON.parse(unpack(text)) as { id: string; graph: CachedGraph };
      const isGraph = Array.isArray(graph?.entities) && Array.isArray(graph.relations);
      if (of !== id || !isGraph) throw new Error('a damaged entry');
      return graph;
    },
    // Texts in memory take one or two bytes a character, and objects some around them.
    bytesOf: ({ bytes, entities, relations }) => 500 + 2 * bytes + 200 * (entities.length + relations.length),
    expiresMs: ({ expiresMs }) => expiresMs,
  };
}
