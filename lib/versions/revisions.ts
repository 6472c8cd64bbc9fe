import type { Json } from '../base/json.ts';
import { parseJson } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import { type Context, isLive } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { checkMetadata } from '../contexts/metadata.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { contextNotFound, contextTooLarge, gone, versionConflict, versionNotFound } from '../contexts/outcomes.ts';
import type { Reference } from '../contexts/read.sql.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Uploads } from '../contexts/uploads.ts';
import { type Idempotency, replay, toWritten, type Written, writeOne } from '../contexts/written.ts';
import { type Conflict, type PrintedConflict, printConflicts } from '../merge/conflict.ts';
import { type Document, fromJson, jsonType, type Source, toDocument } from '../merge/document.ts';
import { type Merged, merge, type Preference, type Strategy } from '../merge/merge.ts';
import { mergeConflict } from '../merge/three-way.ts';

import { attemptsMax, backOff } from '../postgres/retry.ts';

/** What a merge tells of itself. */
export interface MergeReport {
  readonly strategy: Strategy;
  readonly base: number;
  readonly head: number;
  readonly conflicts: readonly PrintedConflict[];
}

/** A source of a merge: a stored version, the head where none is named, or a content. */
export type MergeSource = Reference | { readonly bytes: Uint8Array; readonly contentType: string };

/** Writes that are computed from what is stored. */
export interface Revisions {
  /**
   * Changes the JSON content of the head by `apply`. Without `ifVersion` a lost race is run again on the new head, up to
   * five times.
   *
   * @throws Problem `unprocessable` for a text content, `version_conflict` on a stale `ifVersion`.
   */
  patch(
    request: RequestContext,
    id: string,
    change: { readonly apply: (content: Json) => Json; readonly ifVersion?: number | undefined },
    idempotency?: Idempotency,
  ): Promise<Written>;
  /**
   * A put whose stale base is no refusal: what was sent is merged with the head, the version of `ifVersion` as base.
   * The `extra` of the answer is the {@link MergeReport}, absent where there was nothing to merge.
   *
   * @throws Problem `merge_conflict`, or `version_conflict` with `baseKept: false` where retention has taken the base.
   */
  putMerging(
    request: RequestContext,
    operation: PutOperation & { readonly ifVersion: number },
    strategy: Strategy,
    idempotency?: Idempotency,
  ): Promise<Written>;
  /** Merges sources, and writes the result where there is a target. */
  merge(
    request: RequestContext,
    plan: {
      readonly sources: readonly MergeSource[];
      readonly base?: MergeSource | undefined;
      readonly strategy: Strategy;
      readonly prefer: Preference;
      readonly target?: { readonly id: string; readonly ifVersion?: number | undefined } | undefined;
    },
    idempotency?: Idempotency,
  ): Promise<{ merged: Merged | null; written: Written | null; seq: number }>;
}

// Sources are read in one request; together they may be this large: four of the largest, which as packed base64 in JSON stay below
// the 64 MB that an answer over Neon's wire may have.
const sourceBytesMax = 40 * 1024 * 1024;

