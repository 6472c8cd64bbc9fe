import { characterStart, cutText } from '../base/text.ts';
import { hash32 } from './analysis.ts';
import type { Piece } from './chunk.ts';

/** A stretch of a text. */
interface Span {
  readonly start: number;
  readonly end: number;
}

// In characters; about four are a token. See docs/search.md.
export const sizeMax = 1200;
const sizeMin = 600;
// What one sentence at the end of a piece may take to be said again at the beginning of the next.
const overlapMax = 250;
/** Of a heading or a JSON member's name, in a path. */
export const headingMax = 100;

/** Plain text, cut between paragraphs. */
export function chunkText(text: string): Piece[] {
  return pack(text, { start: 0, end: text.length }).map((span) => toPiece(text, span, ''));
}

/** Markdown, cut between sections first; code stays together, and the path is that of the headings above. */
export function chunkMarkdown(text: string): Piece[] {
  const pieces: Piece[] = [];
  const headings: string[] = [];
  let start = 0;
  let fence = '';
  const close = (end: number) => {
    const path = headings.filter(Boolean).join(' › ');
    for (const span of pack(text, { start, end })) pieces.push(toPiece(text, span, path));
    start = end;
  };
  for (const { 0: line, index } of text.matchAll(/[^\n]*\n?/g)) {
    const [, bar = ''] = /^ {0,3}(`{3,}|~{3,})/.exec(line) ?? [];
    if (bar !== '') fence = fence === '' ? bar : bar.startsWith(fence) ? '' : fence;
    const [mark = '', level = ''] = (fence === '' && /^ {0,3}(#{1,6})[ \t]/.exec(line)) || [];
    if (level === '') continue;
    close(index);
    headings.length = Math.min(headings.length, level.length - 1);
    headings[level.length - 1] = cutText(line.slice(mark.length).trim(), headingMax).replace(/[ \t]+#*$/, '');
  }
  close(text.length);
  return pieces;
}

function toPiece(text: string, { start, end }: Span, path: string): Piece {
  return { text: text.slice(start, end), path, start, end };
}

/**
 * Whether a piece of this size ends before what follows: where both are too much, or, once it is large enough, where what
 * follows says so, not all that came before; so an edit moves the boundaries near it and no others.
 */
export function isClosed(size: number, next: string): boolean {
  return size + next.length > sizeMax || (size >= sizeMin && hash32(next) % 3 === 0);
}

/** Puts neighbouring paragraphs together. */
function pack(text: string, { start, end }: Span): Span[] {
  const packed: Span[] = [];
  let open: { start: number; end: number } | undefined;
  for (const paragraph of paragraphs(text, start, end)) {
    const size = open === undefined ? 0 : open.end - open.start;
    if (open !== undefined && isClosed(size, text.slice(paragraph.start, paragraph.end))) {
      packed.push(open);
      open = undefined;
    }
    if (paragraph.end - paragraph.start > sizeMax) packed.push(...split(text, paragraph));
    else if (open === undefined) open = { ...paragraph };
    else open.end = paragraph.end;
  }
  if (open !== undefined) packed.push(open);
  return packed;
}

function* paragraphs(text: string, start: number, end: number): Generator<Span> {
  let from = start;
  for (const { 0: blank, index } of text.slice(start, end).matchAll(/\n[ \t\r]*\n\s*/g)) {
    const to = start + index;
    if (text.slice(from, to).trim() !== '') yield { start: from, end: to };
    from = to + blank.length;
  }
  if (text.slice(from, end).trim() !== '') yield { start: from, end };
}

/** Cuts a long paragraph between lines or sentences; one that is too long by itself between words, or anywhere. */
function split(text: string, paragraph: Span): Span[] {
  const spans: Span[] = [];
  let open: { start: number; end: number } | undefined;
  let last: Span | undefined;
  for (const sentence of sentences(text, paragraph)) {
    if (open !== undefined && sentence.end - open.start > sizeMax - overlapMax) {
      spans.push(open);
      const isRepeated = last !== undefined && last.start > open.start && last.end - last.start <= overlapMax;
      open = isRepeated && last !== undefined ? { start: last.start, end: last.end } : undefined;
    }
    if (open === undefined) open = { ...sentence };
    else open.end = sentence.end;
    last = sentence;
  }
  if (open !== undefined) spans.push(open);
  return spans;
}

function* sentences(text: string, { start, end }: Span): Generator<Span> {
  let from = start;
  for (const { 0: stop, index } of text.slice(start, end).matchAll(/[.!?]["')\]]{0,4}\s+|[。！？]+|\n+/g)) {
    const to = start + index + stop.length;
    yield* cutWords(text, from, to);
    from = to;
  }
  if (from < end) yield* cutWords(text, from, end);
}

/** Whole where it is short enough, else in lengths of 600 to 950 that end behind a space where there is one. */
function* cutWords(text: string, start: number, end: number): Generator<Span> {
  const longest = sizeMax - overlapMax;
  let from = start;
  while (end - from > longest) {
    const space = text.slice(from, from + longest).lastIndexOf(' ');
    const to = characterStart(text, from + (space > sizeMin ? space + 1 : longest));
    yield { start: from, end: to };
    from = to;
  }
  yield { start: from, end };
}

/** Turns places in one text into places in another that says the same; each is asked for behind the one before. */
export function createCursor(lengthOf: (from: number, to: number, place: number) => number): (at: number) => number {
  let [from, place] = [0, 0];
  return (at) => {
    place += lengthOf(from, at, place);
    from = at;
    return place;
  };
}
