import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, isSameJson, type Json } from '../../lib/base/json.ts';
import { parseJson } from '../../lib/base/json-parse.ts';
import { Problem } from '../../lib/base/problem.ts';
import type { Source } from '../../lib/merge/document.ts';
import { type Merged, merge, type Strategy } from '../../lib/merge/merge.ts';
import { container, entities, json, jsonSource, text, textSource } from '../support/arbitrary.ts';

const all = (strategy: Strategy, ...sources: string[]) =>
  merge({ strategy, prefer: 'fail', sources: sources.map((source, at) => jsonSource(parseJson(source), at, 1)) });
const printed = (merged: Merged) => Buffer.from(merged.document.bytes).toString();
const value = (merged: Merged) => parseJson(printed(merged));

/** Equal but for the order within arrays. */
function normal(one: Json): string {
  if (Array.isArray(one)) return `[${one.map(normal).sort().join(',')}]`;
  if (one instanceof Map)
    return `{${[...one]
      .map(([key, member]) => `${key}:${normal(member)}`)
      .sort()
      .join(',')}}`;
  return canonicalJson(one);
}

describe('a union', () => {
  test('has every key, and each element as often as the source that has it most', () => {
    expect(printed(all('union', '{"a":[1,1,2],"b":{"x":1}}', '{"a":[2,2,3,1.0],"b":{"y":2},"c":null}'))).toBe(
      '{"a":[1,1,2,2,3],"b":{"x":1,"y":2},"c":null}',
    );
  });

  test('unites elements by id where ids are unique, and only there', () => {
    expect(printed(all('union', '[{"id":"a","x":1}]', '[{"id":"b"},{"id":"a","y":2}]'))).toBe(
      '[{"id":"a","x":1,"y":2},{"id":"b"}]',
    );
    expect(value(all('union', '[{"id":"a"},{"id":"a"}]', '[{"id":"a","y":2}]'))).toHaveLength(3);
  });

  test('of unequal scalars the latest wins, and says so', () => {
    const merged = all('union', '{"a":1,"b":"s"}', '{"a":2,"b":["s"]}');
    expect(printed(merged)).toBe('{"a":2,"b":["s"]}');
    expect(merged.conflicts).toEqual([
      { path: '/a', ours: { number: '1' }, theirs: { number: '2' }, chosen: 'theirs' },
      { path: '/b', ours: 's', theirs: ['s'], chosen: 'theirs' },
    ]);
  });

  test('of texts is folded by lines: first what only the left has, then the right', () => {
    const merged = merge({
      strategy: 'union',
      prefer: 'fail',
      sources: [textSource('a\nb\nd'), textSource('a\nc\nd\ne\n'), textSource('z')],
    });
    expect(printed(merged)).toBe('a\nb\nd\nc\nd\ne\nz');
    const folded = merge({
      strategy: 'union',
      prefer: 'fail',
      sources: [textSource('a\nb\nd\n'), textSource('a\nc\nd\ne\n')],
    });
    expect(printed(folded)).toBe('a\nb\nc\nd\ne\n');
  });

  test('of texts of half a million lines each has the lines of both', () => {
    const lines = (own: string) => Array.from({ length: 500_000 }, (_, at) => `${own} ${at}\n`).join('');
    const sources: Source[] = [textSource(lines('left')), textSource(lines('right'))];
    const { document } = merge({ strategy: 'union', sources, prefer: 'fail' });
    expect(Buffer.from(document.bytes).toString() === lines('left') + lines('right')).toBe(true);
  });
});

describe('an intersection', () => {
  test('keeps what all agree on', () => {
    expect(
      printed(
        all(
          'intersection',
          '{"a":1,"b":{"x":1,"y":2},"c":[3,1,1,2],"n":1.0}',
          '{"n":1,"b":{"y":2,"x":0},"c":[1,1,1,3],"a":2}',
        ),
      ),
    ).toBe('{"b":{"y":2},"c":[3,1,1],"n":1.0}');
  });

  test('of texts keeps the lines present in all, in the order of the first', () => {
    const sources = [textSource('b\na\na\nc\n'), textSource('a\nb\nx\na\n'), textSource('a\nb\n')];
    expect(printed(merge({ strategy: 'intersection', prefer: 'fail', sources }))).toBe('b\na\n');
  });

  test('of different roots is refused', () => {
    for (const [one, two] of [
      ['1', '2'],
      ['[]', '{}'],
      ['"a"', 'null'],
    ]) {
      expect(() => all('intersection', one!, two!)).toThrowError(Problem);
    }
    expect(() =>
      merge({ strategy: 'intersection', prefer: 'fail', sources: [jsonSource('a'), textSource('a')] }),
    ).toThrow(/nothing in common/);
  });
});

describe('the latest', () => {
  test('is decided by time, then by version, then by the place in the list', () => {
    const pick = (...ranks: [number, number][]) =>
      printed(
        merge({
          strategy: 'latest',
          prefer: 'fail',
          sources: ranks.map(([time, version], at) => jsonSource(String(at), time, version)),
        }),
      );
    expect(pick([5, 1], [9, 1], [7, 3])).toBe('"1"');
    expect(pick([5, 4], [5, 3])).toBe('"0"');
    expect(pick([5, 3], [5, 3])).toBe('"1"');
  });
});

