import type { JsonText } from '../base/json.ts';
import { parseJson, type RawJson } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import { jsonType } from '../merge/document.ts';
import type { ResourceLink, Session } from './tool.ts';

/** The URI of a version of a context; of the head where none is named. */
export function contextUri(id: string, version?: number): string {
  return `context://${encodeURIComponent(id)}${version === undefined ? '' : `?version=${version}`}`;
}

/** Where a content too large to be told can be read. */
export function toLink({ id, version, contentType, sizeBytes }: Context): ResourceLink {
  const mimeType = contentType ?? jsonType;
  return { uri: contextUri(id, version), name: id, mimeType, size: sizeBytes };
}

/** A part of a content. */
export interface Part {
  readonly text: string;
  /** In bytes, the end not included; moved to where characters begin. */
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a part of a content, in at most as many bytes as `length` says, whole characters only.
 *
 * @throws Problem `range_not_satisfiable` where it begins behind the end.
 */
export async function readPart(
  { manager, request }: Session,
  context: Context,
  { start, length }: { readonly start: number; readonly length: number },
): Promise<Part> {
  const { sizeBytes } = context;
  if (start > 0 && start >= sizeBytes) {
    throw new Problem('range_not_satisfiable', `The content has ${sizeBytes} bytes.`, { sizeBytes });
  }
  const pieces: Uint8Array[] = [];
  const end = Math.min(start + length, sizeBytes);
  for await (const piece of manager.contexts.streamContent(request, context, start, end)) pieces.push(piece);
  const bytes = Buffer.concat(pieces);
  let first = 0;
  while (first < bytes.length && isContinuation(bytes[first])) first++;
  let last = bytes.length;
  if (end < sizeBytes) last = wholeCharacters(bytes);
  return { text: bytes.toString('utf8', first, last), start: start + first, end: start + last };
}

const isContinuation = (byte: number | undefined) => byte !== undefined && (byte & 0xc0) === 0x80;

/** How many of the bytes are whole characters: the last one may have been cut. */
function wholeCharacters(bytes: Uint8Array): number {
  let lead = bytes.length - 1;
  while (lead > 0 && bytes.length - lead < 4 && isContinuation(bytes[lead])) lead--;
  const byte = bytes[lead] ?? 0;
  const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
  return lead + length > bytes.length ? lead : bytes.length;
}

/**
 * A content of a call's arguments as the store takes it; see {@link readMessage}.
 *
 * @throws Problem `unprocessable` for a duplicate key, a lone surrogate, or nesting beyond 200.
 */
export function toRawJson(sent: unknown): RawJson {
  const { jsonText: raw } = sent as JsonText;
  return { raw, value: parseJson(raw) };
}
