import { graphLens } from './memory/peer-lens.ts';
import { openLaminaPeer } from './sync/lamina-peer.ts';
import type { Connectors } from './sync/peer.ts';
import { createWholeLens } from './sync/value.ts';

/** The types of peers. What speaks MCP is loaded by the first run of a memory server. */
export const connectors: Connectors = {
  lamina: { lensOf: createWholeLens, open: openLaminaPeer },
  'mcp-memory': {
    lensOf: () => graphLens,
    open: async (definition, options) => (await import('./memory/peer.ts')).openMemoryPeer(definition, options),
  },
};
