import { canonicalJson, isJsonObject, type Json } from '../base/json.ts';

/**
 * The canonical `id` of each element that is an object with one, undefined for the others; undefined for the whole
 * array where two elements share an id.
 */
export function idsOf(elements: readonly Json[]): (string | undefined)[] | undefined {
  const seen = new Set<string>();
  const ids: (string | undefined)[] = [];
  for (const element of elements) {
    const id = isJsonObject(element) ? element.get('id') : undefined;
    const text = id === undefined ? undefined : canonicalJson(id);
    if (text !== undefined && seen.has(text)) return undefined;
    if (text !== undefined) seen.add(text);
    ids.push(text);
  }
  return ids;
}
