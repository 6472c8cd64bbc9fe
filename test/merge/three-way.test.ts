import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, isSameJson, type Json, printJson } from '../../lib/base/json.ts';
import { parseJson } from '../../lib/base/json-parse.ts';
import { Problem } from '../../lib/base/problem.ts';
import { createWork } from '../../lib/merge/align.ts';
import { diff3 } from '../../lib/merge/diff3.ts';
import { merge } from '../../lib/merge/merge.ts';
import { threeWay } from '../../lib/merge/three-way.ts';
import { container, entities, json, jsonSource, named, text, textSource } from '../support/arbitrary.ts';

const three = (base: Json, ours: Json, theirs: Json, prefer: 'fail' | 'ours' | 'theirs' = 'fail') =>
  merge({ strategy: 'three-way', base: jsonSource(base), sources: [jsonSource(ours), jsonSource(theirs)], prefer });
const parse = (source: string) => parseJson(source);
const merged = (base: string, ours: string, theirs: string, prefer: 'fail' | 'ours' | 'theirs' = 'fail') =>
  Buffer.from(three(parse(base), parse(ours), parse(theirs), prefer).document.bytes).toString();
const conflictsOf = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    if (error instanceof Problem && error.code === 'merge_conflict')
      return error.facts['conflicts'] as { path: string }[];
    throw error;
  }
  return [];
};
const value = (document: { bytes: Uint8Array }) => parseJson(Buffer.from(document.bytes).toString());

