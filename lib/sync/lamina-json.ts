import { sha256 } from '../base/hash.ts';
import type { JsonObject } from '../base/json.ts';
import { isTextType } from '../merge/document.ts';
import type { Pushed } from './peer.ts';
import { printWhole, type Value } from './value.ts';

/** A context as another Lamina tells it. */
export interface Told {
  readonly id: string;
  readonly parentId: string | null;
  readonly kind: string;
  readonly contentType: string;
  readonly version: number;
  readonly hash: string;
  readonly updatedAt: string;
  readonly expiresAt: string | null;
  readonly contentUrl?: string;
}

/** Why it tells none. */
export interface Untold {
  readonly code: string;
  readonly detail?: string;
  readonly version?: number;
}

/** Content and metadata as the other side spells them, by the object they stand in. */
export type Raws = Map<JsonObject, { get(name: string): { readonly raw: string } | undefined }>;
export const rawKeys = new Set(['content', 'metadata']);

const placeCodes = ['parent_not_found', 'parent_cycle', 'unprocessable'];
const absentCodes = ['gone', 'context_not_found'];

/** Whether what is told is that there is none. */
export const isAbsent = ({ code }: Untold): boolean => absentCodes.includes(code);

/** The value of what is told; the place of `root` is no part of it. */
export function toValue(told: Told, of: { bytes: Uint8Array; metadata: string; root: string | undefined }): Value {
  const { id, kind, contentType, parentId, expiresAt } = told;
  const { bytes, metadata, root } = of;
  return {
    kind,
    contentType,
    bytes,
    metadata,
    parentId: id === root ? null : parentId,
    expiresMs: expiresAt === null ? null : Date.parse(expiresAt),
  };
}

/** The fingerprint of what is told, by the hash of its content. */
export function printTold(told: Told, metadata: string, root: string | undefined): string {
  const { bytes: _, ...value } = toValue(told, { bytes: new Uint8Array(), metadata, root });
  return printWhole({ ...value, hash: told.hash.replace('sha256:', '') });
}

/** The content of what is told inline. */
export function bytesOf({ contentType }: Told, raw: string): Uint8Array {
  return Buffer.from(isTextType(contentType) ? (JSON.parse(raw) as string) : raw);
}

export const isOfHash = ({ hash }: Told, bytes: Uint8Array): boolean => `sha256:${sha256(bytes)}` === hash;

/** Why the other side did not take a change, or that what it was to delete is gone. */
export function toRefused(problem: Untold, isDelete: boolean): Pushed {
  if (isDelete && isAbsent(problem)) return { value: null };
  if (problem.code === 'version_conflict') return { refused: 'At the peer somebody has just written it.' };
  return {
    refused: `The peer refuses it: ${problem.detail ?? problem.code}`,
    isPlace: placeCodes.includes(problem.code),
  };
}

/** What a value takes in the body of a batch, at most. */
export function sizeOf({ bytes, contentType, metadata }: Value): number {
  const content = isTextType(contentType)
    ? Buffer.byteLength(JSON.stringify(Buffer.from(bytes).toString()))
    : bytes.length;
  return Buffer.byteLength(metadata) + content + 1000;
}

/** The operation that has the other side hold a value, or nothing. */
export function toSent(id: string, value: Value | null, ifVersion: number, root: string | undefined): object {
  if (value === null) return { op: 'delete', id, children: 'fail', ...(ifVersion > 0 ? { ifVersion } : {}) };
  const { bytes, contentType, kind, metadata, parentId, expiresMs } = value;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  const content = isTextType(contentType) ? text : { jsonText: text };
  const expiresAt = expiresMs === null ? null : new Date(expiresMs).toISOString();
  const place = id === root ? {} : { parentId };
  return {
    op: 'put',
    id,
    ifVersion,
    content,
    contentType,
    kind,
    metadata: { jsonText: metadata },
    expiresAt,
    ...place,
  };
}
