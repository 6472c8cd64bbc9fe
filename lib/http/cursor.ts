import { sha256 } from '../base/hash.ts';
import { invalid } from '../base/problem.ts';

/**
 * A place in a list, opaque to callers and bound to what was asked: a cursor of one list is refused by another.
 *
 * @param query everything that decides what the list holds and in which order.
 */
export function writeCursor(query: unknown, place: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify([bindingOf(query), ...place])).toString('base64url');
}

/** @throws Problem `invalid_request` for a cursor that is none of this list's. */
export function readCursor(query: unknown, cursor: string | undefined): (string | number)[] | undefined {
  if (cursor === undefined) return undefined;
  try {
    const [binding, ...place] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as (string | number)[];
    const isPlace = place.length > 0 && place.every((part) => typeof part === 'string' || Number.isSafeInteger(part));
    if (binding === bindingOf(query) && isPlace) return place;
  } catch {
    // Falls through: what cannot be read is no cursor.
  }
  throw invalid('cursor', 'is none that this list has given out');
}

function bindingOf(query: unknown): string {
  return sha256(JSON.stringify(query)).slice(0, 12);
}
