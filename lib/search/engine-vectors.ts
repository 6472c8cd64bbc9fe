import { sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import { createRecent } from '../base/recent.ts';
import type { Breaker } from '../cache/breaker.ts';
import { type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Database, Statement } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { splitWords } from './analysis.ts';
import type { Embedding } from './embedding.ts';
import {
  beginEntries,
  confirmEntries,
  listDropped,
  listGarbage,
  listUnsent,
  needsEngine,
  noteDropped,
  releaseLease,
  removeEntries,
  settleDropped,
  settleEntries,
  settleGarbage,
  takeLease,
} from './engine.sql.ts';
import { claimVectors, countPending, followerName, putChunks } from './index.sql.ts';
import type { VectorEngine } from './vector-engine.ts';
import { type Claim, textsMax, type Vectors } from './vectors.ts';

/** The name of a space's state for an engine, never used again for another. */
export const tenantOf = ({ slot }: Pick<SpaceRef, 'slot'>) => sha256(slot).slice(0, 40);

/** What `search_state` tells where an engine has all chunks, with the vectors of an embedder. */
export const engineLabel = (engine: VectorEngine, identity: string, embedder: string) =>
  `${engine.name}/${identity}/${embedder}`;

/** Whether it tells so of this embedder, wherever the engine keeps its entries. */
export const isEngineLabel = (label: string, engine: VectorEngine, embedder: string) =>
  label.startsWith(`${engine.name}/`) && label.endsWith(`/${embedder}`);

// Longer than what was sent to the engine may be on its way: three batches of half a minute each. Where a process ends in the
// midst of it, the others wait so long.
const leaseSeconds = 120;
// How many entries of what is erased are removed before the erase is answered.
const erasedMax = 20_000;

/**
 * Vectors in a search engine of their own. One process at a time speaks to it for a space; PostgreSQL notes what is sent before
 * it is, and forgets it once the engine has and nothing can be on its way: so an entry that is lost is sent again, and one that
 * is too much is found, whoever is killed in between.
 */
export function createEngineVectors(deps: {
  database: Database;
  embedding: Embedding;
  engine: VectorEngine;
  claim: Claim;
  /** Of the engine, which searches watch, too. */
  guard: Breaker;
  /** Never gives the same text twice. */
  nonce: () => string;
}): Vectors {
  const { database, embedding, engine, claim, guard, nonce } = deps;
  const [embedder] = embedding.embedders;
  const holder = nonce();
  // Slots of spaces of which something that failed may still arrive.
  const unsure = createRecent({ clock: () => performance.now(), ms: leaseSeconds * 1000 });

  const requestOf = (space: SpaceRef) => systemRequest(space, followerName);
  const run = (space: SpaceRef, statements: Statement[]) =>
    retryLost(() => database.in(requestOf(space)).run(statements));

  async function settle(space: SpaceRef, deadline: number) {
    const request = requestOf(space);
    // Known to be away it is not waited for.
    if (guard.state === 'open') throw new Problem('unavailable', `${engine.name} is away.`);
    const identity = await guard.watch(() => engine.prepare(embedder.id));
    const label = engineLabel(engine, identity, embedder.id);
    const done = { embedded: 0, isSettled: true };
    if (!(await needsEngine(database, request, label))) return done;
    if (!(await claimVectors(database, request, { label: `${engine.name}/${embedder.id}`, ...claim }))) return done;
    const hold = () => retryLost(() => takeLease(database, request, holder, leaseSeconds));
    // Whoever holds it does what there is to do.
    if (!(await hold())) return { ...done, isSettled: false };
    /** Nothing is on its way: another may go on. */
    const end = async (isSettled: boolean, statements: Statement[] = []) => {
      await run(space, [...statements, releaseLease(holder)]);
      return { ...done, isSettled };
    };
    const isOver = () => performance.now() >= deadline;
    for (;;) {
      const garbage = await listGarbage(database, request, textsMax);
      if (garbage.length === 0) break;
      await guard.watch(() => engine.remove(tenantOf(space), garbage));
      const isSure = !unsure.has(space.slot);
      await run(space, [removeEntries(garbage, isSure)]);
      if (isOver()) return end(false);
      if (!(await hold())) return { ...done, isSettled: false };
      if (!isSure) break;
    }
    await run(space, settleGarbage(space.space));
    for (;;) {
      const lacking = await listUnsent(database, request, label, textsMax);
      if (lacking.length === 0) break;
      const vectors = await embedding.documents(lacking.map(({ text }) => text));
      done.embedded += lacking.length;
      // Embedding may have taken long.
      if (!(await hold())) return { ...done, isSettled: false };
      const begun = await retryLost(() => beginEntries(database, request, lacking));
      const isBegun = new Set(begun.map(({ id, key }) => `${id}\n${key}`));
      const entries = lacking.flatMap(({ id, key, text }, at) => {
        // What went meanwhile is not noted, and so not sent.
        if (!isBegun.has(`${id}\n${key}`)) return [];
        return [{ id, key, lexemes: lexemesOf(text), vector: vectors[at] ?? null }];
      });
      await guard.watch(() => engine.put(tenantOf(space), embedder.id, entries));
      await run(space, [confirmEntries(begun, label)]);
      if (isOver()) return end(false);
    }
    return end(true, settleEntries(space.space, label));
  }

  async function drop(tenant: string): Promise<void> {
    await engine.dropTenant(tenant);
    await settleDropped(database, tenant);
  }

  return {
    storing: async (_space, chunks) => ({ statements: [putChunks(chunks, null)], embedded: 0 }),
    async settle(space, deadline) {
      try {
        return await settle(space, deadline);
      } catch (error) {
        unsure.note(space.slot);
        // The space may have been deleted meanwhile, and what was sent last have come after its end.
        const isGone = await countPending(database, requestOf(space)).then(
          () => false,
          (reason) => reason instanceof Problem && reason.code === 'unauthenticated',
        );
        if (isGone) await drop(tenantOf(space));
        throw error;
      }
    },
    async forget(space, ids) {
      const garbage = await listGarbage(database, requestOf(space), erasedMax, ids);
      if (garbage.length === 0) return;
      await guard.watch(() => engine.remove(tenantOf(space), garbage));
      // What is being sent may arrive after this; who sends it removes it then.
      await run(space, [removeEntries(garbage, false)]);
    },
    async forgetSpace(space) {
      await noteDropped(database, tenantOf(space));
      await drop(tenantOf(space));
    },
    async forgetDropped() {
      for (const tenant of await listDropped(database)) await drop(tenant);
    },
  };
}

const lexemesOf = (text: string) =>
  splitWords(text, 'index')
    .map(({ lexeme }) => lexeme)
    .join(' ');
