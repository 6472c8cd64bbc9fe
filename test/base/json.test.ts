import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, canonicalNumber, isSameJson, type Json, printJson, toPlain } from '../../lib/base/json.ts';
import { checkJson, parseJson } from '../../lib/base/json-parse.ts';
import { Problem } from '../../lib/base/problem.ts';
import { json } from '../support/arbitrary.ts';

const codeOf = (source: string) => {
  try {
    parseJson(source);
  } catch (error) {
    if (error instanceof Problem) return [error.code, (error.facts['errors'] as { path: string }[])[0]?.path];
    throw error;
  }
  return ['parsed'];
};

describe('parsing JSON', () => {
  test('agrees with JSON.parse on every document, and printing gives the same values', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (source) => {
        expect(toPlain(parseJson(source))).toEqual(JSON.parse(source));
        expect(JSON.parse(printJson(parseJson(source)))).toEqual(JSON.parse(source));
      }),
      { numRuns: 1000 },
    );
  });

  test('agrees with JSON.parse on what is no JSON', () => {
    const characters = fc.constantFrom(...'{}[]",:\\0123456789.eE+-truefalsn \n\tu'.split(''));
    fc.assert(
      fc.property(
        fc.array(characters, { maxLength: 12 }).map((list) => list.join('')),
        (source) => {
          const isJson = (() => {
            try {
              JSON.parse(source);
              return true;
            } catch {
              return false;
            }
          })();
          const [code] = codeOf(source);
          // Duplicate keys and lone surrogates are JSON, but no I-JSON.
          if (code === 'unprocessable') expect(isJson).toBe(true);
          else expect(code === 'parsed').toBe(isJson);
        },
      ),
      { numRuns: 20_000 },
    );
  });

  test('refuses duplicate keys and lone surrogates where they stand', () => {
    expect(codeOf('{"a":{"b":1,"c":2,"b":3}}')).toEqual(['unprocessable', '/a/b']);
    expect(codeOf('{"a":1,"\\u0061":2}')).toEqual(['unprocessable', '/a']);
    expect(codeOf('[1,"\\ud800"]')).toEqual(['unprocessable', '/1']);
    expect(codeOf('{"\\udc00x":1}')[0]).toBe('unprocessable');
    expect(codeOf('["\\ud83d\\ude00"]')).toEqual(['parsed']);
  });

  test('nests 200 deep, and 10,000 are refused without a stack overflow', () => {
    expect(codeOf(`${'['.repeat(200)}${']'.repeat(200)}`)).toEqual(['parsed']);
    expect(codeOf(`${'['.repeat(201)}${']'.repeat(201)}`)[0]).toBe('unprocessable');
    expect(codeOf('{"a":'.repeat(10_000))[0]).toBe('unprocessable');
  });
});

describe('checking JSON', () => {
  const said = (read: (text: string) => unknown, text: string) => {
    try {
      read(text);
      return undefined;
    } catch (error) {
      return error instanceof Problem ? [error.code, error.message, error.facts] : error;
    }
  };

  test('refuses what parsing refuses, in the same words, and nothing else', () => {
    const pieces = fc.constantFrom('{', '}', '[', ']', ',', ':', '"a"', '"b"', '"\\ud800"', '1', 'true', ' ', '"');
    const texts = fc.oneof(
      json.map((value) => printJson(value as Json)),
      fc.array(pieces, { maxLength: 12 }).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        expect(said(checkJson, text)).toEqual(said(parseJson, text));
      }),
      { numRuns: 2000 },
    );
    for (const text of ['{"a":{"b":[1,{"c":1,"c":2}]}}', '[[1],[2,"\\udfff"]]', '['.repeat(201)])
      expect(said(checkJson, text)).toEqual(said(parseJson, text));
  });
});

describe('numbers', () => {
  test('with exponents beyond all measure are compared without converting them', () => {
    const long = '9'.repeat(400_000);
    const started = performance.now();
    expect(canonicalNumber(`1e${long}`)).toBe(canonicalNumber(`1.0e${long}`.replace('1.0', '1')));
    expect(canonicalNumber(`1e${long}`)).not.toBe(canonicalNumber(`2e${long}`));
    expect(canonicalNumber('1e00000000000000000001')).toBe(canonicalNumber('10'));
    expect(canonicalNumber(`1e${'9'.repeat(40)}`)).toBe(canonicalNumber(`0.1e1${'0'.repeat(40)}`));
    expect(performance.now() - started).toBeLessThan(1000);
  });

  test('are equal by decimal value, whatever their spelling', () => {
    for (const [one, two] of [
      ['1', '1.0'],
      ['10', '1e1'],
      ['0.1', '100e-3'],
      ['-0', '0'],
      ['1E400', '10e399'],
      ['12345678901234567890', '1234567890123456789e1'],
    ]) {
      expect(canonicalNumber(one!)).toBe(canonicalNumber(two!));
    }
    for (const [one, two] of [
      ['1', '-1'],
      ['1', '10'],
      ['9007199254740992', '9007199254740993'],
      ['0.1', '0.10000000000000001'],
    ]) {
      expect(canonicalNumber(one!)).not.toBe(canonicalNumber(two!));
    }
    expect(canonicalNumber('1e999999999999999999999')).toBe('1e999999999999999999999');
  });

  test('equality and the canonical text say the same', () => {
    fc.assert(
      fc.property(json, json, (one: Json, two: Json) => {
        expect(isSameJson(one, two)).toBe(canonicalJson(one) === canonicalJson(two));
      }),
      { numRuns: 2000 },
    );
  });
});
