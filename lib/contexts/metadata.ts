import { isJsonNumber, isJsonObject, type Json } from '../base/json.ts';
import { invalid, Problem } from '../base/problem.ts';

const tagsMax = 64;
const tagLengthMax = 128;

/**
 * Checks that a JSON object can be kept as metadata.
 *
 * @param bytesMax counts the text and what its exponents expand to, since jsonb keeps numbers as decimals.
 * @throws Problem `invalid_request` for what is no object, too large or has too many tags, `unprocessable` for what jsonb
 *   cannot keep; `path` is named in both.
 */
export function checkMetadata(
  metadata: { readonly raw: string; readonly value: Json },
  bytesMax: number,
  path: string,
): void {
  const { raw, value } = metadata;
  if (!isJsonObject(value)) throw invalid(path, 'is a JSON object or null');
  if (Buffer.byteLength(raw) > bytesMax) throw invalid(path, `has at most ${bytesMax} bytes`);
  const tags = value.get('tags');
  if (Array.isArray(tags)) {
    if (tags.length > tagsMax) throw invalid(`${path}/tags`, `has at most ${tagsMax} tags`);
    const isLong = tags.some((tag) => typeof tag === 'string' && tag.length > tagLengthMax);
    if (isLong) throw invalid(`${path}/tags`, `a tag has at most ${tagLengthMax} characters`);
  }
  if (Buffer.byteLength(raw) + expansion(value, path) > bytesMax) {
    throw invalid(path, `has at most ${bytesMax} bytes, its numbers written out`);
  }
}

/** Beyond this a number cannot be meant. */
const exponentMax = 1000;

/** How many digits the exponents in a value stand for. */
function expansion(value: Json, path: string): number {
  if (typeof value === 'string') {
    if (value.includes('\u0000')) throw unstorable(path, 'U+0000 cannot be kept in metadata');
    return 0;
  }
  if (isJsonNumber(value)) {
    const exponent = Math.abs(Number(/[eE]([+-]?\d+)$/.exec(value.number)?.[1] ?? 0));
    if (exponent > exponentMax || value.number.length > exponentMax) {
      throw unstorable(path, `a number has at most ${exponentMax} digits and an exponent of at most ${exponentMax}`);
    }
    return exponent;
  }
  if (Array.isArray(value)) return value.reduce<number>((sum, one, at) => sum + expansion(one, `${path}/${at}`), 0);
  if (!isJsonObject(value)) return 0;
  let sum = 0;
  for (const [key, member] of value) sum += expansion(key, path) + expansion(member, `${path}/${key}`);
  return sum;
}

/** A 422 for what is well formed and still cannot be stored. */
export function unstorable(path: string, message: string): Problem {
  return new Problem('unprocessable', `${path || 'The content'}: ${message}.`, { errors: [{ path, message }] });
}
