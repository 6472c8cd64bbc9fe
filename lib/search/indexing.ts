import { createTurns } from '../base/turns.ts';
import type { Change, Context } from '../contexts/context.ts';
import { createFollower } from '../contexts/follower.ts';
import { type RequestContext, type SpaceRef, systemRequest } from '../contexts/request.ts';
import type { Database, Statement } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { analyze, toTerm } from './analysis.ts';
import { type Chunk, type Chunked, chunkContext, toIndexed } from './chunk.ts';
import type { Embedding } from './embedding.ts';
import { toLiteral } from './find.sql.ts';
import {
  countPending,
  dropDocuments,
  enableVectors,
  followerName,
  lacksVectors,
  listIds,
  listWithoutVector,
  type NewChunk,
  type NewDocument,
  putChunks,
  putDocuments,
  putVectors,
  readToIndex,
  settleVectors,
} from './index.sql.ts';

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
   * vectors. Killed anywhere, it begins the same batch again.
   */
  index(space: SpaceRef, budgetMs: number): Promise<IndexReport>;
  /** Takes in every live context anew and lets go of all others, beside whatever else is going on. */
  rebuild(space: SpaceRef, budgetMs: number): Promise<IndexReport>;
  /** Writes that the index has not seen yet. */
  pending(request: RequestContext): Promise<number>;
  /** From now on what is written here is indexed as it is written, for a process that stays. @returns what ends that. */
  follow(): () => Promise<void>;
  /** Hears that something was written. */
  wake(space: SpaceRef): void;
}

// Changes of one step, and contexts of one page of a rebuild.
const changesMax = 2000;
// Contents read at once, and chunks sent at once, in bytes: both within what one request may hold.
const readBytesMax = 4_194_304;
const sentBytesMax = 5_000_000;
const vectorsMax = 512;

