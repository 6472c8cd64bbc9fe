import { canonicalNumber, isJsonNumber, isSameJson, type Json, type JsonObject } from '../base/json.ts';
import type { Work } from './align.ts';

/** A number that two values share exactly when they are equal by `isSameJson`. */
export type Identify = (value: Json) => number;

// What looking into an array or object takes of the work, beside one step for each value.
const containerSteps = 7;

/**
 * Numbers values by what they say (hash consing), reading each array and object once: comparing documents level by level
 * would otherwise cost their depth times their size.
 *
 * @param work absent for no end. Used up, arrays and objects are not looked into any more and count as equal to none.
 */
export function createIdentify(work?: Work): Identify {
  const numbers = new Map<string | number, number>();
  const known = new Map<object, number>();
  let count = 0;
  const intern = (key: string | number) => {
    const number = numbers.get(key);
    if (number !== undefined) return number;
    numbers.set(key, count);
    return count++;
  };
  const print = (container: Json[] | JsonObject): string => {
    let text = '';
    if (Array.isArray(container)) {
      for (const element of container) text += `,${identify(element)}`;
      return `[${text}`;
    }
    const keys = [...container.keys()].sort();
    for (const key of keys) text += `,${identify(key)}:${identify(container.get(key) as Json)}`;
    return `{${text}`;
  };
  function identify(value: Json): number {
    if (work) work.steps--;
    if (typeof value === 'string') return intern(`"${value}`);
    if (typeof value !== 'object' || value === null) return intern(String(value));
    if (isJsonNumber(value)) return intern(numberKey(value.number));
    const seen = known.get(value);
    if (seen !== undefined) return seen;
    if (work) work.steps -= containerSteps;
    const number = work && work.steps <= 0 ? count++ : intern(print(value));
    known.set(value, number);
    return number;
  }
  return identify;
}

/** The same for all spellings of a decimal value: the number itself where a double holds it for certain. */
function numberKey(spelling: string): string | number {
  if (/^-?[1-9]\d{0,14}$/.test(spelling)) return Number(spelling);
  const canonical = canonicalNumber(spelling);
  const [, digits, exponent] = /^-?(\d{1,15})e(\d{1,2})$/.exec(canonical) ?? [];
  if (digits !== undefined && digits.length + Number(exponent) <= 15) return Number(canonical);
  return `#${canonical}`;
}

// Near the root a direct comparison ends at the first difference, which is cheaper than reading everything.
const directDepth = 8;

/** Whether two values are equal, at a cost that stays linear in the document however deep it is compared. */
export function isSameAt(depth: number, left: Json, right: Json, identify: Identify): boolean {
  return depth < directDepth ? isSameJson(left, right) : left === right || identify(left) === identify(right);
}
