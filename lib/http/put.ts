import { isJsonNumber, isJsonObject, type Json } from '../base/json.ts';
import { parseJson, type RawJson } from '../base/json-parse.ts';
import { invalid, Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import { contextTooLarge } from '../versions/revisions.ts';
import { decodeUtf8 } from './body.ts';
import type { PutFields } from './schemas.ts';

/**
 * The operation that a put's body asks for.
 *
 * @throws Problem where content or metadata cannot be stored as they are.
 */
export function toPut(id: string, body: PutFields, limits: Settings['limits'], path = ''): PutOperation {
  const { content, contentType, metadata, parentId, kind, expiresAt, ttlSeconds, message } = body;
  if (typeof expiresAt === 'string' && Date.parse(expiresAt) <= Date.now()) {
    throw new Problem('unprocessable', `${path}/expiresAt lies in the past.`, {
      errors: [{ path: `${path}/expiresAt`, message: 'lies in the past' }],
    });
  }
  return {
    op: 'put',
    id,
    ...(content === undefined
      ? { withContent: true }
      : { content: toContent(content, contentType ?? jsonType, limits, `${path}/content`) }),
    ...(metadata === undefined ? {} : { metadata: toMetadata(metadata, limits.metadataBytes, `${path}/metadata`) }),
    ...(parentId === undefined ? {} : { parentId }),
    ...(kind === undefined ? {} : { kind }),
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
    ...(message === undefined ? {} : { message }),
  };
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
  else parseJson(text);
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

const tagsMax = 64;
const tagLengthMax = 128;

function toMetadata(metadata: RawJson, bytesMax: number, path: string): string | null {
  const { raw, value } = metadata;
  if (value === null) return null;
  if (!isJsonObject(value)) throw invalid(path, 'is a JSON object or null');
  if (Buffer.byteLength(raw) > bytesMax) throw invalid(path, `has at most ${bytesMax} bytes`);
  const tags = value.get('tags');
  if (Array.isArray(tags)) {
    if (tags.length > tagsMax) throw invalid(`${path}/tags`, `has at most ${tagsMax} tags`);
    const isLong = tags.some((tag) => typeof tag === 'string' && tag.length > tagLengthMax);
    if (isLong) throw invalid(`${path}/tags`, `a tag has at most ${tagLengthMax} characters`);
  }
  requireStorable(value, path);
  return raw;
}

// jsonb keeps numbers as decimals: an exponent of a million would become a million digits.
const exponentMax = 1000;

function requireStorable(value: Json, path: string): void {
  if (typeof value === 'string' && value.includes('\u0000'))
    throw unstorable(path, 'U+0000 cannot be kept in metadata');
  if (isJsonNumber(value)) {
    const exponent = Number(/[eE]([+-]?\d+)$/.exec(value.number)?.[1] ?? 0);
    if (Math.abs(exponent) > exponentMax || value.number.length > exponentMax) {
      throw unstorable(path, `a number has at most ${exponentMax} digits and an exponent of at most ${exponentMax}`);
    }
  } else if (Array.isArray(value)) {
    value.forEach((element, index) => {
      requireStorable(element, `${path}/${index}`);
    });
  } else if (isJsonObject(value)) {
    for (const [key, member] of value) {
      requireStorable(key, path);
      requireStorable(member, `${path}/${key}`);
    }
  }
}

function unstorable(path: string, message: string): Problem {
  return new Problem('unprocessable', `${path || 'The content'}: ${message}.`, { errors: [{ path, message }] });
}
