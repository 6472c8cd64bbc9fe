/** What is compared: a line, or the number of a value. */
export type Token = string | number;

/** A run of `length` equal tokens: `left[leftAt + i] === right[rightAt + i]`. */
export interface Match {
  leftAt: number;
  rightAt: number;
  length: number;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** A stretch of the base that one side has replaced; either may be empty. */
export interface Edit {
  readonly base: Span;
  readonly side: Span;
}

/**
 * How much aligning may still cost, in steps: a token looked at is one. Where it is used up, what is not aligned yet counts
 * as rewritten: a coarser answer, and still a right one. Counted, not timed, so that the same input is aligned the same way.
 */
export interface Work {
  steps: number;
}

// Two contents of 10 MiB whose every element has moved are aligned with this, in less than a second; what asks for more
// is made to.
const stepsMax = 10_000_000;

export function createWork(steps = stepsMax): Work {
  return { steps };
}

// Beyond this many differences in a stretch without unique tokens the stretch counts as rewritten: the search costs the
// square of the differences, and an alignment found that late would help nobody.
const differencesMax = 1000;

/**
 * Aligns two sequences: the equal runs that stay in order, ascending on both sides. Tokens that appear once on each side
 * are the anchors (patience diff, Bram Cohen), what lies between them is aligned by Myers' greedy algorithm ("An O(ND)
 * Difference Algorithm", 1986). Deterministic, and linear in the length when `work` is used up.
 */
export function align(left: readonly Token[], right: readonly Token[], work: Work = createWork()): Match[] {
  const matches: Match[] = [];
  const { start, end } = trim(wholeOf(left, right), (leftAt, rightAt) => left[leftAt] === right[rightAt]);
  addMatch(matches, { leftAt: 0, rightAt: 0, length: start });
  const [leftTo, rightTo] = [left.length - end, right.length - end];
  if (leftTo > start && rightTo > start && isLeft(work, leftTo + rightTo - 2 * start)) {
    const intern = new Map<Token, number>();
    const number = (tokens: readonly Token[], to: number) => {
      const numbers = new Int32Array(to - start);
      for (let at = start; at < to; at++) {
        const token = tokens[at] as Token;
        let known = intern.get(token);
        if (known === undefined) {
          known = intern.size;
          intern.set(token, known);
        }
        numbers[at - start] = known;
      }
      return numbers;
    };
    const sides = { left: number(left, leftTo), right: number(right, rightTo) };
    for (const match of alignNumbers(sides, intern.size, work)) {
      addMatch(matches, { leftAt: match.leftAt + start, rightAt: match.rightAt + start, length: match.length });
    }
  }
  addMatch(matches, { leftAt: leftTo, rightAt: rightTo, length: end });
  return matches;
}

/** Takes the steps where they are left. */
function isLeft(work: Work, steps: number): boolean {
  if (work.steps < steps) return false;
  work.steps -= steps;
  return true;
}

/** What `side` changed in `base`, in order: the gaps of their alignment. */
export function edits(base: readonly Token[], side: readonly Token[], work?: Work): Edit[] {
  const found: Edit[] = [];
  let baseAt = 0;
  let sideAt = 0;
  for (const match of [...align(base, side, work), { leftAt: base.length, rightAt: side.length, length: 0 }]) {
    if (match.leftAt > baseAt || match.rightAt > sideAt) {
      found.push({ base: { from: baseAt, to: match.leftAt }, side: { from: sideAt, to: match.rightAt } });
    }
    baseAt = match.leftAt + match.length;
    sideAt = match.rightAt + match.length;
  }
  return found;
}

interface Range {
  readonly leftFrom: number;
  readonly leftTo: number;
  readonly rightFrom: number;
  readonly rightTo: number;
}

export function wholeOf(left: ArrayLike<unknown>, right: ArrayLike<unknown>): Range {
  return { leftFrom: 0, leftTo: left.length, rightFrom: 0, rightTo: right.length };
}

/** How many are the same at the start and, of the rest, at the end. */
export function trim(
  { leftFrom, leftTo, rightFrom, rightTo }: Range,
  isSame: (leftAt: number, rightAt: number) => boolean,
): { start: number; end: number } {
  const shorter = Math.min(leftTo - leftFrom, rightTo - rightFrom);
  let start = 0;
  while (start < shorter && isSame(leftFrom + start, rightFrom + start)) start++;
  let end = 0;
  while (end < shorter - start && isSame(leftTo - 1 - end, rightTo - 1 - end)) end++;
  return { start, end };
}

interface Sides {
  readonly left: Int32Array;
  readonly right: Int32Array;
}

function alignNumbers({ left, right }: Sides, tokens: number, work: Work): Match[] {
  const findAnchors = createAnchors({ left, right }, tokens);
  const isSame = (leftAt: number, rightAt: number) => left[leftAt] === right[rightAt];
  const matches: Match[] = [];
  // A stack instead of recursion: stretches are finished from the left, so matches come out in order.
  const stack: (Range | Match)[] = [wholeOf(left, right)];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if ('length' in next) {
      addMatch(matches, next);
      continue;
    }
    const { start, end } = trim(next, isSame);
    addMatch(matches, { leftAt: next.leftFrom, rightAt: next.rightFrom, length: start });
    const [leftFrom, leftTo] = [next.leftFrom + start, next.leftTo - end];
    const [rightFrom, rightTo] = [next.rightFrom + start, next.rightTo - end];
    if (end > 0) stack.push({ leftAt: leftTo, rightAt: rightTo, length: end });
    if (leftFrom === leftTo || rightFrom === rightTo) continue;
    if (!isLeft(work, leftTo - leftFrom + rightTo - rightFrom)) continue;
    const range = { leftFrom, leftTo, rightFrom, rightTo };
    const anchors = findAnchors(range);
    if (anchors === undefined) continue;
    if (anchors.length === 0) {
      for (const match of myers({ left, right }, range, work).reverse()) stack.push(match);
      continue;
    }
    let leftEnd = leftTo;
    let rightEnd = rightTo;
    for (let index = anchors.length - 1; index >= 0; index--) {
      const { leftAt, rightAt } = anchors[index] as Match;
      stack.push({ leftFrom: leftAt, leftTo: leftEnd, rightFrom: rightAt, rightTo: rightEnd });
      leftEnd = leftAt;
      rightEnd = rightAt;
    }
    stack.push({ leftFrom, leftTo: leftEnd, rightFrom, rightTo: rightEnd });
  }
  return matches;
}

