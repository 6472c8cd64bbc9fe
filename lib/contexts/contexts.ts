import type { Clock } from '../base/clock.ts';
import { andThen, type MaybePromise } from '../base/maybe-promise.ts';
import { Problem } from '../base/problem.ts';
import type { Cache, Committed } from '../cache/cache.ts';
import type { Settings } from '../config/settings.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import type { CachedReads } from './cached-reads.ts';
import { joinSlices, partBytes } from './content.ts';
import { type Change, type Context, type ContextHead, isLive } from './context.ts';
import type { Effective } from './effective.ts';
import { headDeps, toTouches } from './items.ts';
import type { CachedHead, ContextKinds } from './kinds.ts';
import type { Operation } from './operation.ts';
import { contextNotFound, gone, versionNotFound } from './outcomes.ts';
import { type ListPage, type Reference, readContentSlice, readExact, readVersion, readVersionAt } from './read.sql.ts';
import type { Reports } from './reports.ts';
import type { RequestContext, SpaceRef } from './request.ts';
import type { At } from './through.ts';
import { type WriteAnswer, type WriteOptions, writeContexts } from './write.sql.ts';

/** Which state of a context is asked for; nothing is the head. */
export type Moment = { readonly version: number } | { readonly atMs: number } | undefined;

/** What an earlier request under an idempotency key was answered. */
export interface Recorded {
  readonly fingerprint: string;
  readonly answer: unknown;
}

/** The reads and the write of contexts: one request to PostgreSQL each, or none where a cache has the answer. */
export interface Contexts {
  /**
   * A live context, at once where layer 1 has it, or an old version by number or time whether the context is alive or
   * not.
   *
   * @throws Problem `context_not_found`, `version_not_found`, or `gone` with the tombstone's version.
   */
  read(request: RequestContext, id: string, moment?: Moment): MaybePromise<At<Context>>;
  /** Heads in the order asked; a problem in the place of what cannot be read. */
  readMany(request: RequestContext, ids: readonly string[]): Promise<At<(Context | Problem)[]>>;
  /** Versions as they are named, tombstones included, null for what is not there; `known` tells whether the context is. */
  readExact(
    request: RequestContext,
    references: readonly Reference[],
    options?: { readonly key?: string | undefined; readonly inlineBytes?: number },
  ): Promise<{ value: (Context | null)[]; known: boolean[]; seq: number; nowMs: number; recorded: Recorded | null }>;
  /** The context with its live ancestors, root first, without contents. */
  readAncestry(request: RequestContext, id: string): Promise<At<readonly Context[]>>;
  /** The context with the contents of its ancestors folded in. */
  readEffective(request: RequestContext, id: string): Promise<At<Effective & { readonly context: Context }>>;
  list(request: RequestContext, page: ListPage): Promise<At<{ items: readonly Context[]; hasMore: boolean }>>;
  /** The live subtree, breadth first, root first; `isTruncated` where it holds more than `nodesMax`. */
  readTree(
    request: RequestContext,
    id: string,
    bounds: { readonly levels: number; readonly nodesMax: number },
  ): Promise<At<{ nodes: readonly ContextHead[]; isTruncated: boolean }>>;
  /**
   * The content bytes from `start` to before `end`, in pieces of at most 4 MiB, each fetched when it is asked for, by requests
   * of a MiB of what is stored.
   */
  streamContent(request: RequestContext, head: Context, start: number, end: number): AsyncIterable<Uint8Array>;
  /**
   * Runs a write that is none of operations (an erase, a change of keys), and tells the caches and whoever waits.
   *
   * @param changesOf what it committed.
   */
  committing<Answer>(
    request: SpaceRef,
    run: () => Promise<Answer>,
    changesOf: (answer: Answer) => readonly Change[],
  ): Promise<Answer>;
  /** Carries out the operations: one request, one transaction, one tick for each change. */
  write(request: RequestContext, operations: readonly Operation[], options: WriteOptions): Promise<WriteAnswer>;
}

/**
 * @param deps.onChanges hears of committed changes, before the write is acknowledged.
 */