/** @param deps.delayMs how long writes are gathered before they are indexed together. */
export function createIndexing(deps: {
  database: Database;
  embedding: Embedding;
  delayMs: number;
  /** Reads a content that is too large to be read along with others. */
  readContent: (request: RequestContext, context: Context) => Promise<Uint8Array>;
  onFailure: (error: unknown, space: string) => void;
}): Indexing {
  const { database, embedding, delayMs, readContent, onFailure } = deps;
  // One run a space at a time, and those spaces that will have one for what was written to them.
  const turns = createTurns();
  const again = new Set<string>();
  let isFollowing = false;
  // Asked of PostgreSQL once, unless it is told that there is no room for them.
  let hasVectors: Promise<boolean> | undefined;

  function vectorsEnabled(): Promise<boolean> {
    hasVectors ??= enableVectors(database).catch((error) => {
      hasVectors = undefined;
      throw error;
    });
    return hasVectors;
  }

  /** Indexes contexts by id; the last statements are left to be committed together with what they answer for. */
  async function take(request: RequestContext, ids: readonly string[], tally: Tally) {
    let last: Statement[] = [];
    for (let rest = ids; rest.length > 0; ) {
      const read = await readToIndex(database, request, rest, readBytesMax);
      if (last.length > 0) await database.in(request).run(last);
      const live = new Set([...read.contexts.map(({ id }) => id), ...read.rest]);
      const dead = rest.filter((id) => !live.has(id));
      last = [...(dead.length > 0 ? [dropDocuments(dead)] : []), ...(await takeContexts(request, read, tally))];
      tally.contexts += read.contexts.length;
      rest = read.rest;
    }
    return last;
  }

  async function takeContexts(
    request: RequestContext,
    {
      contexts,
      keys,
    }: { readonly contexts: readonly Context[]; readonly keys: ReadonlyMap<string, ReadonlySet<string>> },
    tally: Tally,
  ) {
    const documents: NewDocument[] = [];
    let batch: NewChunk[] = [];
    let bytes = 0;
    const flush = async () => {
      await database.in(request).run(await putting(request, batch, tally));
      [batch, bytes] = [[], 0];
    };
    for (const context of contexts) {
      const content = context.content ?? (await readContent(request, context));
      const chunked = chunkContext(context, content);
      documents.push(toDocument(context, chunked));
      for (const chunk of chunked.chunks) {
        if (keys.get(context.id)?.has(chunk.key)) continue;
        batch.push(toNewChunk(request.space, context.id, chunk));
        bytes += 4 * (chunk.text.length + chunk.header.length) + 1500;
        if (bytes >= sentBytesMax) await flush();
      }
    }
    const rest = batch.length > 0 ? await putting(request, batch, tally) : [];
    return documents.length > 0 ? [...rest, putDocuments(documents)] : rest;
  }

  /** With vectors where the embedder is there; what it could not do is made up for later. */
  async function putting(request: RequestContext, chunks: readonly NewChunk[], tally: Tally): Promise<Statement[]> {
    tally.chunks += chunks.length;
    const [embedder] = embedding.embedders;
    const texts = chunks.map(toIndexed);
    const vectors = await embedding.documents(texts).catch((error) => {
      onFailure(error, request.space);
      return undefined;
    });
    if (vectors === undefined) return [putChunks(chunks, null)];
    tally.embedded += texts.length;
    return [putChunks(chunks, embedder.id), putVectors(toVectors(chunks, vectors), embedder.id)];
  }

  async function fill(space: SpaceRef, deadline: number, tally: Tally): Promise<boolean> {
    const request = systemRequest(space, followerName);
    const [embedder] = embedding.embedders;
    if (!(await lacksVectors(database, request, embedder.id)) || !(await vectorsEnabled())) return true;
    for (;;) {
      const lacking = await listWithoutVector(database, request, embedder.id, Math.min(vectorsMax, embedder.batchMax));
      if (lacking.length === 0) {
        await database.in(request).run(settleVectors(space.space, embedder.id));
        return true;
      }
      const vectors = await embedding.documents(lacking.map(({ text }) => text));
      tally.embedded += lacking.length;
      await database.in(request).run([putVectors(toVectors(lacking, vectors), embedder.id)]);
      if (performance.now() >= deadline) return false;
    }
  }

  async function run(space: SpaceRef, budgetMs: number): Promise<IndexReport> {
    const deadline = performance.now() + budgetMs;
    const tally: Tally = { contexts: 0, chunks: 0, embedded: 0 };
    const request = systemRequest(space, followerName);
    const follower = createFollower({
      database,
      name: followerName,
      batch: changesMax,
      onExpired: async () => void (await rebuildAll(space, Number.POSITIVE_INFINITY, tally)),
      effect: (changes) => take(request, changedIds(changes), tally),
    });
    for (;;) {
      const { hasMore } = await retryLost(() => follower.step(space));
      if (performance.now() >= deadline && hasMore) return { ...tally, isUnfinished: true };
      if (!hasMore) break;
    }
    const isFilled = await fill(space, deadline, tally).catch((error) => {
      onFailure(error, space.space);
      return false;
    });
    return { ...tally, isUnfinished: !isFilled };
  }

  async function rebuildAll(space: SpaceRef, deadline: number, tally: Tally): Promise<boolean> {
    const request = systemRequest(space, followerName);
    for (const table of ['context', 'search_document'] as const) {
      for (let after = ''; ; ) {
        const ids = await listIds(database, request, table, { after, limit: changesMax });
        const [last] = ids.slice(-1);
        if (last === undefined) break;
        await retryLost(async () => database.in(request).run(await take(request, ids, tally)));
        after = last;
        if (performance.now() >= deadline) return false;
      }
    }
    return true;
  }

  const index = (space: SpaceRef, budgetMs: number) => turns.take(space.slot, () => run(space, budgetMs));

  async function catchUp(space: SpaceRef): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    again.delete(space.slot);
    await index(space, Number.POSITIVE_INFINITY);
  }

  return {
    index,
    rebuild: (space, budgetMs) =>
      turns.take(space.slot, async () => {
        const tally: Tally = { contexts: 0, chunks: 0, embedded: 0 };
        const isDone = await rebuildAll(space, performance.now() + budgetMs, tally);
        return { ...tally, isUnfinished: !isDone };
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

interface Tally {
  contexts: number;
  chunks: number;
  embedded: number;
}

function toVectors(
  chunks: readonly { readonly id: string; readonly key: string }[],
  vectors: readonly (Float32Array | null)[],
) {
  return chunks.map(({ id, key }, at) => ({ id, key, vector: vectors[at] ? toLiteral(vectors[at]) : null }));
}

function changedIds(changes: readonly Change[]): string[] {
  return [...new Set(changes.flatMap(({ kind, id }) => (kind === 'context' && id !== null ? [id] : [])))];
}

function toNewChunk(space: string, id: string, chunk: Chunk): NewChunk {
  const { key, header, text } = chunk;
  const { vector: lexemes, lexemes: each, length } = analyze(toIndexed(chunk));
  return { id, key, header, text, lexemes, terms: each.map((lexeme) => toTerm(space, lexeme)), words: length };
}

function toDocument({ id, version }: Context, { chunks, isTranscript }: Chunked): NewDocument {
  return {
    id,
    version,
    isTranscript,
    keys: chunks.map(({ key }) => key),
    starts: chunks.map(({ start }) => start),
    ends: chunks.map(({ end }) => end),
  };
}
