import { createTurns } from '../base/turns.ts';
import type { Change, Context } from '../contexts/context.ts';
import { createFollower } from '../contexts/follower.ts';
import { type RequestContext, type SpaceRef, systemRequest } from '../contexts/request.ts';
import { type Database, isDatabaseError, type Statement } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { analyze, splitRuns, toTerms } from './analysis.ts';
import { type Chunk, type Chunked, chunkContext, toIndexed } from './chunk.ts';
import {
  beginRebuild,
  countPending,
  dropDocuments,
  followerName,
  listDead,
  listToRebuild,
  markRebuilt,
  type NewChunk,
  type NewDocument,
  orderTerms,
  putDocuments,
  readToIndex,
} from './index.sql.ts';
import type { Vectors } from './vectors.ts';

/** What a run of indexing did. */
export interface IndexReport {
  /** Contexts looked at. */
  readonly contexts: number;
  /** Chunks that were not there before. */
  readonly chunks: number;
  /** Texts an embedder was given. */
  readonly embedded: number;
  /** Whether the budget ended before the work did; the next run goes on. */
  readonly isUnfinished: boolean;
}

/** Keeps the search index in step with the heads. */
export interface Indexing {
  /**
   * Takes in what the feed tells, each change at least once and those of a context in order, then makes up for missing
   * vectors. Killed anywhere, it begins the same batch again. The budget ends it between two requests to the database, each of
   * which waits for as many texts as it may hold to be cut and embedded; also within one large context, of which the next run
   * sends what is missing.
   */
  index(space: SpaceRef, budgetMs: number): Promise<IndexReport>;
  /**
   * Takes in every live context anew and lets go of all others, beside whatever else is going on; where the budget ended the
   * last one, it goes on.
   */
  rebuild(space: SpaceRef, budgetMs: number): Promise<IndexReport>;
  /** Writes that the index has not seen yet. */
  pending(request: RequestContext): Promise<number>;
  /** From now on what is written here is indexed as it is written, for a process that stays. @returns what ends that. */
  follow(): () => Promise<void>;
  /** Hears that something was written. */
  wake(space: SpaceRef): void;
}

// Changes of one step, and contexts of one page of a rebuild, which notes its place behind each.
const changesMax = 10_000;
const rebuiltMax = 500;
// Contexts read at once: while one lot is stored the next is cut and embedded, and the one after that is read.
const readMax = 1000;
// Contents read at once, and chunks sent at once, in bytes: both within what one request may hold.
const readBytesMax = 4_194_304;
const sentBytesMax = 5_000_000;

