import { isJsonObject, type Json, type JsonObject, printJson } from '../base/json.ts';
import { type Document, toValue } from './document.ts';

/**
 * Folds documents from the outermost to the nearest: two objects key by key, recursively; anything else, the nearer
 * replaces. When all are text they are joined, outermost first, by a blank line.
 *
 * @returns the bytes of the nearest where nothing was folded into it.
 */
export function foldDocuments(documents: readonly Document[]): Uint8Array {
  const nearest = documents.at(-1) as Document;
  if (nearest.kind === 'text') {
    if (!documents.every(({ kind }) => kind === 'text')) return nearest.bytes;
    const texts = documents.map(({ bytes }) => Buffer.from(bytes).toString());
    const above = texts.slice(0, -1).map((text) => `${text.replace(/\n+$/, '')}\n\n`);
    return Buffer.from([...above, texts.at(-1)].join(''));
  }
  const folded = documents.map(toValue).reduce(fold);
  return folded === nearest.value ? nearest.bytes : Buffer.from(printJson(folded));
}

function fold(outer: Json, inner: Json): Json {
  if (!isJsonObject(outer) || !isJsonObject(inner)) return inner;
  const folded: JsonObject = new Map(outer);
  for (const [key, value] of inner) {
    const above = folded.get(key);
    folded.set(key, above === undefined ? value : fold(above, value));
  }
  return folded;
}
