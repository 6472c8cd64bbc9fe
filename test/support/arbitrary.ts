import fc from 'fast-check';
import type { Json } from '../../lib/base/json.ts';
import { printJson } from '../../lib/base/json.ts';
import { type Source, toDocument } from '../../lib/merge/document.ts';

const keys = fc.constantFrom('a', 'b', 'c', 'id', '__proto__', 'constructor', 'x/y', 'm~n', '', '0', '10', 'é');
const numbers = fc.constantFrom('0', '-0', '1', '1.0', '10e-1', '2', '12345678901234567890', '1e400', '0.10', '-3.5E2');
const strings = fc.constantFrom('', 'a', 'b', 'é\n"\\', '😀', 'toString');

/** Small JSON values that collide often: few keys, numbers of equal value and different spelling. */
export const json: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.constantFrom<Json>(null, true, false),
    numbers.map((number): Json => ({ number })),
    strings,
    fc.array(tie('value'), { maxLength: 5 }),
    fc
      .uniqueArray(fc.tuple(keys, tie('value')), { maxLength: 5, selector: ([key]) => key })
      .map((members): Json => new Map(members)),
  ),
})).value;

/** An object or array, so that there is something to merge below the root. */
export const container: fc.Arbitrary<Json> = json.filter((value) => value instanceof Map || Array.isArray(value));

/** A list of objects with unique ids, as agents keep them. */
export const entities: fc.Arbitrary<Json> = fc
  .uniqueArray(fc.tuple(fc.constantFrom('1', '2', '3', '4', '5', '6'), json), { maxLength: 6, selector: ([id]) => id })
  .map(
    (items): Json =>
      items.map(
        ([id, value]): Json =>
          new Map<string, Json>([
            ['id', id],
            ['value', value],
          ]),
      ),
  );

/** A list of objects that only their names tell apart, and sometimes not even those. */
export const named: fc.Arbitrary<Json> = fc
  .array(fc.tuple(fc.constantFrom('n1', 'n2', 'n3', 'n4', 'n5'), fc.constantFrom('k1', 'k2'), json), { maxLength: 6 })
  .map(
    (items): Json =>
      items.map(
        ([name, kind, value]): Json =>
          new Map<string, Json>([
            ['name', name],
            ['kind', kind],
            ['value', value],
          ]),
      ),
  );

export const text = fc
  .array(fc.constantFrom('one\n', 'two\n', 'three\n', '\n', 'last'), { maxLength: 12 })
  .map((lines) => lines.join(''));

export function jsonSource(value: Json, updatedMs = 1, version = 1): Source {
  return { ...toDocument(Buffer.from(printJson(value)), 'application/json'), updatedMs, version };
}

export function textSource(value: string, updatedMs = 1, version = 1): Source {
  return { ...toDocument(Buffer.from(value), 'text/plain'), updatedMs, version };
}