export function createRevisions(deps: { contexts: Contexts; uploads: Uploads; settings: Settings }): Revisions {
  const { contexts, uploads, settings } = deps;
  const { contextBytes, metadataBytes } = settings.limits;

  function requireSize(bytes: Uint8Array): Uint8Array {
    if (bytes.length > contextBytes) throw contextTooLarge(bytes.length, contextBytes);
    return bytes;
  }

  /** A put with its content at hand, though it is to come from an upload. */
  async function withBytes(request: RequestContext, put: PutOperation): Promise<PutOperation> {
    if (put.upload === undefined || put.content !== undefined) return put;
    const bytes = await uploads.readBytes(request, put.upload);
    return { ...put, content: { bytes, contentType: put.upload.contentType } };
  }

  /** Runs `attempt` again while somebody else is faster; it is told which head it lost to. */
  async function retrying<Value>(attempt: (last: boolean) => Promise<Value | 'lost'>): Promise<Value> {
    for (let tries = 1; ; tries++) {
      const value = await attempt(tries === attemptsMax);
      if (value !== 'lost') return value;
      await backOff(tries);
    }
  }

  const isLost = (error: unknown) => error instanceof Problem && error.code === 'version_conflict';

  return {
    patch(request, id, change, idempotency) {
      return retrying(async (isLast) => {
        const { value, nowMs, recorded } = await contexts.readExact(request, [{ id }], {
          key: idempotency?.key,
          inlineBytes: contextBytes,
        });
        if (recorded !== null && idempotency) return replay(contexts, request, recorded, idempotency.fingerprint);
        const head = requireReadable(value[0] ?? null, id, nowMs);
        if (change.ifVersion !== undefined && change.ifVersion !== head.version) throw versionConflict(id, head);
        const document = toDocument(head.content as Uint8Array, head.contentType ?? jsonType);
        if (document.kind === 'text') {
          throw new Problem('unprocessable', `Context ${id} holds ${head.contentType}; a patch takes JSON.`, { id });
        }
        // A patch that changes nothing leaves every byte as it is.
        const patched = fromJson(change.apply(document.value), [document]);
        requireSize(patched.bytes);
        const operation = { op: 'put', id, ifVersion: head.version, content: patched } as const;
        return writeOne(contexts, request, operation, { idempotency }).catch((error) => {
          if (change.ifVersion === undefined && isLost(error) && !isLast) return 'lost' as const;
          throw error;
        });
      });
    },

    async putMerging(request, operation, strategy, idempotency) {
      const first = await contexts.write(request, [operation], { atomic: true, idempotency });
      if (first.outcome !== 'refused' || first.result.outcome !== 'stale') {
        return toWritten(contexts, request, operation, first);
      }
      const { id, ifVersion } = operation;
      let sent: PutOperation | undefined;
      return retrying(async (isLast) => {
        const { value, nowMs } = await contexts.readExact(request, [{ id, version: ifVersion }, { id }], {
          inlineBytes: sourceBytesMax,
        });
        const [base = null, head = null] = value;
        if (head === null || !isLive(head, nowMs)) throw versionConflict(id, head);
        if (base === null || base.content === undefined) {
          throw versionConflict(id, head, ifVersion < head.version ? { baseKept: false } : {});
        }
        sent ??= await withBytes(request, operation);
        const { put, report } = mergePut(sent, base, head, strategy);
        if (put.content) requireSize(put.content.bytes);
        if (put.metadata)
          checkMetadata({ raw: put.metadata, value: parseJson(put.metadata) }, metadataBytes, '/metadata');
        return writeOne(contexts, request, put, { idempotency, extra: report }).catch((error) => {
          if (isLost(error) && !isLast) return 'lost' as const;
          throw error;
        });
      });
    },

    merge(request, plan, idempotency) {
      return retrying(async (isLast) => {
        const named = [...plan.sources, ...(plan.base ? [plan.base] : [])];
        const references = named.filter((source): source is Reference => 'id' in source);
        const read = await contexts.readExact(request, references, {
          key: idempotency?.key,
          inlineBytes: sourceBytesMax,
        });
        if (read.recorded !== null && idempotency) {
          const written = await replay(contexts, request, read.recorded, idempotency.fingerprint);
          return { merged: null, written, seq: written.seq };
        }
        const stored = new Map(
          references.map((reference, at) => [
            reference,
            requireSource(read.value[at] ?? null, reference, { ...read, at }),
          ]),
        );
        const sources = named.map((source): Source => {
          const context = 'id' in source ? stored.get(source) : undefined;
          if (context !== undefined) return toSource(context);
          const { bytes, contentType } = source as Exclude<MergeSource, Reference>;
          return { ...toDocument(bytes, contentType), updatedMs: Number.POSITIVE_INFINITY, version: 0 };
        });
        const base = plan.base ? sources.pop() : undefined;
        const merged = merge({ strategy: plan.strategy, sources, base, prefer: plan.prefer });
        requireSize(merged.document.bytes);
        if (plan.target === undefined) return { merged, written: null, seq: read.seq };

        const { id, ifVersion } = plan.target;
        // A merge into the head of one of its sources must not write over what has come to that head meanwhile.
        const own = references.find((reference) => reference.id === id && reference.version === undefined);
        const operation: PutOperation = {
          op: 'put',
          id,
          ifVersion: ifVersion ?? (own && stored.get(own)?.version),
          content: merged.document,
          operation: 'merge',
          mergedFrom: plan.sources.map((source) =>
            'id' in source ? { id: source.id, version: stored.get(source)?.version } : { content: true },
          ),
        };
        const report = { strategy: plan.strategy, conflicts: printConflicts(merged.conflicts) };
        const written = await writeOne(contexts, request, operation, { idempotency, extra: report }).catch((error) => {
          if (ifVersion === undefined && own !== undefined && isLost(error) && !isLast) return 'lost' as const;
          throw error;
        });
        return written === 'lost' ? written : { merged, written, seq: written.seq };
      });
    },
  };
}