function addMatch(matches: Match[], match: Match): void {
  const last = matches.at(-1);
  if (match.length === 0) return;
  if (last && last.leftAt + last.length === match.leftAt && last.rightAt + last.length === match.rightAt) {
    last.length += match.length;
  } else matches.push({ ...match });
}

// Where a token is: nowhere, at one place (counted from 1), or at several.
const nowhere = 0;
const several = -1;

/**
 * Finds the longest ascending run of tokens that are unique on both sides of a range; undefined where the sides have no
 * token in common.
 */
function createAnchors({ left, right }: Sides, tokens: number): (range: Range) => Match[] | undefined {
  const places = { left: new Int32Array(tokens), right: new Int32Array(tokens) };
  return ({ leftFrom, leftTo, rightFrom, rightTo }) => {
    for (let at = leftFrom; at < leftTo; at++) note(places.left, left[at] as number, at);
    let hasCommon = false;
    for (let at = rightFrom; at < rightTo; at++) {
      note(places.right, right[at] as number, at);
      hasCommon ||= places.left[right[at] as number] !== nowhere;
    }
    const [lefts, rights]: [number[], number[]] = [[], []];
    for (let at = leftFrom; at < leftTo; at++) {
      const token = left[at] as number;
      if ((places.left[token] as number) > 0 && (places.right[token] as number) > 0) {
        lefts.push(at);
        rights.push((places.right[token] as number) - 1);
      }
    }
    for (let at = leftFrom; at < leftTo; at++) places.left[left[at] as number] = nowhere;
    for (let at = rightFrom; at < rightTo; at++) places.right[right[at] as number] = nowhere;
    if (!hasCommon) return undefined;
    return longestAscending(rights).map((index) => ({
      leftAt: lefts[index] as number,
      rightAt: rights[index] as number,
      length: 1,
    }));
  };
}

function note(places: Int32Array, token: number, at: number): void {
  places[token] = places[token] === nowhere ? at + 1 : several;
}

/** The indices of a longest ascending run, by patience sorting: each pile's top is the smallest end of a run that long. */
function longestAscending(values: readonly number[]): number[] {
  const tops: number[] = [];
  const before = new Int32Array(values.length);
  values.forEach((value, index) => {
    let low = 0;
    let high = tops.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((values[tops[middle] as number] as number) < value) low = middle + 1;
      else high = middle;
    }
    before[index] = low > 0 ? (tops[low - 1] as number) : -1;
    tops[low] = index;
  });
  const run: number[] = [];
  for (let at = tops.at(-1) ?? -1; at >= 0; at = before[at] as number) run.push(at);
  return run.reverse();
}

function myers({ left, right }: Sides, range: Range, work: Work): Match[] {
  const width = range.leftTo - range.leftFrom;
  const height = range.rightTo - range.rightFrom;
  const bound = Math.min(width + height, differencesMax);
  const reach = new Int32Array(2 * bound + 2);
  const trace: Int32Array[] = [];
  for (let differences = 0; differences <= bound; differences++) {
    trace.push(reach.slice(bound - differences, bound + differences + 1));
    for (let diagonal = -differences; diagonal <= differences; diagonal += 2) {
      const isDown =
        diagonal === -differences ||
        (diagonal !== differences && (reach[bound + diagonal - 1] as number) < (reach[bound + diagonal + 1] as number));
      let x = isDown ? (reach[bound + diagonal + 1] as number) : (reach[bound + diagonal - 1] as number) + 1;
      let y = x - diagonal;
      const from = x;
      while (x < width && y < height && left[range.leftFrom + x] === right[range.rightFrom + y]) {
        x++;
        y++;
      }
      if (!isLeft(work, x - from + 1)) return [];
      reach[bound + diagonal] = x;
      if (x >= width && y >= height) return walkBack(trace, range, width, height);
    }
  }
  return [];
}

function walkBack(trace: readonly Int32Array[], range: Range, width: number, height: number): Match[] {
  const matches: Match[] = [];
  let x = width;
  let y = height;
  for (let differences = trace.length - 1; differences >= 0; differences--) {
    // The slice kept for this step starts at diagonal -differences.
    const reach = trace[differences] as Int32Array;
    const at = (diagonal: number) => reach[diagonal + differences] ?? -1;
    const diagonal = x - y;
    const isDown = diagonal === -differences || (diagonal !== differences && at(diagonal - 1) < at(diagonal + 1));
    const fromX = differences === 0 ? 0 : isDown ? at(diagonal + 1) : at(diagonal - 1);
    const fromY = differences === 0 ? 0 : fromX - (isDown ? diagonal + 1 : diagonal - 1);
    const startX = differences === 0 ? 0 : isDown ? fromX : fromX + 1;
    if (x > startX) {
      matches.push({
        leftAt: range.leftFrom + startX,
        rightAt: range.rightFrom + (y - (x - startX)),
        length: x - startX,
      });
    }
    x = fromX;
    y = fromY;
  }
  return matches.reverse();
}
