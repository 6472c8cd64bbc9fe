import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { decodeContent, partBytes } from './content.ts';
import { type Change, type Context, type ContextHead, isLive, type Snapshot } from './context.ts';
import { anyItem, contextItem, headDeps, parentItem } from './items.ts';
import type { Operation } from './operation.ts';
import { contextNotFound, gone, versionNotFound } from './outcomes.ts';
import {
  type ListPage,
  type Read,
  type Reference,
  readAncestry,
  readContentPart,
  readExact,
  readHead,
  readList,
  readMany,
  readTree,
  readVersion,
  readVersionAt,
} from './read.sql.ts';
import type { RequestContext } from './request.ts';
import { type WriteAnswer, type WriteOptions, writeContexts } from './write.sql.ts';

/** Which state of a context is asked for; nothing is the head. */
export type Moment = { readonly version: number } | { readonly atMs: number } | undefined;

/** What an earlier request under an idempotency key was answered. */
export interface Recorded {
  readonly fingerprint: string;
  readonly answer: unknown;
}

/** The reads and the write of contexts: one request to PostgreSQL each. */
export interface Contexts {
  /**
   * A live context, or an old version by number or time whether the context is alive or not.
   *
   * @throws Problem `context_not_found`, `version_not_found`, or `gone` with the tombstone's version.
   */
  read(request: RequestContext, id: string, moment?: Moment): Promise<Snapshot<Context>>;
  /** Heads in the order asked; a problem in the place of what cannot be read. */
  readMany(request: RequestContext, ids: readonly string[]): Promise<Snapshot<(Context | Problem)[]>>;
  /** Versions as they are named, tombstones included, null for what is not there; `known` tells whether the context is. */
  readExact(
    request: RequestContext,
    references: readonly Reference[],
    options?: { readonly key?: string | undefined; readonly inlineBytes?: number },
  ): Promise<{ value: (Context | null)[]; known: boolean[]; seq: number; nowMs: number; recorded: Recorded | null }>;
  /** The context with its live ancestors, root first. */
  readAncestry(request: RequestContext, id: string): Promise<Snapshot<Context[]>>;
  list(request: RequestContext, page: ListPage): Promise<Snapshot<{ items: Context[]; hasMore: boolean }>>;
  /** The live subtree, breadth first, root first; `isTruncated` where it holds more than `nodesMax`. */
  readTree(
    request: RequestContext,
    id: string,
    bounds: { readonly levels: number; readonly nodesMax: number },
  ): Promise<Snapshot<{ nodes: ContextHead[]; isTruncated: boolean }>>;
  /** The content bytes from `start` to before `end`, in pieces of at most 4 MiB, each fetched when it is asked for. */
  streamContent(request: RequestContext, head: Context, start: number, end: number): AsyncIterable<Uint8Array>;
  /** Carries out the operations: one request, one transaction, one tick for each change. */
  write(request: RequestContext, operations: readonly Operation[], options: WriteOptions): Promise<WriteAnswer>;
}

/**
 * @param deps.onChanges hears of committed changes, before the write is acknowledged.
 */
export function createContexts(deps: {
  database: Database;
  settings: Settings;
  onChanges: (space: string, changes: readonly Change[]) => void;
}): Contexts {
  const { database, settings, onChanges } = deps;
  const { inlineBytes } = settings.limits;

  async function answer<Value>(
    read: Promise<Read<Value>>,
    depsOf: (value: Value) => string[],
  ): Promise<Snapshot<Value> & { nowMs: number }> {
    const { value, seq, nowMs } = await read;
    return { value, seq, deps: depsOf(value), nowMs };
  }

  return {
    async read(request, id, moment) {
      if (moment === undefined) {
        const { value, seq, nowMs } = await readHead(database, request, id, inlineBytes);
        const head = requireLive(value, id, nowMs);
        return { value: head, seq, deps: headDeps(head) };
      }
      const { value, isKnown, seq } =
        'version' in moment
          ? await readVersion(database, request, id, moment.version, inlineBytes)
          : await readVersionAt(database, request, id, moment.atMs, inlineBytes);
      if (!isKnown) throw contextNotFound(id);
      if (value === null) throw versionNotFound(id);
      const isOver = 'atMs' in moment && value.expiresMs !== null && value.expiresMs <= moment.atMs;
      if (value.state !== 'live' || isOver) throw gone(value);
      return { value, seq, deps: [contextItem(id)] };
    },

    async readMany(request, ids) {
      const { value, seq, nowMs } = await answer(readMany(database, request, ids, inlineBytes), () => []);
      const items = value.map((context, index) => readable(context, ids[index] as string, nowMs));
      const deps = items.flatMap((item, index) =>
        item instanceof Problem ? [contextItem(ids[index] as string)] : headDeps(item),
      );
      return { value: items, seq, deps };
    },

    async readExact(request, references, options = {}) {
      const bytes = options.inlineBytes ?? inlineBytes;
      const answered = await readExact(database, request, references, { inlineBytes: bytes, key: options.key });
      return answered;
    },

    async readAncestry(request, id) {
      const read = await answer(readAncestry(database, request, id, inlineBytes), (chain) => chain.flatMap(headDeps));
      requireLive(read.value.at(-1) ?? null, id, read.nowMs);
      return read;
    },

    async list(request, page) {
      const { filter, of } = page;
      const isOfChildren = of !== undefined && of === filter.parentId;
      const read = await answer(readList(database, request, page), () => [
        ...(isOfChildren ? [parentItem(of), contextItem(of)] : [anyItem]),
      ]);
      if (of !== undefined) requireLive(read.value.of, of, read.nowMs);
      return read;
    },

    async readTree(request, id, bounds) {
      const read = await answer(readTree(database, request, id, bounds), (nodes) => [
        contextItem(id),
        ...nodes.map((node) => parentItem(node.id)),
      ]);
      requireLive(read.value[0] ?? null, id, read.nowMs);
      const isTruncated = read.value.length > bounds.nodesMax;
      return { ...read, value: { nodes: read.value.slice(0, bounds.nodesMax), isTruncated } };
    },

    async *streamContent(request, head, start, end) {
      if (head.content !== undefined) {
        yield head.content.subarray(start, end);
        return;
      }
      for (let part = Math.floor(start / partBytes); part * partBytes < end; part++) {
        const found = await readContentPart(database, request, head.hash ?? '', part);
        // Retention or an erase may take the content away under a slow reader.
        if (found === null) throw gone(head);
        const bytes = decodeContent(found);
        yield bytes.subarray(Math.max(start - part * partBytes, 0), Math.min(end - part * partBytes, bytes.length));
      }
    },

    async write(request, operations, options) {
      const written = await retryLost(() =>
        writeContexts(database, request, operations, {
          ...options,
          retained: settings.versions.retained,
          retainedDays: settings.versions.retainedDays,
          treeDepth: settings.limits.treeDepth,
          cascadeContexts: settings.limits.cascadeContexts,
        }),
      );
      if (written.outcome === 'done' && written.changes.length > 0) onChanges(request.space, written.changes);
      return written;
    },
  };
}

function readable(context: Context | null, id: string, nowMs: number): Context | Problem {
  if (context === null || context.state === 'erased') return contextNotFound(id);
  return isLive(context, nowMs) ? context : gone(context);
}

function requireLive<Found extends ContextHead>(context: Found | null, id: string, nowMs: number): Found {
  if (context === null || context.state === 'erased') throw contextNotFound(id);
  if (!isLive(context, nowMs)) throw gone(context);
  return context;
}
