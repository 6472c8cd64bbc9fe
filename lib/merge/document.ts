import { isSameJson, type Json, printJson } from '../base/json.ts';
import { parseJson } from '../base/json-parse.ts';

/** A content as merging sees it. */
export type Document =
  | { readonly kind: 'json'; readonly contentType: string; readonly bytes: Uint8Array; readonly value: Json }
  | { readonly kind: 'text'; readonly contentType: string; readonly bytes: Uint8Array; readonly text: string };

/** A document with what decides which is the latest. */
export type Source = Document & {
  /** Server time of the version in milliseconds; infinite for a content that was sent along. */
  readonly updatedMs: number;
  readonly version: number;
};

export type TextSource = Extract<Source, { kind: 'text' }>;

export function areTexts(sources: readonly Source[]): sources is readonly TextSource[] {
  return sources.every((source) => source.kind === 'text');
}

export const jsonType = 'application/json';

export function isTextType(contentType: string): boolean {
  return contentType.startsWith('text/');
}

/** Reads stored bytes by their content type. */
export function toDocument(bytes: Uint8Array, contentType: string): Document {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  return isTextType(contentType)
    ? { kind: 'text', contentType, bytes, text }
    : { kind: 'json', contentType, bytes, value: parseJson(text) };
}

export function isSameDocument(left: Document, right: Document): boolean {
  if (left.kind === 'json') return right.kind === 'json' && isSameJson(left.value, right.value);
  return right.kind === 'text' && left.text === right.text;
}

/** A new JSON document, or the source it equals, byte for byte. */
export function fromJson(value: Json, sources: readonly Document[]): Document {
  for (const source of sources) if (source.kind === 'json' && isSameJson(source.value, value)) return source;
  return { kind: 'json', contentType: jsonType, bytes: Buffer.from(printJson(value)), value };
}

/** A new text document, or the source it equals. */
export function fromText(text: string, contentType: string, sources: readonly Document[]): Document {
  for (const source of sources) if (source.kind === 'text' && source.text === text) return source;
  return { kind: 'text', contentType, bytes: Buffer.from(text), text };
}

/** The lines of a text, each with its line break. */
export function toLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

/** A document as a value of a conflict's side: JSON as it is, text as a string. */
export function toValue(document: Document): Json {
  return document.kind === 'json' ? document.value : document.text;
}
