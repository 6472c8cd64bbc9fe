import { sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import { type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Database, Statement } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { splitWords, toLexeme } from './analysis.ts';
import type { Embedding } from './embedding.ts';
import {
  beginEntries,
  confirmEntries,
  forgetEntries,
  listGarbage,
  listUnsent,
  needsEngine,
  settleEntries,
} from './engine.sql.ts';
import { followerName, putChunks } from './index.sql.ts';
import type { Place, VectorEngine } from './vector-engine.ts';
import { textsMax, type Vectors } from './vectors.ts';

// What is still there then is left to the next run of the index.
const forgetMs = 5000;

/** The name of a space's state for an engine, never used again for another. */
export const tenantOf = ({ slot }: Pick<SpaceRef, 'slot'>) => sha256(slot).slice(0, 40);

/**
 * Vectors in a search engine of their own. PostgreSQL notes what is sent before it is, and forgets it after the engine has; so
 * an entry that is lost on the way is sent again, and one that is too much is found.
 */
export function createEngineVectors(deps: { database: Database; embedding: Embedding; engine: VectorEngine }): Vectors {
  const { database, embedding, engine } = deps;
  const [embedder] = embedding.embedders;
  const label = `${engine.name}/${embedder.id}`;

  const requestOf = (space: SpaceRef) => systemRequest(space, followerName);
  const run = (space: SpaceRef, statements: Statement[]) =>
    retryLost(() => database.in(requestOf(space)).run(statements));

  /** @returns whether the deadline was not reached. */
  async function forgetUntil(space: SpaceRef, deadline: number): Promise<boolean> {
    for (let last: Place | undefined; ; ) {
      const garbage = await listGarbage(database, requestOf(space), last, textsMax);
      last = garbage.at(-1);
      if (last === undefined) return true;
      await engine.remove(tenantOf(space), garbage);
      await run(space, [forgetEntries(garbage)]);
      if (performance.now() >= deadline) return false;
    }
  }

  async function settle(space: SpaceRef, deadline: number) {
    const request = requestOf(space);
    let embedded = 0;
    if (!(await needsEngine(database, request, label))) return { embedded, isSettled: true };
    if (!(await forgetUntil(space, deadline))) return { embedded, isSettled: false };
    for (;;) {
      const lacking = await listUnsent(database, request, label, textsMax);
      if (lacking.length === 0) {
        await run(space, settleEntries(space.space, label));
        return { embedded, isSettled: true };
      }
      const begun = await beginEntries(database, request, lacking);
      const vectors = await embedding.documents(lacking.map(({ text }) => text));
      embedded += lacking.length;
      const entries = lacking.map(({ id, key, text }, at) => ({
        id,
        key,
        lexemes: lexemesOf(text),
        vector: vectors[at] ?? null,
      }));
      await engine.put(tenantOf(space), embedder.id, entries);
      await run(space, [confirmEntries(begun, label)]);
      if (performance.now() >= deadline) return { embedded, isSettled: false };
    }
  }

  return {
    label,
    storing: async (_space, chunks) => ({ statements: [putChunks(chunks, null)], embedded: 0 }),
    async settle(space, deadline) {
      try {
        return await settle(space, deadline);
      } catch (error) {
        // The space was deleted meanwhile, and what was sent last came after its end.
        if (error instanceof Problem && error.code === 'unauthenticated') await engine.dropTenant(tenantOf(space));
        throw error;
      }
    },
    forget: async (space) => void (await forgetUntil(space, performance.now() + forgetMs)),
    forgetSpace: (space) => engine.dropTenant(tenantOf(space)),
  };
}

const lexemesOf = (text: string) =>
  splitWords(text, 'index')
    .map(({ text: word }) => toLexeme(word))
    .join(' ');