export function createContexts(deps: {
  database: Database;
  cache: Cache;
  reads: CachedReads;
  kinds: ContextKinds;
  reports: Reports;
  clock: Clock;
  settings: Settings;
  onChanges: (space: SpaceRef) => void;
}): Contexts {
  const { database, cache, reads, kinds, reports, clock, settings, onChanges } = deps;
  const { inlineBytes } = settings.limits;
  const { touchedItems } = settings.cache;

  /** What the caches are told of changes, and of what they made; null of none. */
  function toCommitted(
    changes: readonly Change[],
    made: () => Committed<CachedHead>['values'] = () => [],
  ): Committed<CachedHead> | null {
    const [first, last] = [changes[0], changes.at(-1)];
    if (first === undefined || last === undefined) return null;
    const [from, to] = [first.tick - 1, last.tick];
    const touches = toTouches(changes);
    // P9: more than layer 2 remembers is told as "forget everything older".
    if (touches.length > touchedItems) return { from, to, changes: [{ item: '*', tick: to }], values: [] };
    return { from, to, changes: touches, values: made() };
  }

  async function readPast(request: RequestContext, id: string, moment: NonNullable<Moment>): Promise<At<Context>> {
    const { value, isKnown, seq } =
      'version' in moment
        ? await readVersion(database, request, id, moment.version, inlineBytes)
        : await readVersionAt(database, request, id, moment.atMs, inlineBytes);
    if (!isKnown) throw contextNotFound(id);
    if (value === null) throw versionNotFound(id);
    const isOver = 'atMs' in moment && value.expiresMs !== null && value.expiresMs <= moment.atMs;
    if (value.state !== 'live' || isOver) throw gone(value);
    return { value, seq };
  }

  return {
    read(request, id, moment) {
      if (moment !== undefined) return readPast(request, id, moment);
      return andThen(reads.heads(request, [id]), ({ values, seq }) => ({
        value: requireLive(values[0] ?? null, id, clock()),
        seq,
      }));
    },

    async readMany(request, ids) {
      const { values: heads, seq } = await reads.heads(request, ids);
      const nowMs = clock();
      let bytes = 0;
      const items = heads.map((head, index) => {
        const context = readable(head, ids[index] as string, nowMs);
        // Together they may be larger than one answer, from the caches as from the database.
        if (context instanceof Problem || context.content === undefined) return context;
        bytes += context.sizeBytes;
        return bytes <= inlineBytes ? context : { ...context, content: undefined };
      });
      return { value: items, seq };
    },

    readExact(request, references, options = {}) {
      const bytes = options.inlineBytes ?? inlineBytes;
      return readExact(database, request, references, { inlineBytes: bytes, key: options.key });
    },

    async readAncestry(request, id) {
      const { value, seq } = await reads.ancestry(request, id);
      requireLive(value.at(-1) ?? null, id, clock());
      return { value, seq };
    },

    async readEffective(request, id) {
      const { value, seq } = await reads.effective(request, id);
      return { value: { ...value, context: requireLive(value.context, id, clock()) }, seq };
    },

    async list(request, page) {
      const { value, seq } = await reads.list(request, page);
      if (page.of !== undefined) requireLive(value.of, page.of, clock());
      return { value, seq };
    },

    async readTree(request, id, bounds) {
      const { value, seq } = await reads.tree(request, id, bounds);
      requireLive(value[0] ?? null, id, clock());
      const isTruncated = value.length > bounds.nodesMax;
      return { value: { nodes: value.slice(0, bounds.nodesMax), isTruncated }, seq };
    },

    async *streamContent(request, head, start, end) {
      if (head.content !== undefined) {
        yield head.content.subarray(start, end);
        return;
      }
      for (let part = Math.floor(start / partBytes); part * partBytes < end; part++) {
        const bytes = await joinSlices(async (at) => {
          const slice = await readContentSlice(database, request, { hash: head.hash ?? '', part }, at);
          // Retention or an erase may take the content away under a slow reader.
          if (slice === null) throw gone(head);
          return slice;
        });
        yield bytes.subarray(Math.max(start - part * partBytes, 0), Math.min(end - part * partBytes, bytes.length));
      }
    },

    async committing(request, run, changesOf) {
      const whole = { slot: request.slot, seq: 0, noCache: false };
      return cache.write(whole, kinds.head, run, (answer) => {
        const changes = changesOf(answer);
        if (changes.length > 0) onChanges(request);
        return toCommitted(changes);
      });
    },

    async write(request, operations, options) {
      const report = reports.due(request);
      const written = await cache.write(
        request,
        kinds.head,
        () =>
          retryLost(() =>
            writeContexts(database, request, operations, {
              ...options,
              retained: settings.versions.retained,
              retainedDays: settings.versions.retainedDays,
              treeDepth: settings.limits.treeDepth,
              cascadeContexts: settings.limits.cascadeContexts,
              report,
            }),
          ),
        (done) =>
          done.outcome === 'done' ? toCommitted(done.changes, () => headsOf(operations, done, inlineBytes)) : null,
      );
      if (written.outcome === 'done' && written.changes.length > 0) onChanges(request);
      return written;
    },
  };
}

/** The heads that a write made, as far as their contents are at hand. */
function headsOf(
  operations: readonly Operation[],
  { results, changes }: Extract<WriteAnswer, { outcome: 'done' }>,
  inlineBytes: number,
): Committed<CachedHead>['values'] {
  const last = new Map(changes.map(({ id, version }) => [id, version]));
  return results.flatMap(({ index, id, head }) => {
    // A later operation of the same batch may have changed it again.
    if (head === null || last.get(id) !== head.version) return [];
    const operation = operations[index];
    const sent = operation?.op === 'put' ? operation.content?.bytes : undefined;
    const context: Context = sent === undefined || sent.length > inlineBytes ? head : { ...head, content: sent };
    const isWhole = context.state !== 'live' || context.content !== undefined || context.sizeBytes > inlineBytes;
    return isWhole ? [{ id, deps: headDeps(context), value: context }] : [];
  });
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