describe('laws of every strategy', () => {
  const strategies = ['latest', 'union', 'intersection'] as const;

  test('merging a document with itself gives it back, byte for byte', () => {
    fc.assert(
      fc.property(json, fc.constantFrom(...strategies), fc.integer({ min: 2, max: 4 }), (one, strategy, count) => {
        const sources = Array.from({ length: count }, () => jsonSource(one));
        const merged = merge({ strategy, prefer: 'fail', sources });
        expect(merged.document.bytes).toEqual(sources[0]!.bytes);
        expect(merged.conflicts).toEqual([]);
      }),
    );
    fc.assert(
      fc.property(text, fc.constantFrom(...strategies), (one, strategy) => {
        expect(printed(merge({ strategy, prefer: 'fail', sources: [textSource(one), textSource(one)] }))).toBe(one);
      }),
    );
  });

  test('merging is deterministic', () => {
    fc.assert(
      fc.property(
        fc.array(json, { minLength: 2, maxLength: 4 }),
        fc.constantFrom('latest', 'union'),
        (values, strategy) => {
          const run = () =>
            merge({ strategy, prefer: 'fail', sources: values.map((one, at) => jsonSource(one, at % 2, 1)) });
          expect(printed(run())).toBe(printed(run()));
        },
      ),
    );
  });

  test('union and intersection of stored sources do not depend on their order, but within arrays', () => {
    const value3 = fc.oneof(container, entities);
    fc.assert(
      fc.property(fc.tuple(value3, value3, value3), fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2)), (values, times) => {
        const sources = values.map((one, at) => jsonSource(one, times[at]!, 1));
        const orders = [
          [0, 1, 2],
          [2, 1, 0],
          [1, 2, 0],
        ].map((order) => order.map((at) => sources[at]!));
        const unions = orders.map((order) =>
          normal(value(merge({ strategy: 'union', prefer: 'fail', sources: order }))),
        );
        expect(new Set(unions).size).toBe(1);
        const common = orders.map((order) => {
          try {
            return normal(value(merge({ strategy: 'intersection', prefer: 'fail', sources: order })));
          } catch (error) {
            return (error as Problem).code;
          }
        });
        expect(new Set(common).size).toBe(1);
      }),
      { numRuns: 1000 },
    );
  });

  test('a result equal to a source is that source, byte for byte', () => {
    const spelled = '{ "a" : 1.0, "b":[1e0] }';
    const source = {
      ...jsonSource(null),
      ...merge({ strategy: 'latest', prefer: 'fail', sources: [jsonSource(null), jsonSource(null)] }).document,
    };
    expect(source.kind).toBe('json');
    const bytes = Buffer.from(spelled);
    const first = {
      kind: 'json',
      contentType: 'application/json',
      bytes,
      value: parseJson(spelled),
      updatedMs: 1,
      version: 1,
    } as const;
    expect(
      merge({ strategy: 'union', prefer: 'fail', sources: [first, jsonSource(parseJson('{"b":[1]}'))] }).document.bytes,
    ).toBe(bytes);
  });

  test('no key reaches a prototype', () => {
    const hostile = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}';
    for (const strategy of ['union', 'intersection', 'latest'] as const) {
      expect(printed(all(strategy, hostile, hostile))).toBe(hostile);
    }
    merge({
      strategy: 'three-way',
      prefer: 'ours',
      base: jsonSource(new Map()),
      sources: [jsonSource(parseJson(hostile)), jsonSource(parseJson('{"__proto__":1}'))],
    });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('deep and wide inputs stay within bounds', () => {
    const deep = (leaf: string) => `${'{"a":['.repeat(99)}${leaf}${']}'.repeat(99)}`;
    expect(isSameJson(value(all('union', deep('1'), deep('1'))), parseJson(deep('1')))).toBe(true);
    const wide = (offset: number) =>
      new Map(
        Array.from({ length: 100_000 }, (_, at) => [`k${at + offset}`, { number: String(at) }] as [string, Json]),
      );
    const started = performance.now();
    const three = merge({
      strategy: 'three-way',
      prefer: 'ours',
      base: jsonSource(wide(0)),
      sources: [jsonSource(wide(0)), jsonSource(wide(10))],
    });
    expect((value(three) as Map<string, Json>).size).toBe(100_000);
    const list = (step: number) =>
      Array.from({ length: 100_000 }, (_, at): Json => ({ number: String((at * step) % 100_003) }));
    const arrays = merge({
      strategy: 'three-way',
      prefer: 'ours',
      base: jsonSource(list(1)),
      sources: [jsonSource(list(7)), jsonSource(list(11))],
    });
    expect(Array.isArray(value(arrays))).toBe(true);
    // A generous bound against anything quadratic; how fast it is stands in the benchmark.
    expect(performance.now() - started).toBeLessThan(30_000);
  });
});