/** @param deps.delayMs how long writes are gathered before they are indexed together. */
export function createIndexing(deps: {
  database: Database;
  vectors: Vectors;
  delayMs: number;
  /** Reads a content that is too large to be read along with others. */
  readContent: (request: RequestContext, context: Context) => Promise<Uint8Array>;
  onFailure: (error: unknown, space: string) => void;
}): Indexing {
  const { database, vectors, delayMs, readContent, onFailure } = deps;
  // One run a space at a time, and those spaces that will have one for what was written to them.
  const turns = createTurns();
  const again = new Set<string>();
  let isFollowing = false;

  /**
   * Indexes contexts by id until the deadline.
   *
   * @returns `last`: statements that are left to be committed together with what they answer for; `rest`: the ids that it
   *   did not come to, from the first of them on.
   */
  async function take(request: RequestContext, ids: readonly string[], within: Budgeted): Promise<Taken> {
    if (ids.length === 0) return { last: [], rest: [] };
    let last: Statement[] = [];
    let rest = ids;
    let some = ids.slice(0, readMax);
    let read = await readToIndex(database, request, some, readBytesMax);
    for (;;) {
      const { contexts, keys, rest: others } = read;
      const live = new Set([...contexts.map(({ id }) => id), ...others]);
      const dead = some.filter((id) => !live.has(id));
      const ahead = [...others, ...rest.slice(some.length)];
      some = performance.now() < within.deadline ? ahead.slice(0, readMax) : [];
      // While those before are stored and those ahead are read, these are cut and embedded.
      const [storing, taking, reading] = await Promise.allSettled([
        last.length > 0 ? database.in(request).run(last) : [],
        takeContexts(request, { contexts, keys }, within),
        some.length > 0 ? readToIndex(database, request, some, readBytesMax) : undefined,
      ]);
      if (storing.status === 'rejected') throw storing.reason;
      if (taking.status === 'rejected' || reading.status === 'rejected') {
        // What is stored is found by words, however often the next lot fails.
        await database
          .in(request)
          .run([orderTerms()])
          .catch(() => {});
        throw [taking, reading].find((one) => one.status === 'rejected')?.reason;
      }
      const { statements, left } = taking.value;
      last = [...(dead.length > 0 ? [dropDocuments(dead)] : []), ...statements];
      within.tally.contexts += left === undefined ? contexts.length : contexts.findIndex(({ id }) => id === left);
      rest = left === undefined ? ahead : rest.slice(rest.indexOf(left));
      if (left !== undefined || reading.value === undefined || performance.now() >= within.deadline) break;
      read = reading.value;
    }
    return { last: last.length > 0 ? [...last, orderTerms()] : [], rest };
  }

  /** @returns `left`: the id of the context within which the deadline came; of that and those behind it the rest is to come. */
  async function takeContexts(
    request: RequestContext,
    { contexts, keys }: { readonly contexts: readonly Context[]; readonly keys: ReadonlyMap<string, Set<string>> },
    { tally, deadline }: Budgeted,
  ): Promise<{ statements: Statement[]; left?: string }> {
    const documents: NewDocument[] = [];
    let batch: NewChunk[] = [];
    let bytes = 0;
    const flush = async () => {
      await database.in(request).run(await putting(request, batch, tally));
      [batch, bytes] = [[], 0];
    };
    for (const context of contexts) {
      const chunked = await cut(request, context);
      const there = keys.get(context.id) ?? new Set();
      for (const chunk of chunked.chunks) {
        if (there.has(chunk.key)) continue;
        const made = toNewChunk(request.space, context, chunk);
        batch.push(made);
        there.add(chunk.key);
        bytes += sentBytes(made);
        if (bytes < sentBytesMax) continue;
        await flush();
        if (performance.now() < deadline) continue;
        // What no document named would take the places of hits.
        const chunks = chunked.chunks.filter(({ key }) => there.has(key));
        documents.push(toDocument(context, { ...chunked, chunks }));
        return { statements: [putDocuments(documents)], left: context.id };
      }
      documents.push(toDocument(context, chunked));
    }
    const rest = batch.length > 0 ? await putting(request, batch, tally) : [];
    return { statements: documents.length > 0 ? [...rest, putDocuments(documents)] : rest };
  }

  /** What cannot be cut is not found, and keeps nothing else from being found. */
  async function cut(request: RequestContext, context: Context): Promise<Chunked> {
    const content = context.content ?? (await readContent(request, context));
    try {
      return chunkContext(context, content);
    } catch (error) {
      onFailure(error, request.space);
      return nothing;
    }
  }

  /** As {@link take}, and nothing is left to be committed. @returns the ids that it did not come to. */
  const takeWhole = (request: RequestContext, ids: readonly string[], within: Budgeted): Promise<readonly string[]> =>
    retryLost(async () => {
      const { last, rest } = await take(request, ids, within);
      await database.in(request).run(last);
      return rest;
    });

  /** As {@link takeWhole}; where PostgreSQL refuses what comes of it, one by one, and without text what it refuses again. */
  async function takeEach(
    request: RequestContext,
    ids: readonly string[],
    within: Budgeted,
  ): Promise<readonly string[]> {
    for (const [at, id] of ids.entries()) {
      try {
        const rest = await takeWhole(request, [id], within);
        if (rest.length > 0) return ids.slice(at);
      } catch (error) {
        if (!isRefused(error)) throw error;
        onFailure(error, request.space);
        const { contexts } = await readToIndex(database, request, [id], 0);
        await database.in(request).run([putDocuments(contexts.map((context) => toDocument(context, nothing)))]);
      }
      if (performance.now() >= within.deadline) return ids.slice(at + 1);
    }
    return [];
  }

  async function putting(request: RequestContext, chunks: readonly NewChunk[], tally: Tally): Promise<Statement[]> {
    const { statements, embedded } = await vectors.storing(request, chunks);
    tally.chunks += chunks.length;
    tally.embedded += embedded;
    return statements;
  }

  async function run(space: SpaceRef, budgetMs: number): Promise<IndexReport> {
    const deadline = performance.now() + budgetMs;
    const tally: Tally = { contexts: 0, chunks: 0, embedded: 0 };
    const request = systemRequest(space, followerName);
    let isRefusing = false;
    const follower = createFollower({
      database,
      name: followerName,
      batch: changesMax,
      onExpired: () => rebuildAll(space, deadline, tally),
      async effect(changes) {
        const ids = changedIds(changes);
        const within = { tally, deadline };
        const { last, rest } = isRefusing
          ? { last: [], rest: await takeEach(request, ids, within) }
          : await take(request, ids, within);
        const left = new Set(rest);
        const first = changes.findIndex(({ kind, id }) => kind === 'context' && id !== null && left.has(id));
        return { statements: last, taken: first < 0 ? changes.length : first };
      },
    });
    for (;;) {
      const step = await retryLost(() => follower.step(space)).catch((error) => {
        if (isRefusing || !isRefused(error)) throw error;
        return undefined;
      });
      // However late, one by one it gets on by one.
      isRefusing ||= step === undefined;
      if (step === undefined) continue;
      if (!step.hasMore) break;
      if (performance.now() >= deadline) return { ...tally, isUnfinished: true };
    }
    return settle(space, deadline, tally);
  }

  async function settle(space: SpaceRef, deadline: number, tally: Tally): Promise<IndexReport> {
    try {
      const { embedded, isSettled } = await vectors.settle(space, deadline);
      tally.embedded += embedded;
      return { ...tally, isUnfinished: !isSettled };
    } catch (error) {
      // The words are there; what lacks its vector is made up for by the next run.
      onFailure(error, space.space);
      return { ...tally, isUnfinished: true };
    }
  }

  /** @returns the clock when what it did began; null where it is not done. */
  async function rebuildAll(space: SpaceRef, deadline: number, tally: Tally): Promise<number | null> {
    const request = systemRequest(space, followerName);
    const run = (statements: readonly Statement[]) => retryLost(() => database.in(request).run(statements));
    const began = await retryLost(() => beginRebuild(database, request));
    for (;;) {
      const ids = await listToRebuild(database, request, rebuiltMax);
      if (ids.length === 0) break;
      const within = { tally, deadline };
      const [next] = await takeWhole(request, ids, within).catch((error) => {
        if (!isRefused(error)) throw error;
        return takeEach(request, ids, within);
      });
      const done = next === undefined ? ids.at(-1) : ids[ids.indexOf(next) - 1];
      if (done !== undefined) await run(markRebuilt(space.space, done));
      if (performance.now() >= deadline) return null;
    }
    for (;;) {
      const ids = await listDead(database, request, changesMax);
      if (ids.length === 0) break;
      await run([dropDocuments(ids)]);
      if (performance.now() >= deadline) return null;
    }
    await run(markRebuilt(space.space, null));
    return began;
  }

  const index = (space: SpaceRef, budgetMs: number) => turns.take(space.slot, () => run(space, budgetMs));

  async function catchUp(space: SpaceRef): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    again.delete(space.slot);
    if (isFollowing) await index(space, Number.POSITIVE_INFINITY);
  }

  return {
    index,
    rebuild: (space, budgetMs) =>
      turns.take(space.slot, async () => {
        const tally: Tally = { contexts: 0, chunks: 0, embedded: 0 };
        const deadline = performance.now() + budgetMs;
        const began = await rebuildAll(space, deadline, tally);
        return began === null ? { ...tally, isUnfinished: true } : settle(space, deadline, tally);
      }),
    pending: (request) => countPending(database, request),
    follow() {
      isFollowing = true;
      return async () => {
        isFollowing = false;
        await turns.settled();
      };
    },
    wake(space) {
      if (!isFollowing || again.has(space.slot)) return;
      again.add(space.slot);
      catchUp(space).catch((error) => onFailure(error, space.space));
    },
  };
}

