import { isJsonObject, type Json, pointer } from '../base/json.ts';
import { align, type Edit, edits } from './align.ts';
import { toLines } from './document.ts';
import { createIdentify, type Identify, isSameAt } from './identity.ts';

/** An operation of RFC 6902 as a JSON value. */
type Operation = Map<string, Json>;
type Path = readonly (string | number)[];

/** A JSON Patch that turns `from` into `to`; arrays are aligned, so that an insertion is one operation. */
export function jsonPatch(from: Json, to: Json): Json[] {
  const comparing = { operations: [], identify: createIdentify() };
  compare(from, to, [], comparing);
  return comparing.operations;
}

interface Comparing {
  readonly operations: Operation[];
  readonly identify: Identify;
}

function compare(from: Json, to: Json, path: Path, comparing: Comparing): void {
  const { operations, identify } = comparing;
  if (isSameAt(path.length, from, to, identify)) return;
  if (isJsonObject(from) && isJsonObject(to)) {
    for (const key of from.keys()) if (!to.has(key)) operations.push(operation('remove', [...path, key]));
    for (const [key, value] of to) {
      const before = from.get(key);
      if (before === undefined) operations.push(operation('add', [...path, key], value));
      else compare(before, value, [...path, key], comparing);
    }
  } else if (Array.isArray(from) && Array.isArray(to)) compareArrays(from, to, path, comparing);
  else operations.push(operation('replace', path, to));
}

function compareArrays(from: readonly Json[], to: readonly Json[], path: Path, comparing: Comparing): void {
  const { operations, identify } = comparing;
  let fromAt = 0;
  let toAt = 0;
  const matches = align(from.map(identify), to.map(identify));
  for (const match of [...matches, { leftAt: from.length, rightAt: to.length, length: 0 }]) {
    // Up to `toAt` the array under the patch is already what it shall be, so places are counted there.
    while (fromAt < match.leftAt && toAt < match.rightAt) {
      compare(from[fromAt++] as Json, to[toAt] as Json, [...path, toAt], comparing);
      toAt++;
    }
    for (; fromAt < match.leftAt; fromAt++) operations.push(operation('remove', [...path, toAt]));
    for (; toAt < match.rightAt; toAt++) operations.push(operation('add', [...path, toAt], to[toAt]));
    fromAt += match.length;
    toAt += match.length;
  }
}

function operation(op: string, path: Path, value?: Json): Operation {
  const made: Operation = new Map<string, Json>([
    ['op', op],
    ['path', pointer(path)],
  ]);
  return value === undefined ? made : made.set('value', value);
}

const contextLines = 3;

/** The unified diff of two texts as GNU diff prints it; empty where they are equal. */
export function unifiedDiff(from: string, to: string, labels: { readonly from: string; readonly to: string }): string {
  const before = toLines(from);
  const after = toLines(to);
  const hunks: Edit[][] = [];
  for (const edit of edits(before, after)) {
    const previous = hunks.at(-1)?.at(-1);
    if (previous && edit.base.from - previous.base.to <= 2 * contextLines) hunks.at(-1)?.push(edit);
    else hunks.push([edit]);
  }
  if (hunks.length === 0) return '';
  const texts = hunks.map((hunk) => printHunk(hunk, before, after));
  return `--- ${labels.from}\n+++ ${labels.to}\n${texts.join('')}`;
}

function printHunk(hunk: readonly Edit[], before: readonly string[], after: readonly string[]): string {
  const [first, last] = [hunk[0] as Edit, hunk.at(-1) as Edit];
  const fromStart = Math.max(first.base.from - contextLines, 0);
  const fromEnd = Math.min(last.base.to + contextLines, before.length);
  const toStart = first.side.from - (first.base.from - fromStart);
  const toEnd = last.side.to + (fromEnd - last.base.to);
  let text = `@@ -${printRange(fromStart, fromEnd)} +${printRange(toStart, toEnd)} @@\n`;
  let at = fromStart;
  for (const { base, side } of hunk) {
    text += printLines(' ', before.slice(at, base.from));
    text += printLines('-', before.slice(base.from, base.to));
    text += printLines('+', after.slice(side.from, side.to));
    at = base.to;
  }
  return text + printLines(' ', before.slice(at, fromEnd));
}

// Lines count from 1; an empty range names the line before it.
function printRange(start: number, end: number): string {
  if (end === start) return `${start},0`;
  return end - start === 1 ? String(start + 1) : `${start + 1},${end - start}`;
}

function printLines(sign: string, lines: readonly string[]): string {
  return lines
    .map((line) => (line.endsWith('\n') ? `${sign}${line}` : `${sign}${line}\n\\ No newline at end of file\n`))
    .join('');
}
