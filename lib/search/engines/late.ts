import type { VectorEngine } from '../vector-engine.ts';

/** An engine that is loaded by its first use: the client of one takes as long as everything else at a start. */
export function createLateEngine(name: VectorEngine['name'], load: () => Promise<VectorEngine>): VectorEngine {
  let loading: Promise<VectorEngine> | undefined;
  const engine = () => {
    loading ??= load();
    return loading;
  };
  return {
    name,
    identity: async () => (await engine()).identity(),
    prepare: async (embedder) => (await engine()).prepare(embedder),
    put: async (tenant, embedder, entries) => (await engine()).put(tenant, embedder, entries),
    remove: async (tenant, places) => (await engine()).remove(tenant, places),
    dropTenant: async (tenant) => (await engine()).dropTenant(tenant),
    find: async (tenant, query) => (await engine()).find(tenant, query),
    ping: async () => (await engine()).ping(),
    close: async () => (await loading)?.close(),
  };
}
