import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import type { Context, VersionEntry } from '../contexts/context.ts';
import type { Written } from '../contexts/written.ts';
import { isTextType } from '../merge/document.ts';
import type { HeaderReader } from './mount.ts';
import { problemBody } from './respond.ts';
import type { Answer, ReadyBytes } from './route.ts';

/** Milliseconds since 1970 as the answers tell time. */
export function toTime(ms: number): string;
export function toTime(ms: number | null): string | null;
export function toTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

export const toHash = (hash: string | null) => (hash === null ? null : `sha256:${hash}`);
export const etag = (version: number) => `"${version}"`;

/**
 * A context as JSON, its stored content and metadata put in as they stand, without being parsed.
 *
 * @param options.content whether the content belongs into the answer; a content that is not at hand leaves its address.
 */
export function contextJson(
  context: Context,
  options: { readonly content: boolean; readonly extra?: Readonly<Record<string, unknown>> },
): string {
  return printPlain({ ...contextMembers(context, options.content), ...options.extra });
}

/** The members of a context's JSON, for answers that put it into something larger. */
export function contextMembers(context: Context, isWithContent: boolean): Record<string, unknown> {
  return {
    id: context.id,
    parentId: context.parentId,
    kind: context.kind,
    contentType: context.contentType,
    ...(isWithContent ? contentMembers(context) : {}),
    metadata: { jsonText: context.metadata },
    version: context.version,
    hash: toHash(context.hash),
    sizeBytes: context.sizeBytes,
    createdAt: toTime(context.createdMs),
    updatedAt: toTime(context.updatedMs),
    expiresAt: toTime(context.expiresMs),
    actor: context.actor,
    ...(context.state === 'deleted' ? { deleted: true } : {}),
  };
}

export function contentMembers(context: Context): Record<string, unknown> {
  const { content, hash, contentType } = context;
  if (hash === null) return { content: null };
  if (content === undefined) return { content: null, contentUrl: contentUrl(context) };
  const text = Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('utf8');
  return { content: contentType !== null && isTextType(contentType) ? text : { jsonText: text } };
}

const ready = new WeakMap<Context, ReadyBytes>();

/** The JSON of a context with its content, printed once for each value that layer 1 holds. */
export function readyJson(context: Context): ReadyBytes {
  const known = ready.get(context);
  if (known !== undefined) return known;
  const made = { plain: new TextEncoder().encode(contextJson(context, { content: true })), encoded: new Map() };
  // Only what is frozen is sure to be what it was; what swells in print would outgrow what layer 1 counts it as.
  const weighed = 1.2 * ((context.content?.length ?? 0) + context.metadata.length) + 1000;
  if (Object.isFrozen(context) && made.plain.length <= weighed) ready.set(context, made);
  return made;
}

/** Where the bytes of this very version are. */
export function contentUrl(context: Context): string {
  return `/v1/contexts/${encodeURIComponent(context.id)}/content?version=${context.version}`;
}

/** The answer to a write: the context it made, or found to be there already. */
export function writtenAnswer(
  written: Written,
  headers: HeaderReader,
  options: { readonly inlineBytes: number; readonly extra?: Record<string, unknown> },
): Answer {
  const { context, outcome, seq } = written;
  const isMinimal = /\breturn=minimal\b/i.test(headers.get('prefer') ?? '');
  const shown = context.sizeBytes > options.inlineBytes ? { ...context, content: undefined } : context;
  const extra = { ...(outcome === 'unchanged' ? { unchanged: true } : {}), ...options.extra };
  return {
    status: outcome === 'created' ? 201 : 200,
    seq,
    headers: {
      etag: etag(context.version),
      ...(outcome === 'created' ? { location: `/v1/contexts/${encodeURIComponent(context.id)}` } : {}),
      ...(isMinimal ? { 'preference-applied': 'return=minimal' } : {}),
    },
    body: contextJson(shown, { content: !isMinimal, extra }),
  };
}

/** A context or the problem in its place, as lists hold them. */
export function itemMembers(item: Context | Problem): Record<string, unknown> {
  return item instanceof Problem ? problemBody(item) : contextMembers(item, true);
}

export function versionMembers(entry: VersionEntry): Record<string, unknown> {
  return {
    version: entry.version,
    hash: toHash(entry.hash),
    sizeBytes: entry.sizeBytes,
    contentType: entry.contentType,
    actor: entry.actor,
    operation: entry.operation,
    createdAt: toTime(entry.updatedMs),
    pinned: entry.isPinned,
    ...(entry.mergedFrom === null ? {} : { mergedFrom: entry.mergedFrom }),
    ...(entry.message === null ? {} : { message: entry.message }),
  };
}
