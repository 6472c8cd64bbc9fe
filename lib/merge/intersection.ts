import { canonicalJson, isJsonObject, isSameJson, type Json, type JsonObject } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { areTexts, type Document, fromJson, fromText, type Source, toLines, toValue } from './document.ts';

/**
 * Only what all sources agree on: common keys, recursively; array elements and lines as often as in the source with
 * fewest, in the first's order; equal scalars.
 *
 * @throws Problem `unprocessable` where the roots differ.
 */
export function intersection(sources: readonly [Source, ...Source[]]): Document {
  const all: readonly Source[] = sources;
  if (areTexts(all)) {
    const [first = [], ...others] = all.map((source) => toLines(source.text));
    const text = keepCommon(first, others, String).join('');
    return fromText(text, sources[0].contentType, sources);
  }
  const root = sources.every((source) => source.kind === 'json') ? intersect(sources.map(toValue)) : undefined;
  if (root === undefined)
    throw new Problem('unprocessable', 'The sources have nothing in common, not even their type.');
  return fromJson(root, sources);
}

function intersect(values: readonly Json[]): Json | undefined {
  const [first = null, ...others] = values;
  if (isJsonObject(first) && others.every(isJsonObject)) return intersectObjects(first, others);
  if (Array.isArray(first) && others.every(Array.isArray)) return keepCommon(first, others, canonicalJson);
  return others.every((other) => isSameJson(first, other)) ? first : undefined;
}

function intersectObjects(first: JsonObject, others: readonly JsonObject[]): JsonObject {
  const common: JsonObject = new Map();
  for (const [key, member] of first) {
    const same = others.map((other) => other.get(key));
    if (same.some((value) => value === undefined)) continue;
    const value = intersect([member, ...(same as Json[])]);
    if (value !== undefined) common.set(key, value);
  }
  return common;
}

function keepCommon<Element>(
  first: readonly Element[],
  others: readonly (readonly Element[])[],
  keyOf: (element: Element) => string,
): Element[] {
  const counts = others.map((elements) => {
    const count = new Map<string, number>();
    for (const element of elements) count.set(keyOf(element), (count.get(keyOf(element)) ?? 0) + 1);
    return count;
  });
  return first.filter((element) => {
    const key = keyOf(element);
    if (!counts.every((count) => (count.get(key) ?? 0) > 0)) return false;
    for (const count of counts) count.set(key, (count.get(key) ?? 0) - 1);
    return true;
  });
}
