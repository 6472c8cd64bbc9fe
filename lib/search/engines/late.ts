import { lazily, opensLazily } from '../../base/lazily.ts';
import type { VectorEngine } from '../vector-engine.ts';

/** An engine that is loaded by its first use: the client of one takes as long as everything else at a start. */
export function createLateEngine(name: VectorEngine['name'], load: () => Promise<VectorEngine>): VectorEngine {
  const engine = lazily(load);
  return opensLazily(engine, { name, close: async () => (await engine.begun())?.close() });
}
