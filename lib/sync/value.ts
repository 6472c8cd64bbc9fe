import { sha256 } from '../base/hash.ts';
import { canonicalJson } from '../base/json.ts';
import { parseJson } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import { checkMetadata } from '../contexts/metadata.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { isTextType, jsonType } from '../merge/document.ts';

/** What one side of a synchronisation holds of an item: a context, as far as the other side can hold one. */
export interface Value {
  readonly kind: string;
  readonly contentType: string;
  readonly bytes: Uint8Array;
  /** A JSON object as text. */
  readonly metadata: string;
  readonly parentId: string | null;
  /** Milliseconds since 1970; null never expires. */
  readonly expiresMs: number | null;
}

/** A value as one side has it now. */
export interface Held {
  readonly value: Value;
  /** When that side wrote it, by its own clock; infinite where it cannot tell, which counts as now. */
  readonly updatedMs: number;
}

/**
 * What of a context a peer can hold. Two values are the same where their fingerprints are; what a lens leaves out, such as
 * the metadata of a context for a memory server, is neither compared nor changed.
 */
export interface Lens {
  /** Kinds of the contexts that the peer can hold; null holds any. */
  readonly kinds: readonly string[] | null;
  /** Whether the peer can tell which context lies below which. */
  readonly hasPlace: boolean;
  /** Whether a context of this id may be one that the peer can hold. */
  mayHold(id: string): boolean;
  /** The context as the peer can hold it; undefined for one that it cannot hold and that is none of its business. */
  view(context: Context): Value | undefined;
  /** SHA-256 of what makes two values the same, 64 hexadecimal digits. */
  fingerprint(value: Value): string;
  /** The write that makes `head` (null where there is none) hold the value; what is new comes into the subtree, if any. */
  toPut(id: string, value: Value, head: Context | null, subtree: string | undefined): PutOperation;
}

/**
 * The lens of a peer that holds contexts whole.
 *
 * @param root the context whose own place is no part of what is synchronised: it may lie below another one on each side.
 */
export function createWholeLens(root: string | undefined): Lens {
  return {
    kinds: null,
    hasPlace: true,
    mayHold: () => true,
    view({ id, kind, contentType, content, metadata, parentId, expiresMs }) {
      if (content === undefined || contentType === null) return undefined;
      return { kind, contentType, bytes: content, metadata, parentId: id === root ? null : parentId, expiresMs };
    },
    fingerprint: ({ bytes, ...rest }) => printWhole({ ...rest, hash: sha256(bytes) }),
    toPut(id, { kind, contentType, bytes, metadata, parentId, expiresMs }) {
      const expiresAt = expiresMs === null ? null : new Date(expiresMs).toISOString();
      const place = id === root ? {} : { parentId };
      return { op: 'put', id, content: { bytes, contentType }, kind, metadata, expiresAt, ...place };
    },
  };
}

/** The fingerprint of a value by the hash of its content, for who has not the content at hand. */
export function printWhole(value: Omit<Value, 'bytes'> & { readonly hash: string }): string {
  const { kind, contentType, hash, metadata, parentId, expiresMs } = value;
  return sha256(JSON.stringify([kind, contentType, hash, canonicalJson(parseJson(metadata)), parentId, expiresMs]));
}

const idForm = /^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$/;
const kindForm = /^[a-z0-9.-]{1,64}$/;
const timesMs = { first: Date.parse('0001-01-01T00:00:00Z'), last: Date.parse('9999-12-31T23:59:59.999Z') };

/** Why a value that a peer has told cannot be a context; undefined where it can. A peer may tell anything. */
export function faultOf(
  value: Value,
  limits: { readonly contextBytes: number; readonly metadataBytes: number },
): string | undefined {
  const { kind, contentType, bytes, metadata, parentId, expiresMs } = value;
  if (bytes.length > limits.contextBytes)
    return `It has ${bytes.length} bytes; a context holds ${limits.contextBytes}.`;
  if (!kindForm.test(kind)) return 'Its kind is none that a context can have.';
  if (contentType !== jsonType && !isTextType(contentType)) return 'Its content type is none that a context can have.';
  if (parentId !== null && !idForm.test(parentId)) return 'Its parent has an id that no context can have.';
  if (expiresMs !== null && !(expiresMs >= timesMs.first && expiresMs <= timesMs.last))
    return 'It expires at no time there is.';
  try {
    checkMetadata({ raw: metadata, value: parseJson(metadata) }, limits.metadataBytes, '/metadata');
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (contentType === jsonType) parseJson(text);
    else if (text.includes('\u0000')) return 'Its text holds U+0000.';
    return undefined;
  } catch (error) {
    return error instanceof Problem ? error.message : 'Its content is no UTF-8.';
  }
}

/** Whether an id that a peer has told can be one of a context. */
export const isContextId = (id: string): boolean => idForm.test(id);
