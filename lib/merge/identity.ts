import { canonicalNumber, isJsonObject, isSameJson, type Json } from '../base/json.ts';

/** A number that two values share exactly when they are equal by `isSameJson`. */
export type Identify = (value: Json) => number;

/**
 * Numbers values by what they say (hash consing), reading each array and object once: comparing documents level by level
 * would otherwise cost their depth times their size.
 */
export function createIdentify(): Identify {
  const numbers = new Map<string, number>();
  const known = new Map<object, number>();
  const intern = (text: string) => {
    const number = numbers.get(text) ?? numbers.size;
    if (number === numbers.size) numbers.set(text, number);
    return number;
  };
  const print = (value: object & Json): string => {
    if (Array.isArray(value)) return `[${value.map(identify).join()}`;
    if (!isJsonObject(value)) return `#${canonicalNumber(value.number)}`;
    const keys = [...value.keys()].sort();
    return `{${keys.map((key) => `${identify(key)}:${identify(value.get(key) as Json)}`).join()}`;
  };
  function identify(value: Json): number {
    if (typeof value === 'string') return intern(`"${value}`);
    if (typeof value !== 'object' || value === null) return intern(String(value));
    const number = known.get(value) ?? intern(print(value));
    known.set(value, number);
    return number;
  }
  return identify;
}

// Near the root a direct comparison ends at the first difference, which is cheaper than reading everything.
const directDepth = 8;

/** Whether two values are equal, at a cost that stays linear in the document however deep it is compared. */
export function isSameAt(depth: number, left: Json, right: Json, identify: Identify): boolean {
  return depth < directDepth ? isSameJson(left, right) : left === right || identify(left) === identify(right);
}