const nothing: Chunked = { chunks: [], isTranscript: false };

// Data exceptions, and limits of PostgreSQL: it says the same of the same data again.
const isRefused = (error: unknown) => isDatabaseError(error) && /^(22|54)/.test(error.sqlState);

interface Budgeted {
  readonly tally: Tally;
  /** By `performance.now()`. */
  readonly deadline: number;
}

interface Taken {
  readonly last: Statement[];
  readonly rest: readonly string[];
}

interface Tally {
  contexts: number;
  chunks: number;
  embedded: number;
}

function changedIds(changes: readonly Change[]): string[] {
  return [...new Set(changes.flatMap(({ kind, id }) => (kind === 'context' && id !== null ? [id] : [])))];
}

function toNewChunk(space: string, { id, version, updatedMs }: Context, chunk: Chunk): NewChunk {
  const { key, header, text } = chunk;
  const runs = splitRuns(toIndexed(chunk));
  const { vector: lexemes, lexemes: each, length } = analyze(runs);
  const terms = new Int32Array(toTerms(space, each)).sort();
  return { id, version, updatedMs, key, header, text, lexemes, terms, words: length, runs };
}

/** About what is sent of a chunk: a text without spaces has twice as many words as characters, each a lexeme and a term. */
const sentBytes = ({ header, text, lexemes, terms }: NewChunk) =>
  Buffer.byteLength(header) + Buffer.byteLength(text) + Buffer.byteLength(lexemes) + 12 * terms.length + 1500;

function toDocument({ id, version, updatedMs }: Context, { chunks, isTranscript }: Chunked): NewDocument {
  return {
    id,
    version,
    updatedMs,
    isTranscript,
    keys: chunks.map(({ key }) => key),
    starts: chunks.map(({ start }) => start),
    ends: chunks.map(({ end }) => end),
  };
}