describe('a three-way merge of JSON', () => {
  test('takes changes of both sides, a change made twice once, a deletion as a deletion', () => {
    expect(merged('{"a":1,"b":1,"c":1}', '{"a":2,"b":1,"c":1}', '{"a":1,"b":3}')).toBe('{"a":2,"b":3}');
    expect(merged('{"a":1}', '{"a":2,"n":5}', '{"a":2.0,"n":5.0}')).toBe('{"a":2,"n":5}');
    expect(merged('[1,2,3,4,5]', '[1,2,9,3,4,5]', '[1,2,3,4]')).toBe('[1,2,9,3,4]');
  });

  test('keeps the spelling of numbers and the order of keys', () => {
    expect(merged('{"z":1,"a":1.0}', '{"z":2,"a":1.0}', '{"z":1,"a":1.0,"m":12345678901234567890}')).toBe(
      '{"z":2,"a":1.0,"m":12345678901234567890}',
    );
  });

  test('matches elements by id, whatever moved', () => {
    const base = '[{"id":1,"n":1},{"id":2,"n":2},{"id":3,"n":3}]';
    const ours = '[{"id":3,"n":3},{"id":1,"n":10},{"id":2,"n":2}]';
    const theirs = '[{"id":1,"n":1,"t":true},{"id":2,"n":2},{"id":3,"n":3},{"id":4,"n":4}]';
    expect(merged(base, ours, theirs)).toBe('[{"id":3,"n":3},{"id":4,"n":4},{"id":1,"n":10,"t":true},{"id":2,"n":2}]');
  });

  test('recognises elements without an id by what only they are called', () => {
    const base = '[{"tab":"Guides","pages":["a"]},{"tab":"API","pages":["x"]}]';
    const ours = '[{"tab":"Guides","pages":["a","b"]},{"tab":"New","pages":[]},{"tab":"API","pages":["x"]}]';
    const theirs = '[{"tab":"Guides","icon":"book","pages":["a"]},{"tab":"API","pages":["x","y"]}]';
    const both =
      '[{"tab":"Guides","pages":["a","b"],"icon":"book"},{"tab":"New","pages":[]},{"tab":"API","pages":["x","y"]}]';
    expect(merged(base, ours, theirs)).toBe(both);
    // What many share tells nothing: the second of two equal types is not taken for the first.
    const typed = '[{"type":"s","v":1},{"type":"s","v":2}]';
    expect(
      conflictsOf(() => merged(typed, '[{"type":"s","v":2}]', '[{"type":"s","v":9},{"type":"s","v":2}]')),
    ).toHaveLength(1);
  });

  test('an element removed on one side and changed on the other is a conflict, however it was recognised', () => {
    const base = '[{"name":"a","v":1},{"name":"b","v":1}]';
    const sides = [base, '[{"name":"b","v":2}]', '[{"name":"a","v":5},{"name":"b","v":3}]'] as const;
    expect(conflictsOf(() => merged(...sides)).length).toBeGreaterThan(0);
    expect(merged(...sides, 'theirs')).toBe('[{"name":"a","v":5},{"name":"b","v":3}]');
  });

  test('collisions are conflicts with pointers, and prefer settles them', () => {
    const sides = ['{"a":{"b":1},"k":[1]}', '{"a":{"b":2},"k":[2]}', '{"a":{"b":3},"k":[1,{"n":0}]}'] as const;
    expect(conflictsOf(() => merged(...sides)).map(({ path }) => path)).toEqual(['/a/b', '/k/0']);
    expect(merged(...sides, 'ours')).toBe('{"a":{"b":2},"k":[2]}');
    expect(merged(...sides, 'theirs')).toBe('{"a":{"b":3},"k":[1,{"n":0}]}');
    expect(conflictsOf(() => merged('{"a":1}', '{}', '{"a":2}'))).toEqual([
      { path: '/a', base: { jsonText: '1' }, theirs: { jsonText: '2' } },
    ]);
  });

  test('law: a side that changed nothing gives the other, byte for byte', () => {
    fc.assert(
      fc.property(json, json, (base, side) => {
        for (const result of [three(base, base, side), three(base, side, base)]) {
          expect(result.conflicts).toEqual([]);
          expect(Buffer.from(result.document.bytes).toString()).toBe(printJson(side));
        }
      }),
      { numRuns: 500 },
    );
  });

  test('law: of uniquely named elements none that one side alone edited, removed or added is lost', () => {
    const side = fc.constantFrom('none', 'ours', 'theirs', 'removed by ours', 'removed by theirs');
    const additions = fc.uniqueArray(fc.constantFrom('x', 'y', 'z'), { maxLength: 3 });
    fc.assert(
      fc.property(fc.array(side, { maxLength: 8 }), additions, fc.nat(8), (fates, added, place) => {
        const element = (name: string, n: string): Json =>
          new Map<string, Json>([
            ['name', name],
            ['kind', 'k'],
            ['n', { number: n }],
          ]);
        const base = fates.map((_, at) => element(`e${at}`, '0'));
        const edit = (who: string) =>
          fates.flatMap((fate, at) =>
            fate === `removed by ${who}` ? [] : [element(`e${at}`, fate === who ? '1' : '0')],
          );
        const ours = edit('ours');
        ours.splice(place, 0, ...added.map((name) => element(name, '7')));
        const { document, conflicts } = three(base, ours, edit('theirs'), 'ours');
        // Removals that touch what the other side did may be asked about; edits and additions never need to be.
        if (conflicts.length > 0 && fates.some((fate) => fate.startsWith('removed'))) return;
        expect(conflicts).toEqual([]);
        const result = value(document) as Json[];
        const found = result.map((one) => [
          (one as Map<string, Json>).get('name'),
          (one as Map<string, { number: string }>).get('n')?.number,
        ]);
        const kept = fates.flatMap((fate, at) =>
          fate.startsWith('removed') ? [] : [[`e${at}`, fate === 'none' ? '0' : '1']],
        );
        expect(found.filter(([name]) => String(name).startsWith('e'))).toEqual(kept);
        expect(found.flatMap(([name]) => (String(name).startsWith('e') ? [] : [name]))).toEqual(added);
      }),
      { numRuns: 2000 },
    );
  });

  test('law: the same change on both sides is taken once', () => {
    fc.assert(
      fc.property(json, json, (base, side) => {
        expect(isSameJson(value(three(base, side, side).document), side)).toBe(true);
      }),
    );
  });

  test('law: swapping the sides swaps the sides of the conflicts and nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(container, entities, named),
        fc.oneof(container, entities, named),
        fc.oneof(container, entities, named),
        (base, ours, theirs) => {
          const one = three(base, ours, theirs, 'ours');
          const two = three(base, theirs, ours, 'theirs');
          expect(isSameJson(value(one.document), value(two.document))).toBe(true);
          const sides = (side: 'ours' | 'theirs', conflicts: typeof one.conflicts) =>
            conflicts
              .map((conflict) => (conflict[side] === undefined ? 'absent' : canonicalJson(conflict[side])))
              .sort();
          expect(sides('theirs', two.conflicts)).toEqual(sides('ours', one.conflicts));
          expect(sides('ours', two.conflicts)).toEqual(sides('theirs', one.conflicts));
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('law: with little work left, what one side alone changed is taken, and the sides still swap', () => {
    const letters = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 30 });
    const lists = fc.oneof(letters, container, named, fc.array(json, { maxLength: 20 }));
    fc.assert(
      fc.property(lists, lists, lists, fc.nat({ max: 400 }), (base, ours, theirs, steps) => {
        const of = (left: Json, right: Json, prefer: 'ours' | 'theirs') =>
          threeWay(jsonSource(base), jsonSource(left), jsonSource(right), prefer, createWork(steps)).document;
        expect(isSameJson(value(of(ours, base, 'theirs')), ours)).toBe(true);
        expect(isSameJson(value(of(base, theirs, 'ours')), theirs)).toBe(true);
        expect(isSameJson(value(of(ours, ours, 'theirs')), ours)).toBe(true);
        expect(isSameJson(value(of(ours, theirs, 'ours')), value(of(theirs, ours, 'theirs')))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('neither side is seen coarser for being the second', () => {
    const letters = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 40 });
    fc.assert(
      fc.property(letters, letters, letters, fc.nat({ max: 500 }), (base, ours, theirs, steps) => {
        const one = diff3({ base, ours, theirs }, createWork(steps));
        const two = diff3({ base, ours: theirs, theirs: ours }, createWork(steps));
        const swapped = { none: 'none', both: 'both', ours: 'theirs', theirs: 'ours' } as const;
        expect(
          two.map((chunk) => ({ ...chunk, changed: swapped[chunk.changed], ours: chunk.theirs, theirs: chunk.ours })),
        ).toEqual(one);
      }),
      { numRuns: 1000 },
    );
  });

  test('law: without a conflict, prefer makes no difference', () => {
    fc.assert(
      fc.property(container, container, container, (base, ours, theirs) => {
        const left = three(base, ours, theirs, 'ours');
        if (left.conflicts.length > 0) return;
        expect(value(three(base, ours, theirs, 'theirs').document)).toEqual(value(left.document));
      }),
      { numRuns: 1000 },
    );
  });

  test('costs what the documents weigh, however deep they are', () => {
    const nested = (value: string) => `${'['.repeat(190)}${Array(30_000).fill(7).join()},${value}${']'.repeat(190)}`;
    const started = performance.now();
    expect(merged(nested('1'), nested('2'), nested('1,3'), 'theirs')).toBe(nested('1,3'));
    // A few hundred milliseconds; comparing anew at each level took twenty times as long.
    expect(performance.now() - started).toBeLessThan(3000);
  });
});

describe('a three-way merge of text', () => {
  const lines = (base: string, ours: string, theirs: string, prefer: 'fail' | 'ours' | 'theirs' = 'fail') =>
    merge({ strategy: 'three-way', base: textSource(base), sources: [textSource(ours), textSource(theirs)], prefer });
  const result = (...sides: Parameters<typeof lines>) => Buffer.from(lines(...sides).document.bytes).toString();

  test('joins changes in different places', () => {
    expect(result('a\nb\nc\nd\ne\n', 'A\nb\nc\nd\ne\n', 'a\nb\nc\nd\nE\n')).toBe('A\nb\nc\nd\nE\n');
    expect(result('a\nb\nc\n', 'a\nb\nc\nd\n', 'b\nc\n')).toBe('b\nc\nd\n');
  });

  test('changes of the same lines collide, named by the lines of the base', () => {
    expect(conflictsOf(() => lines('a\nb\nc\n', 'a\nX\nc\n', 'a\nY\nc\n'))).toMatchObject([{ path: 'L2-L2' }]);
    expect(conflictsOf(() => lines('a\nc\n', 'a\nx\nc\n', 'a\ny\nc\n'))).toMatchObject([{ path: 'L2' }]);
    expect(result('a\nb\nc\n', 'a\nX\nc\n', 'a\nY\nc\n', 'theirs')).toBe('a\nY\nc\n');
  });

  test('law: a side that changed nothing gives the other; both the same gives it once', () => {
    fc.assert(
      fc.property(text, text, (base, side) => {
        expect(result(base, base, side)).toBe(side);
        expect(result(base, side, base)).toBe(side);
        expect(result(base, side, side)).toBe(side);
      }),
    );
  });

  test('law: swapping the sides swaps the sides of the conflicts and nothing else', () => {
    fc.assert(
      fc.property(text, text, text, (base, ours, theirs) => {
        expect(result(base, ours, theirs, 'ours')).toBe(result(base, theirs, ours, 'theirs'));
      }),
      { numRuns: 1000 },
    );
  });

  test('JSON against text is one conflict at the root', () => {
    const plan = { strategy: 'three-way', base: jsonSource(null), prefer: 'fail' } as const;
    expect(conflictsOf(() => merge({ ...plan, sources: [jsonSource('x'), textSource('x')] }))).toMatchObject([
      { path: '' },
    ]);
  });
});
