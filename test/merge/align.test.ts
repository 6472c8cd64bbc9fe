import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { align, createWork, edits } from '../../lib/merge/align.ts';

const tokens = fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { maxLength: 40 });

function longestCommon(left: readonly string[], right: readonly string[]): number {
  const row = new Array<number>(right.length + 1).fill(0);
  for (const token of left) {
    let diagonal = 0;
    for (let at = 1; at <= right.length; at++) {
      const above = row[at]!;
      row[at] = token === right[at - 1] ? diagonal + 1 : Math.max(above, row[at - 1]!);
      diagonal = above;
    }
  }
  return row[right.length]!;
}

describe('an alignment', () => {
  test('is of equal tokens, ascending on both sides, and maximal at its ends', () => {
    fc.assert(
      fc.property(tokens, tokens, (left, right) => {
        let [leftEnd, rightEnd] = [0, 0];
        for (const { leftAt, rightAt, length } of align(left, right)) {
          expect(leftAt).toBeGreaterThanOrEqual(leftEnd);
          expect(rightAt).toBeGreaterThanOrEqual(rightEnd);
          expect(length).toBeGreaterThan(0);
          expect(left.slice(leftAt, leftAt + length)).toEqual(right.slice(rightAt, rightAt + length));
          [leftEnd, rightEnd] = [leftAt + length, rightAt + length];
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('without unique tokens is a longest common subsequence', () => {
    fc.assert(
      fc.property(tokens, tokens, (left, right) => {
        // Doubling every token leaves no anchor, so that Myers alone is at work.
        const [first, second] = [left.flatMap((one) => [one, one]), right.flatMap((one) => [one, one])];
        const matched = align(first, second).reduce((sum, { length }) => sum + length, 0);
        expect(matched).toBe(longestCommon(first, second));
      }),
      { numRuns: 500 },
    );
  });

  test('edits turn the one into the other', () => {
    fc.assert(
      fc.property(tokens, tokens, (base, side) => {
        const result: string[] = [];
        let at = 0;
        for (const edit of edits(base, side)) {
          result.push(...base.slice(at, edit.base.from), ...side.slice(edit.side.from, edit.side.to));
          at = edit.base.to;
        }
        expect([...result, ...base.slice(at)]).toEqual(side);
      }),
    );
  });

  test('is of equal tokens however little work is left for it', () => {
    fc.assert(
      fc.property(tokens, tokens, fc.nat({ max: 150 }), (left, right, steps) => {
        const rebuilt: string[] = [];
        let at = 0;
        for (const edit of edits(left, right, createWork(steps))) {
          rebuilt.push(...left.slice(at, edit.base.from), ...right.slice(edit.side.from, edit.side.to));
          at = edit.base.to;
        }
        expect([...rebuilt, ...left.slice(at)]).toEqual(right);
      }),
      { numRuns: 1000 },
    );
  });

  test('never takes more steps than it is given, also where each anchor makes only the next one unique', () => {
    const stairs = (own: string) =>
      Array.from({ length: 3000 }, (_, at) => [`${own}${at}`, `${at + 1}`, `${at}`]).flat();
    const work = createWork(1_000_000);
    const matched = align(stairs('left '), stairs('right '), work).reduce((sum, { length }) => sum + length, 0);
    expect(work.steps).toBeGreaterThanOrEqual(0);
    expect(work.steps).toBeLessThan(20_000);
    expect(matched).toBeGreaterThan(10);
    const few = (step: number) => Array.from({ length: 20_000 }, (_, at) => String(((at * at) >> step) % 3));
    for (const steps of [100_000, 200_000, 400_000]) {
      const little = createWork(steps);
      align(few(3), few(4), little);
      expect(little.steps).toBeGreaterThanOrEqual(0);
      expect(steps - little.steps).toBeGreaterThan(80_000);
    }
    const plenty = createWork(1_000_000_000);
    expect(align(stairs('left '), stairs('right '), plenty).length).toBeGreaterThan(1000);
    expect(1_000_000_000 - plenty.steps).toBeGreaterThan(10_000_000);
  });

  test('of long sequences without anything in common is found quickly', () => {
    const many = (prefix: string) => Array.from({ length: 200_000 }, (_, at) => `${prefix}${at % 1000}`);
    expect(align(many('a'), many('b'))).toEqual([]);
    expect(align(many('a'), many('a'))).toEqual([{ leftAt: 0, rightAt: 0, length: 200_000 }]);
  });
});