function toSource(context: Context): Source {
  const { content, contentType, updatedMs, version } = context;
  if (content === undefined) throw contextTooLarge(sourceBytesMax + 1, sourceBytesMax);
  return { ...toDocument(content, contentType ?? jsonType), updatedMs, version };
}

/** What was sent joined with the head; what was not sent keeps the head's. */
function mergePut(
  sent: PutOperation,
  base: Context,
  head: Context,
  strategy: Strategy,
): { put: PutOperation; report: MergeReport } {
  const conflicts: Conflict[] = [];
  const join = (ours: Document, theirs: Document, from: Document, path: string) => {
    const sources = [
      { ...ours, updatedMs: Number.POSITIVE_INFINITY, version: 0 },
      { ...theirs, updatedMs: head.updatedMs, version: head.version },
    ];
    const merged = merge({ strategy, sources, base: from, prefer: 'ours' });
    for (const one of merged.conflicts) conflicts.push({ ...one, path: path + one.path });
    return merged.document;
  };
  const contentOf = (context: Context) => toDocument(context.content as Uint8Array, context.contentType ?? jsonType);
  const metadataOf = (metadata: string) => toDocument(Buffer.from(metadata), jsonType);
  const content =
    sent.content &&
    join(toDocument(sent.content.bytes, sent.content.contentType), contentOf(head), contentOf(base), '');
  const metadata =
    sent.metadata === undefined
      ? undefined
      : join(metadataOf(sent.metadata ?? '{}'), metadataOf(head.metadata), metadataOf(base.metadata), '/metadata');
  if (strategy === 'three-way' && conflicts.length > 0) {
    throw mergeConflict(conflicts.map(({ chosen: _, ...open }) => open));
  }
  const put: PutOperation = {
    op: 'put',
    id: sent.id,
    ifVersion: head.version,
    content,
    ...(sent.upload === undefined ? {} : { upload: sent.upload }),
    ...(metadata === undefined ? {} : { metadata: Buffer.from(metadata.bytes).toString() }),
    ...(sent.kind !== undefined && sent.kind !== base.kind ? { kind: sent.kind } : {}),
    ...(sent.parentId !== undefined && sent.parentId !== base.parentId ? { parentId: sent.parentId } : {}),
    ...(sent.ttlSeconds === undefined ? {} : { ttlSeconds: sent.ttlSeconds }),
    ...(sent.expiresAt === undefined || isSameTime(sent.expiresAt, base.expiresMs)
      ? {}
      : { expiresAt: sent.expiresAt }),
    ...(sent.message === undefined ? {} : { message: sent.message }),
    ...(content === undefined ? { withContent: true } : {}),
    operation: 'merge',
    mergedFrom: [
      { id: sent.id, version: base.version },
      { id: sent.id, version: head.version },
    ],
  };
  return { put, report: { strategy, base: base.version, head: head.version, conflicts: printConflicts(conflicts) } };
}

function isSameTime(sent: string | null, ms: number | null): boolean {
  return sent === null ? ms === null : Date.parse(sent) === ms;
}

function requireReadable(context: Context | null, id: string, nowMs: number): Context {
  if (context === null) throw contextNotFound(id);
  if (!isLive(context, nowMs)) throw gone(context);
  if (context.content === undefined) throw contextTooLarge(context.sizeBytes, sourceBytesMax);
  return context;
}

function requireSource(
  context: Context | null,
  reference: Reference,
  read: { readonly nowMs: number; readonly known: readonly boolean[]; readonly at: number },
): Context {
  if (context === null) throw read.known[read.at] ? versionNotFound(reference.id) : contextNotFound(reference.id);
  const isReadable = reference.version === undefined ? isLive(context, read.nowMs) : context.state === 'live';
  if (!isReadable) throw gone(context);
  return context;
}
