import { invalid } from '../base/problem.ts';
import type { Precondition } from '../contexts/operation.ts';
import type { HeaderReader } from './mount.ts';

/** How an answer may be compressed. */
export type Coding = 'zstd' | 'gzip';

/** The entity tag of an answer when it is compressed: other bytes are another representation (RFC 9110, 8.8.3.3). */
export const toCodedTag = (tag: string, coding: Coding) => tag.replace(/"$/, `-${coding}"`);

const toPlainTag = (tag: string) => tag.replace(/-(?:zstd|gzip)"$/, '"');

/** No version has this number, so a precondition on it never holds. */
const noVersion = -1;

/**
 * What `If-Match` and `If-None-Match` ask of a write. An entity tag that is no version's, such as a resolved context's,
 * never matches; that of a compressed answer is its version's.
 *
 * @throws Problem `invalid_request` for a header that is no entity tag, or for both headers at once.
 */
export function readPrecondition(headers: HeaderReader): Precondition {
  const match = headers.get('if-match')?.trim();
  const noneMatch = headers.get('if-none-match')?.trim();
  if (match !== undefined && noneMatch !== undefined) {
    throw invalid('If-None-Match', 'cannot be sent together with If-Match');
  }
  if (noneMatch !== undefined) {
    if (noneMatch !== '*') throw invalid('If-None-Match', 'is * on a write');
    return { ifAbsent: true };
  }
  if (match === undefined) return {};
  if (match === '*') return { ifLive: true };
  if (!/^(W\/)?"[^"]*"$/.test(match)) throw invalid('If-Match', 'is * or one entity tag, such as "3"');
  const version = /^"([1-9]\d{0,8})"$/.exec(toPlainTag(match))?.[1];
  return { ifVersion: version === undefined ? noVersion : Number(version) };
}

/** The entity tag, compressed or not, by which a read's `If-None-Match` knows it already, so that 304 is the answer. */
export function knownTag(headers: HeaderReader, tag: string): string | undefined {
  const header = headers.get('if-none-match');
  if (header === null) return undefined;
  const sent = header.split(',').map((one) => one.trim().replace(/^W\//, ''));
  return sent.includes('*') ? tag : sent.find((one) => toPlainTag(one) === tag);
}

/**
 * The bytes a `Range` asks for, as [start, end); undefined where the whole is to be sent (no header, a unit or form
 * nobody needs to know, or several ranges), null where it lies outside.
 */
export function readRange(
  headers: HeaderReader,
  sizeBytes: number,
  tag: string,
): { start: number; end: number } | null | undefined {
  const header = headers.get('range');
  const condition = headers.get('if-range');
  if (header === null || (condition !== null && condition.trim() !== tag)) return undefined;
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header.trim()) ?? [];
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const length = Math.min(Number(last), sizeBytes);
    return length === 0 ? null : { start: sizeBytes - length, end: sizeBytes };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= sizeBytes ? null : { start, end };
}
