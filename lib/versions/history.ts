import { setImmediate } from 'node:timers/promises';
import type { Ids } from '../base/id.ts';
import { printJson } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { VersionEntry } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { Precondition } from '../contexts/operation.ts';
import { contextNotFound, gone, toProblem, versionNotFound } from '../contexts/outcomes.ts';
import type { Reconciling } from '../contexts/reconciling.ts';
import type { RequestContext, SpaceRef } from '../contexts/request.ts';
import { toChange, toHead } from '../contexts/rows.ts';
import { type Idempotency, idempotencyMismatch, type Written, writeOne } from '../contexts/written.ts';
import { jsonPatch, unifiedDiff } from '../merge/diff.ts';
import { type Document, jsonType, toDocument } from '../merge/document.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { eraseContext, pinVersion, readVersions } from './history.sql.ts';

export type ChildrenMode = 'fail' | 'delete' | 'orphan';

/** What a context was, and how to have it again. */
export interface History {
  /** Newest first, without contents. */
  versions(
    request: RequestContext,
    page: { readonly id: string; readonly before?: number | undefined; readonly limit: number },
  ): Promise<{ items: VersionEntry[]; hasMore: boolean; seq: number }>;
  /**
   * From one version to another: a JSON Patch as JSON text where both are JSON, never much longer than the new version;
   * else a unified diff.
   *
   * @throws Problem `version_not_found`, or `gone` for a tombstone.
   */
  diff(
    request: RequestContext,
    id: string,
    between: { readonly from: number; readonly to: number },
  ): Promise<{ patch: { readonly json: string } | { readonly text: string }; seq: number }>;
  /** Makes an old version the newest again: its content, type, kind and metadata; place and expiry stay. */
  restore(
    request: RequestContext,
    restore: Precondition & { readonly id: string; readonly version: number },
    idempotency?: Idempotency,
  ): Promise<Written>;
  /** A pinned version survives retention and does not count for it. */
  pin(
    request: RequestContext,
    pin: { readonly id: string; readonly version: number; readonly isPinned: boolean },
    idempotency?: Idempotency,
  ): Promise<{ version: VersionEntry; seq: number }>;
  /**
   * Removes every trace but the highest version number, for good; `cacheEntries` went from layer 3, `vectors` chunks from the
   * search index; `isForgotten` where the search engine beside PostgreSQL has confirmed it, or there is none. `peers` held it
   * and have not confirmed the delete yet.
   */
  erase(
    request: RequestContext,
    erase: Precondition & { readonly id: string; readonly children: ChildrenMode },
    idempotency?: Idempotency,
  ): Promise<{
    versions: number;
    cacheEntries: number;
    vectors: number;
    isForgotten: boolean;
    peers: readonly string[];
    seq: number;
  }>;
}

export function createHistory(deps: {
  database: Database;
  contexts: Contexts;
  removeErased: Reconciling['removeErased'];
  /** Has what is left of erased contexts removed from where vectors are kept. @throws Problem `unavailable` */
  forgetVectors: (space: SpaceRef, ids: readonly string[]) => Promise<void>;
  ids: Ids;
  settings: Settings;
}): History {
  const { database, contexts, removeErased, forgetVectors, ids, settings } = deps;

  return {
    async versions(request, page) {
      const { isKnown, items, hasMore, seq } = await readVersions(database, request, page);
      if (!isKnown) throw contextNotFound(page.id);
      return { items, hasMore, seq };
    },

    async diff(request, id, { from, to }) {
      const { value, known, seq } = await contexts.readExact(
        request,
        [
          { id, version: from },
          { id, version: to },
        ],
        { inlineBytes: 2 * settings.limits.contextBytes },
      );
      const contents = value.map((context) => {
        if (context === null) throw known.includes(true) ? versionNotFound(id) : contextNotFound(id);
        if (context.content === undefined) throw gone(context);
        return { bytes: context.content, contentType: context.contentType ?? jsonType };
      });
      // Of two contents of 10 MiB each step takes its time: others are served in between.
      const documents: Document[] = [];
      for (const { bytes, contentType } of contents) {
        await setImmediate();
        documents.push(toDocument(bytes, contentType));
      }
      await setImmediate();
      const [before, after] = documents;
      if (before?.kind === 'json' && after?.kind === 'json') {
        const patch = jsonPatch(before.value, after.value);
        await setImmediate();
        return { patch: { json: printJson(patch) }, seq };
      }
      const [earlier = '', later = ''] = contents.map(({ bytes }) => Buffer.from(bytes).toString());
      const labels = { from: `${id}@${from}`, to: `${id}@${to}` };
      return { patch: { text: unifiedDiff(earlier, later, labels) }, seq };
    },

    restore(request, restore, idempotency) {
      return writeOne(contexts, request, { op: 'restore', ...restore, withContent: true }, { idempotency });
    },

    async pin(request, pin, idempotency) {
      const answer = await retryLost(() => pinVersion(database, request, pin, { ...idempotency }));
      if ('recorded' in answer) {
        if (answer.recorded === null) throw idempotencyMismatch();
        const { items } = await readVersions(database, request, { id: pin.id, before: pin.version + 1, limit: 1 });
        const [version] = items;
        if (version?.version !== pin.version) throw versionNotFound(pin.id);
        return { version: { ...version, isPinned: pin.isPinned }, seq: answer.seq };
      }
      if (!answer.isKnown) throw contextNotFound(pin.id);
      if (answer.version === null) throw versionNotFound(pin.id);
      return { version: answer.version, seq: answer.seq };
    },

    async erase(request, erase, idempotency) {
      const run = () =>
        eraseContext(database, request, erase, {
          ...idempotency,
          actor: request.actor,
          origin: request.actor.kind,
          auditId: ids.sortable(),
          retained: settings.versions.retained,
          retainedDays: settings.versions.retainedDays,
          cascade: settings.limits.cascadeContexts,
        });
      const changesOf = ({ changes = [] }: Awaited<ReturnType<typeof run>>) => changes.map(toChange);
      const answer = await contexts.committing(request, () => retryLost(run), changesOf);
      if ('recorded' in answer) {
        if (answer.recorded === null) throw idempotencyMismatch();
        const { versions, entries = 0, chunks = 0, peers = [] } = answer.recorded;
        return { versions, cacheEntries: entries, vectors: chunks, isForgotten: true, peers, seq: answer.clock };
      }
      if (answer.outcome !== 'erased' && answer.outcome !== undefined) {
        const head = answer.head && toHead(answer.head);
        throw toProblem({ id: erase.id, outcome: answer.outcome, head, children: answer.children });
      }
      if (answer.outcome !== 'erased') throw new Problem('internal', 'The erase gave no result.');
      // Away, layer 2 is told again by the next reconciliation, which follows the feed.
      await removeErased(request, changesOf(answer)).catch(() => 0);
      // Likewise what the engine does not do now is done by the next run of the index.
      const erased = changesOf(answer).flatMap(({ id, operation }) =>
        operation === 'erase' && id !== null ? [id] : [],
      );
      const isForgotten = await forgetVectors(request, erased).then(
        () => true,
        () => false,
      );
      return {
        versions: answer.versions,
        cacheEntries: answer.entries,
        vectors: answer.chunks,
        isForgotten,
        peers: answer.peers,
        seq: answer.clock,
      };
    },
  };
}
