import { isJsonNumber, isJsonObject, type Json, type JsonObject, pointer, printJson } from '../base/json.ts';
import { align, createWork, type Edit, edits, trim, type Work, wholeOf } from './align.ts';
import { toLines } from './document.ts';
import { createIdentify, type Identify, isSameAt } from './identity.ts';

/** An operation of RFC 6902 as a JSON value. */
type Operation = Map<string, Json>;

/** Where in a document; the root has depth 0. */
interface Place {
  readonly pointer: string;
  readonly depth: number;
}

// By how much the operations on a value may be longer than the value itself, in bytes: what is small is told member by
// member at any rate.
const spareBytes = 4096;

/**
 * A JSON Patch that turns `from` into `to`; arrays are aligned, so that an insertion is one operation. A value that has
 * changed so much that telling how takes more than itself is replaced, so the patch is never much longer than `to`.
 *
 * @param work what it may cost; used up, what differs is replaced without a look at how.
 */
export function jsonPatch(from: Json, to: Json, work: Work = createWork()): Json[] {
  const comparing = { operations: [], bytes: 0, sizeOf: createSizeOf(), identify: createIdentify(work), work };
  compare({ from, to, place: { pointer: '', depth: 0 } }, comparing);
  return comparing.operations;
}

interface Comparing {
  readonly operations: Operation[];
  /** Of the operations, printed. */
  bytes: number;
  readonly sizeOf: (value: Json) => number;
  readonly identify: Identify;
  readonly work: Work;
}

interface Pair<Value> {
  readonly from: Value;
  readonly to: Value;
  readonly place: Place;
}

function compare({ from, to, place }: Pair<Json>, comparing: Comparing): void {
  const { operations, sizeOf, work } = comparing;
  if (isSameAt(place.depth, from, to, comparing.identify)) return;
  const begun = { operations: operations.length, bytes: comparing.bytes };
  const isTooLong = () => {
    const bytes = comparing.bytes - begun.bytes - spareBytes;
    return bytes > 0 && bytes > sizeOf(to);
  };
  if (work.steps > 0 && isJsonObject(from) && isJsonObject(to)) {
    compareMembers({ from, to, place }, comparing, isTooLong);
  } else if (work.steps > 0 && Array.isArray(from) && Array.isArray(to)) {
    compareElements({ from, to, place }, comparing, isTooLong);
  } else {
    tell(comparing, 'replace', place, to);
    return;
  }
  if (!isTooLong()) return;
  operations.length = begun.operations;
  comparing.bytes = begun.bytes;
  tell(comparing, 'replace', place, to);
}

function compareMembers({ from, to, place }: Pair<JsonObject>, comparing: Comparing, isTooLong: () => boolean): void {
  for (const key of from.keys()) {
    if (to.has(key)) continue;
    tell(comparing, 'remove', inside(place, key));
    if (isTooLong()) return;
  }
  for (const [key, value] of to) {
    const before = from.get(key);
    if (before === undefined) tell(comparing, 'add', inside(place, key), value);
    else compare({ from: before, to: value, place: inside(place, key) }, comparing);
    if (isTooLong()) return;
  }
}

function compareElements({ from, to, place }: Pair<Json[]>, comparing: Comparing, isTooLong: () => boolean): void {
  const { identify, work } = comparing;
  // Most often something was added at the end, and nothing needs a number to find that out.
  const { start, end } = trim(wholeOf(from, to), (fromAt, toAt) =>
    isSameAt(place.depth + 1, from[fromAt] as Json, to[toAt] as Json, identify),
  );
  const [before, after] = [from.slice(start, from.length - end), to.slice(start, to.length - end)];
  const matches = before.length * after.length > 1 ? align(before.map(identify), after.map(identify), work) : [];
  let fromAt = 0;
  let toAt = 0;
  // Up to there the array under the patch is already what it shall be, so places are counted there.
  const here = () => inside(place, start + toAt);
  for (const match of [...matches, { leftAt: before.length, rightAt: after.length, length: 0 }]) {
    for (; fromAt < match.leftAt && toAt < match.rightAt; fromAt++, toAt++) {
      compare({ from: before[fromAt] as Json, to: after[toAt] as Json, place: here() }, comparing);
      if (isTooLong()) return;
    }
    for (; fromAt < match.leftAt && !isTooLong(); fromAt++) tell(comparing, 'remove', here());
    for (; toAt < match.rightAt && !isTooLong(); toAt++) tell(comparing, 'add', here(), after[toAt]);
    if (isTooLong()) return;
    fromAt += match.length;
    toAt += match.length;
  }
}

function inside({ pointer: outer, depth }: Place, token: string | number): Place {
  return { pointer: outer + pointer([token]), depth: depth + 1 };
}

function tell(comparing: Comparing, op: string, place: Place, value?: Json): void {
  const operation: Operation = new Map<string, Json>([
    ['op', op],
    ['path', place.pointer],
  ]);
  if (value !== undefined) operation.set('value', value);
  comparing.operations.push(operation);
  comparing.bytes += comparing.sizeOf(operation) + 1;
}

/** How many bytes a value has when it is printed; what is large is walked through once. */
function createSizeOf(): (value: Json) => number {
  const known = new Map<Json, number>();
  const sizeOf = (value: Json): number => {
    if (typeof value === 'string') return Buffer.byteLength(printJson(value));
    if (isJsonNumber(value)) return value.number.length;
    if (typeof value !== 'object' || value === null) return String(value).length;
    let size = known.get(value) ?? 0;
    if (size > 0) return size;
    if (Array.isArray(value)) for (const element of value) size += sizeOf(element) + 1;
    else for (const [key, member] of value) size += sizeOf(key) + sizeOf(member) + 2;
    size = Math.max(size + 1, 2);
    if (size > spareBytes) known.set(value, size);
    return size;
  };
  return sizeOf;
}

const contextLines = 3;

/**
 * The unified diff of two texts as GNU diff prints it; empty where they are equal. Never much longer than both texts and a
 * sign for each line.
 *
 * @param work what it may cost; used up, the lines left between what is known to be equal are told as removed and added.
 */
export function unifiedDiff(
  from: string,
  to: string,
  labels: { readonly from: string; readonly to: string },
  work: Work = createWork(),
): string {
  const before = toLines(from);
  const after = toLines(to);
  const hunks: Edit[][] = [];
  for (const edit of edits(before, after, work)) {
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
