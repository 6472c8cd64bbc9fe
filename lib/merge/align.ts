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

// Beyond this many differences in a stretch without unique tokens the stretch counts as rewritten: the search costs the
// square of the differences, and an alignment found that late would help nobody.
const differencesMax = 1000;

/**
 * Aligns two sequences: the equal runs that stay in order, ascending on both sides. Tokens that appear once on each side
 * are the anchors (patience diff, Bram Cohen), what lies between them is aligned by Myers' greedy algorithm ("An O(ND)
 * Difference Algorithm", 1986). Deterministic, and close to linear in the length for any input.
 */
export function align(left: readonly Token[], right: readonly Token[]): Match[] {
  const intern = new Map<Token, number>();
  const number = (token: Token) => {
    const known = intern.get(token);
    if (known !== undefined) return known;
    intern.set(token, intern.size);
    return intern.size - 1;
  };
  const matches: Match[] = [];
  alignRange(Int32Array.from(left, number), Int32Array.from(right, number), matches);
  return matches;
}

/** What `side` changed in `base`, in order: the gaps of their alignment. */
export function edits(base: readonly Token[], side: readonly Token[]): Edit[] {
  const found: Edit[] = [];
  let baseAt = 0;
  let sideAt = 0;
  for (const match of [...align(base, side), { leftAt: base.length, rightAt: side.length, length: 0 }]) {
    if (match.leftAt > baseAt || match.rightAt > sideAt) {
      found.push({ base: { from: baseAt, to: match.leftAt }, side: { from: sideAt, to: match.rightAt } });
    }
    baseAt = match.leftAt + match.length;
    sideAt = match.rightAt + match.length;
  }
  return found;
}

interface Range {
  leftFrom: number;
  leftTo: number;
  rightFrom: number;
  rightTo: number;
}

function alignRange(left: Int32Array, right: Int32Array, matches: Match[]): void {
  // A stack instead of recursion: stretches are finished from the left, so matches come out in order.
  const stack: (Range | Match)[] = [{ leftFrom: 0, leftTo: left.length, rightFrom: 0, rightTo: right.length }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if ('length' in next) {
      addMatch(matches, next);
      continue;
    }
    let { leftFrom, leftTo, rightFrom, rightTo } = next;
    const start = leftFrom;
    while (leftFrom < leftTo && rightFrom < rightTo && left[leftFrom] === right[rightFrom]) {
      leftFrom++;
      rightFrom++;
    }
    addMatch(matches, { leftAt: start, rightAt: rightFrom - (leftFrom - start), length: leftFrom - start });
    const end = leftTo;
    while (leftFrom < leftTo && rightFrom < rightTo && left[leftTo - 1] === right[rightTo - 1]) {
      leftTo--;
      rightTo--;
    }
    if (end > leftTo) stack.push({ leftAt: leftTo, rightAt: rightTo, length: end - leftTo });
    if (leftFrom === leftTo || rightFrom === rightTo) continue;
    const range = { leftFrom, leftTo, rightFrom, rightTo };
    const anchors = findAnchors(left, right, range);
    if (anchors.length === 0) {
      for (const match of myers(left, right, range).reverse()) stack.push(match);
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
}

function addMatch(matches: Match[], match: Match): void {
  const last = matches.at(-1);
  if (match.length === 0) return;
  if (last && last.leftAt + last.length === match.leftAt && last.rightAt + last.length === match.rightAt) {
    last.length += match.length;
  } else matches.push({ ...match });
}

/** The longest ascending run of tokens that are unique on both sides. */
function findAnchors(left: Int32Array, right: Int32Array, range: Range): Match[] {
  const positions = new Map<number, { leftAt: number; rightAt: number }>();
  for (let at = range.leftFrom; at < range.leftTo; at++) {
    const token = left[at] as number;
    positions.set(token, { leftAt: positions.has(token) ? -1 : at, rightAt: -1 });
  }
  for (let at = range.rightFrom; at < range.rightTo; at++) {
    const seen = positions.get(right[at] as number);
    if (seen === undefined) continue;
    if (seen.rightAt >= 0) seen.leftAt = -1;
    seen.rightAt = at;
  }
  const pairs = [...positions.values()].filter(({ leftAt, rightAt }) => leftAt >= 0 && rightAt >= 0);
  // Patience sorting: each pile's top is the smallest end of an ascending run of that length.
  const tops: number[] = [];
  const before = new Int32Array(pairs.length);
  pairs.forEach((pair, index) => {
    let low = 0;
    let high = tops.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((pairs[tops[middle] as number]?.rightAt ?? 0) < pair.rightAt) low = middle + 1;
      else high = middle;
    }
    before[index] = low > 0 ? (tops[low - 1] as number) : -1;
    tops[low] = index;
  });
  const anchors: Match[] = [];
  for (let at = tops.at(-1) ?? -1; at >= 0; at = before[at] as number) {
    anchors.push({ ...(pairs[at] as { leftAt: number; rightAt: number }), length: 1 });
  }
  return anchors.reverse();
}

function myers(left: Int32Array, right: Int32Array, range: Range): Match[] {
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
      while (x < width && y < height && left[range.leftFrom + x] === right[range.rightFrom + y]) {
        x++;
        y++;
      }
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
