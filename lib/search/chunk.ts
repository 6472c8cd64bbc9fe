import { sha256 } from '../base/hash.ts';
import { cutText } from '../base/text.ts';
import type { ContextHead } from '../contexts/context.ts';
import { jsonType } from '../merge/document.ts';
import { chunkJson } from './chunk-json.ts';
import { chunkMarkdown, chunkText, createCursor } from './chunk-text.ts';
import { jsonTurns, textTurns } from './chunk-turns.ts';
import { readNodes } from './json-nodes.ts';

/** A stretch of a content, cut where the content itself has a boundary. */
export interface Piece {
  /** What it says, as people read it. */
  readonly text: string;
  /** Where it stands: headings, or a JSON Pointer; empty at the top. */
  readonly path: string;
  /** Where it begins and ends in the content as it is stored, in UTF-16 units. */
  readonly start: number;
  readonly end: number;
}

/** A piece as it is indexed. */
export interface Chunk {
  /** 32 hexadecimal digits, made of what is indexed: what stays the same keeps its key over all versions of its context. */
  readonly key: string;
  /** What stands above the text when it is indexed: the title of its context and its path. */
  readonly header: string;
  readonly text: string;
  /** In bytes of the content, the end not included. */
  readonly start: number;
  readonly end: number;
}

export interface Chunked {
  readonly chunks: readonly Chunk[];
  /** A transcript of short turns, each one chunk: what surrounds a turn then tells about it. */
  readonly isTranscript: boolean;
}

// Raised whenever a text is analysed otherwise than before, so that a rebuild makes all chunks anew.
const revision = 1;

// A turn of this many characters or more says enough by itself.
const shortTurn = 400;

/** A chunk's text as it is indexed. */
export const toIndexed = ({ header, text }: Pick<Chunk, 'header' | 'text'>) =>
  header === '' ? text : `${header}\n${text}`;

/** Cuts a content into chunks of about 1,000 characters, the size that found most in docs/search.md. */
export function chunkContext(head: ContextHead, content: Uint8Array): Chunked {
  const text = Buffer.from(content.buffer, content.byteOffset, content.length).toString();
  const { isOfTurns, pieces } = cut(text, head.contentType ?? jsonType);
  const seen = new Map<string, number>();
  const toBytes = createOffsets(text, content.length);
  const title = titleOf(head) ?? '';
  const chunks = pieces.flatMap((piece): Chunk[] => {
    const own = toStorable(piece.text).trim();
    if (own === '') return [];
    const header = toStorable([title, piece.path].filter(Boolean).join(' › '));
    const name = sha256(`${revision}\n${header}\n${own}`);
    const occurrence = seen.get(name) ?? 0;
    seen.set(name, occurrence + 1);
    const key = sha256(`${name}\n${occurrence}`).slice(0, 32);
    return [{ key, header, text: own, ...toBytes(piece) }];
  });
  const isTranscript = isOfTurns && text.length / Math.max(chunks.length, 1) < shortTurn;
  return { chunks, isTranscript };
}

/** PostgreSQL has no text with U+0000 or half a character in it. */
const toStorable = (text: string) => text.replaceAll('\u0000', ' ').toWellFormed();

/** What its metadata calls a context; null where it has no name. */
export function titleOf({ metadata }: Pick<ContextHead, 'metadata'>): string | null {
  const { title } = JSON.parse(metadata) as { title?: unknown };
  return typeof title === 'string' && title.trim() !== '' ? cutText(title.trim(), 200) : null;
}

/** Between turns where it is a conversation, else as its type has boundaries. */
function cut(text: string, contentType: string): { isOfTurns: boolean; pieces: Piece[] } {
  const root = contentType === jsonType ? readNodes(text) : undefined;
  const turns = root === undefined ? textTurns(text) : jsonTurns(text, root);
  if (turns !== undefined) return { isOfTurns: true, pieces: turns };
  if (root !== undefined) return { isOfTurns: false, pieces: chunkJson(text, root) };
  return { isOfTurns: false, pieces: contentType === 'text/markdown' ? chunkMarkdown(text) : chunkText(text) };
}

/** Turns places in a text into places in its bytes. */
function createOffsets(text: string, sizeBytes: number) {
  if (text.length === sizeBytes) return ({ start, end }: Piece) => ({ start, end });
  const bytesOf = (from: number, to: number) =>
    from <= to ? Buffer.byteLength(text.slice(from, to)) : -Buffer.byteLength(text.slice(to, from));
  const [starts, ends] = [createCursor(bytesOf), createCursor(bytesOf)];
  return ({ start, end }: Piece) => ({ start: starts(start), end: ends(end) });
}
