import { checkJson, type RawJson } from '../base/json-parse.ts';
import { invalid } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import { checkMetadata, unstorable } from '../contexts/metadata.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { contextTooLarge } from '../contexts/outcomes.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import { decodeUtf8 } from './body.ts';
import type { PutFields } from './schemas.ts';

/**
 * The operation that a put's body asks for.
 *
 * @throws Problem where content or metadata cannot be stored as they are.
 */
export function toPut(id: string, body: PutFields, limits: Settings['limits'], path = ''): PutOperation {
  const { content, contentType, metadata, parentId, kind, expiresAt, ttlSeconds, message } = body;
  requireFuture(expiresAt, `${path}/expiresAt`);
  return {
    op: 'put',
    id,
    ...(content === undefined
      ? { withContent: true }
      : { content: toContent(content, contentType ?? jsonType, limits, `${path}/content`) }),
    ...(metadata === undefined ? {} : { metadata: toMetadata(metadata, limits.metadataBytes, `${path}/metadata`) }),
    ...(parentId === undefined ? {} : { parentId }),
    ...(kind === undefined ? {} : { kind }),
    ...(expiresAt === undefined && ttlSeconds !== null ? {} : { expiresAt: expiresAt ?? null }),
    ...(typeof ttlSeconds === 'number' ? { ttlSeconds } : {}),
    ...(message === undefined ? {} : { message }),
  };
}

/** @throws Problem `unprocessable` for a time that is over. */
export function requireFuture(time: string | null | undefined, path: string): void {
  if (typeof time === 'string' && Date.parse(time) <= Date.now()) throw unstorable(path, 'lies in the past');
}

/** The bytes a JSON member stands for: JSON as it was sent, or the characters of a string. */
export function toContent(
  content: RawJson,
  contentType: string,
  limits: Settings['limits'],
  path: string,
): NonNullable<PutOperation['content']> {
  if (!isTextType(contentType)) return sized(Buffer.from(content.raw), contentType, limits);
  if (typeof content.value !== 'string') throw invalid(path, `is a string where the content type is ${contentType}`);
  return sized(Buffer.from(requireNoNul(content.value, path)), contentType, limits);
}

/** The content that raw bytes are: JSON is checked to be I-JSON, text to be UTF-8. */
export function toRawContent(
  bytes: Uint8Array,
  contentType: string,
  limits: Settings['limits'],
): NonNullable<PutOperation['content']> {
  const text = decodeUtf8(bytes);
  if (isTextType(contentType)) requireNoNul(text, '');
  else checkJson(text);
  return sized(bytes, contentType, limits);
}

function sized(bytes: Uint8Array, contentType: string, limits: Settings['limits']) {
  if (bytes.length > limits.contextBytes) throw contextTooLarge(bytes.length, limits.contextBytes);
  return { bytes, contentType };
}

function requireNoNul(text: string, path: string): string {
  if (text.includes('\u0000')) throw unstorable(path, 'U+0000 cannot be kept in text');
  return text;
}

function toMetadata(metadata: RawJson, bytesMax: number, path: string): string | null {
  if (metadata.value === null) return null;
  checkMetadata(metadata, bytesMax, path);
  return metadata.raw;
}
