import * as z from 'zod';
import { sha256 } from '../base/hash.ts';
import { invalid } from '../base/problem.ts';
import { later } from './later.ts';

/**
 * A place in a list, opaque to callers and bound to what was asked: a cursor of one list is refused by another.
 *
 * @param query everything that decides what the list holds and in which order.
 */
export function writeCursor(query: unknown, place: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify([bindingOf(query), ...place])).toString('base64url');
}

/** What a place is made of: an id, a time in milliseconds, or a number of things. */
const parts = later(() => ({
  id: z.string().regex(/^[\w.:~-]{1,200}$/),
  ms: z.int().min(-62_135_596_800_000).max(253_402_300_799_999),
  count: z.int().min(0).max(2_147_483_647),
}));

type Place<Shape extends readonly (keyof ReturnType<typeof parts>)[]> = {
  [At in keyof Shape]: z.output<ReturnType<typeof parts>[Shape[At]]>;
};

/** @throws Problem `invalid_request` for a cursor that is none of this list's. */
export function readCursor<const Shape extends readonly (keyof ReturnType<typeof parts>)[]>(
  query: unknown,
  cursor: string | undefined,
  shape: Shape,
): Place<Shape> | undefined {
  if (cursor === undefined) return undefined;
  try {
    const [binding, ...place] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    const isPlace =
      place.length === shape.length && shape.every((part, at) => parts()[part].safeParse(place[at]).success);
    if (binding === bindingOf(query) && isPlace) return place as never;
  } catch {
    // Falls through: what cannot be read is no cursor.
  }
  throw invalid('cursor', 'is none that this list has given out');
}

function bindingOf(query: unknown): string {
  return sha256(JSON.stringify(query)).slice(0, 12);
}
