import { sha256 } from '../base/hash.ts';
import { align } from '../merge/align.ts';

/** A context's text in a file, between two markers that are lines of their own. */
export interface Block {
  readonly id: string;
  /** The version that stood here last; undefined in a block that somebody has written by hand. */
  readonly version: number | undefined;
  /** Of that version's text, so that an edit is seen. */
  readonly hash: string | undefined;
  /** What stands there now, in the form of {@link toBlockText}. */
  readonly text: string;
  /** The line of its first marker, from 1. */
  readonly line: number;
  /** Where the first marker, and what is between the lines of both, stand in the file's bytes: [start, end). */
  readonly marker: Span;
  readonly inner: Span;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** What a block shall say. */
export interface Filling {
  readonly version: number;
  /** The text of that version; what is written may be another, with edits that it does not have yet. */
  readonly versionText: string;
  readonly text: string;
}

const hashDigits = 12;
const opening =
  /^( {0,3})<!-- lamina:begin id=([A-Za-z0-9][A-Za-z0-9._:~-]{0,199})(?: version=([1-9]\d{0,8}) hash=([0-9a-f]{12}))? -->[ \t]*$/;
const closing = /^ {0,3}<!-- lamina:end -->[ \t]*$/;
const anyMarker = /^ {0,3}<!--[ \t]*lamina:/i;
const byteOrderMark = '\u00ef\u00bb\u00bf';

/** A text as a block has it: lines ended by `\n`, the last one by nothing; files and contexts end theirs as they like. */
export const toBlockText = (text: string) => text.replaceAll(/\r+\n/g, '\n').replace(/\r*\n?$/, '');

/** The short hash by which a marker knows the text of its version. */
export const hashBlock = (text: string) => sha256(toBlockText(text)).slice(0, hashDigits);

/** Whether a block is not what its version was. */
export const isEdited = ({ hash, text }: Block) => hash !== hashBlock(text);

/**
 * A block's text with the line ends of the version it was made from, each line of that version with its own, so that no
 * line counts as changed that nobody has touched. New lines end as most of them do, and a new context ends with `\n`.
 */
export function toContextText(text: string, version: string | undefined): string {
  if (version !== undefined && toBlockText(version) === text) return version;
  if (text === '') return '';
  if (version === undefined || version === '') return `${text}\n`;
  // Lines and their ends by turns.
  const old = version.split(/(\r*\n)/);
  const lines = text.split('\n');
  const usual = lineEnd(version);
  const ends = lines.map((): string => usual);
  const matches = align(
    old.filter((_, at) => at % 2 === 0),
    lines,
  );
  for (const { leftAt, rightAt, length } of matches) {
    for (let at = 0; at < length; at++) ends[rightAt + at] = old[2 * (leftAt + at) + 1] ?? usual;
  }
  const isEnded = version.endsWith('\n') || lines.at(-1) === '';
  return lines.map((line, at) => line + (isEnded || at < lines.length - 1 ? ends[at] : '')).join('');
}

/**
 * The blocks of a file. What is in a code block is no marker.
 *
 * @throws Error in a sentence, with the line, where markers do not pair, nest, are spelled otherwise, or name one id twice.
 */
export const readBlocks = (bytes: Uint8Array): Block[] => scan(bytes).blocks;

/** The line of a code block that is not closed, so that what follows it is none of ours. @throws Error as {@link readBlocks}. */
export const unclosedCode = (bytes: Uint8Array): number | undefined => scan(bytes).unclosed;

function scan(bytes: Uint8Array): { blocks: Block[]; unclosed: number | undefined } {
  // A character a byte: what is not ours may be in any encoding that has ASCII in it.
  const file = binary(bytes);
  if (file.includes('\0'))
    throw new Error('It is no text of one byte a character or in UTF-8: it has bytes that are zero.');
  const blocks: Block[] = [];
  let open: { found: RegExpExecArray; line: number; marker: Span; from: number } | undefined;
  let fence: { mark: string; line: number } | undefined;
  for (const { text, start, next, number } of linesOf(file)) {
    const [, mark = '', info = ''] = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(text) ?? [];
    if (fence !== undefined) {
      if (mark[0] === fence.mark[0] && mark.length >= fence.mark.length && info.trim() === '') fence = undefined;
      continue;
    }
    if (mark !== '' && !(mark.startsWith('`') && info.includes('`'))) {
      fence = { mark, line: number };
      continue;
    }
    if (!anyMarker.test(text)) continue;
    const found = opening.exec(text);
    if (found !== null) {
      if (open !== undefined) throw new Error(`Line ${number}: a block begins inside that of line ${open.line}.`);
      const from = start + (found[1]?.length ?? 0);
      open = { found, line: number, marker: { start: from, end: file.indexOf('-->', from) + 3 }, from: next };
    } else if (closing.test(text)) {
      if (open === undefined) throw new Error(`Line ${number}: a block ends that does not begin.`);
      const inner = { start: open.from, end: start };
      const [, , id = '', version, hash] = open.found;
      const twin = blocks.find((one) => one.id === id);
      if (twin !== undefined) throw new Error(`Line ${open.line}: ${id} has a block in line ${twin.line} already.`);
      const content = decode(file.slice(inner.start, inner.end), open.line);
      blocks.push({
        id,
        version: version === undefined ? undefined : Number(version),
        hash,
        text: toBlockText(content),
        line: open.line,
        marker: open.marker,
        inner,
      });
      open = undefined;
    } else throw new Error(`Line ${number}: this is no marker of a block: ${text.trim().slice(0, 100)}`);
  }
  if (open !== undefined) {
    const why = fence === undefined ? '' : ` The code block of line ${fence.line} is not closed.`;
    throw new Error(`Line ${open.line}: the block does not end.${why}`);
  }
  return { blocks, unclosed: fence?.line };
}

/** A file as it was made, or why it was not. */
export type Made = { readonly bytes: Buffer } | { readonly refused: string };

/** The file with another text in a block that it has; no byte outside of it is changed. @throws Error as {@link readBlocks}. */
export function fillBlock(bytes: Uint8Array, id: string, filling: Filling): Made {
  const blocks = readBlocks(bytes);
  const block = blocks.find((one) => one.id === id);
  if (block === undefined) throw new Error(`There is no block of ${id}.`);
  const file = binary(bytes);
  const { marker, inner } = block;
  const isKept = block.text === filling.text;
  const content = isKept ? file.slice(inner.start, inner.end) : encode(filling.text, lineEnd(file));
  const made = `${file.slice(0, marker.start)}${printMarker(id, filling)}${file.slice(marker.end, inner.start)}${content}${file.slice(inner.end)}`;
  return checked(made, blocks, { id, filling });
}

/** The file with a new block at its end, a blank line before it. @throws Error as {@link readBlocks}. */
export function appendBlock(bytes: Uint8Array, id: string, filling: Filling): Made {
  const { blocks, unclosed } = scan(bytes);
  if (unclosed !== undefined) {
    return { refused: `what comes after line ${unclosed} is code, since the code block there is not closed` };
  }
  const file = binary(bytes);
  const end = lineEnd(file);
  const isBare = file === '' || file === byteOrderMark;
  const gap = isBare ? '' : file.endsWith('\n') ? (/(^|\n)\r?\n$/.test(file) ? '' : end) : end + end;
  const made = `${file}${gap}${printMarker(id, filling)}${end}${encode(filling.text, end)}<!-- lamina:end -->${end}`;
  return checked(made, blocks, { id, filling });
}

const printMarker = (id: string, { version, versionText }: Filling) =>
  `<!-- lamina:begin id=${id} version=${version} hash=${hashBlock(versionText)} -->`;

/** Refuses a text that would not be read as it was written. */
function checked(file: string, before: readonly Block[], to: { id: string; filling: Filling }): Made {
  const bytes = Buffer.from(file, 'latin1');
  const wanted = new Map(before.map(({ id, text }) => [id, text])).set(to.id, to.filling.text);
  let found: Block[] = [];
  try {
    found = readBlocks(bytes);
  } catch {
    // Told below, where it is known why.
  }
  const isRead = found.length === wanted.size && found.every(({ id, text }) => wanted.get(id) === text);
  return isRead ? { bytes } : { refused: 'its text has markers of blocks itself, or a code block that is not closed' };
}

function* linesOf(file: string) {
  let start = file.startsWith(byteOrderMark) ? byteOrderMark.length : 0;
  for (let number = 1; start < file.length; number++) {
    const found = file.indexOf('\n', start);
    const next = found < 0 ? file.length : found + 1;
    const text = file.slice(start, found < 0 ? next : found).replace(/\r+$/, '');
    yield { text, start, next, number };
    start = next;
  }
}

/** How most lines of a file end. */
function lineEnd(file: string): '\r\n' | '\n' {
  const windows = file.split('\r\n').length - 1;
  return windows * 2 > file.split('\n').length - 1 ? '\r\n' : '\n';
}

const binary = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');

function encode(text: string, end: string): string {
  return text === '' ? '' : binary(Buffer.from(`${text}\n`.replaceAll('\n', end)));
}

function decode(content: string, line: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(content, 'latin1'));
  } catch {
    throw new Error(`Line ${line}: what stands in the block is not UTF-8.`);
  }
}
