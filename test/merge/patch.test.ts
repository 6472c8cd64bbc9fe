import { applyPatch } from 'diff';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSameJson, printJson, toPlain } from '../../lib/base/json.ts';
import { parseJson } from '../../lib/base/json-parse.ts';
import { Problem } from '../../lib/base/problem.ts';
import { createWork } from '../../lib/merge/align.ts';
import { jsonPatch, unifiedDiff } from '../../lib/merge/diff.ts';
import { applyJsonPatch, applyMergePatch } from '../../lib/merge/patch.ts';
import { container, json, text } from '../support/arbitrary.ts';

const patched = (target: string, patch: string) => printJson(applyJsonPatch(parseJson(target), parseJson(patch)));

describe('JSON Merge Patch', () => {
  // The examples of RFC 7396, appendix A.
  test.each([
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', '{}'],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['["a","b"]', '["c","d"]', '["c","d"]'],
    ['{"a":"b"}', '["c"]', '["c"]'],
    ['{"a":"foo"}', 'null', 'null'],
    ['{"a":"foo"}', '"bar"', '"bar"'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
    ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
  ])('%s with %s is %s', (target, patch, result) => {
    expect(printJson(applyMergePatch(parseJson(target), parseJson(patch)))).toBe(result);
  });
});

describe('JSON Patch', () => {
  // The examples of RFC 6902, appendix A, as far as they succeed.
  test.each([
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz","value":"qux"}]', '{"foo":"bar","baz":"qux"}'],
    ['{"foo":["bar","baz"]}', '[{"op":"add","path":"/foo/1","value":"qux"}]', '{"foo":["bar","qux","baz"]}'],
    ['{"baz":"qux","foo":"bar"}', '[{"op":"remove","path":"/baz"}]', '{"foo":"bar"}'],
    ['{"foo":["bar","qux","baz"]}', '[{"op":"remove","path":"/foo/1"}]', '{"foo":["bar","baz"]}'],
    ['{"baz":"qux","foo":"bar"}', '[{"op":"replace","path":"/baz","value":"boo"}]', '{"baz":"boo","foo":"bar"}'],
    [
      '{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}',
      '[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]',
      '{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}',
    ],
    [
      '{"foo":["all","grass","cows","eat"]}',
      '[{"op":"move","from":"/foo/1","path":"/foo/3"}]',
      '{"foo":["all","cows","eat","grass"]}',
    ],
    [
      '{"baz":"qux","foo":["a",2,"c"]}',
      '[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2.0}]',
      '{"baz":"qux","foo":["a",2,"c"]}',
    ],
    [
      '{"foo":"bar"}',
      '[{"op":"add","path":"/child","value":{"grandchild":{}}}]',
      '{"foo":"bar","child":{"grandchild":{}}}',
    ],
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz","value":"qux","xyz":123}]', '{"foo":"bar","baz":"qux"}'],
    ['{"/":9,"~1":10}', '[{"op":"test","path":"/~01","value":10}]', '{"/":9,"~1":10}'],
    ['{"foo":["bar"]}', '[{"op":"add","path":"/foo/-","value":["abc","def"]}]', '{"foo":["bar",["abc","def"]]}'],
    ['{"a":1}', '[{"op":"replace","path":"","value":[1.0]}]', '[1.0]'],
    [
      '{"a":{"b":1}}',
      '[{"op":"copy","from":"/a","path":"/c"},{"op":"add","path":"/c/d","value":2}]',
      '{"a":{"b":1},"c":{"b":1,"d":2}}',
    ],
    ['{"a":1}', '[{"op":"add","path":"/__proto__","value":{"x":1}}]', '{"a":1,"__proto__":{"x":1}}'],
  ])('%s with %s is %s', (target, patch, result) => {
    expect(patched(target, patch)).toBe(result);
  });

  test.each([
    ['{"foo":"bar"}', '[{"op":"add","path":"/baz/bat","value":"qux"}]', 'unprocessable'],
    ['{"baz":"qux"}', '[{"op":"test","path":"/baz","value":"bar"}]', 'unprocessable'],
    ['{"a":1}', '[{"op":"remove","path":"/b"}]', 'unprocessable'],
    ['{"a":1}', '[{"op":"replace","path":"/b","value":1}]', 'unprocessable'],
    ['[1]', '[{"op":"add","path":"/2","value":1}]', 'unprocessable'],
    ['[1]', '[{"op":"add","path":"/01","value":1}]', 'unprocessable'],
    ['[1]', '[{"op":"remove","path":"/-"}]', 'unprocessable'],
    ['{"a":{"b":1}}', '[{"op":"move","from":"/a","path":"/a/b"}]', 'unprocessable'],
    ['{"a":1}', '[{"op":"remove","path":""}]', 'unprocessable'],
    ['{"a":1}', '{"op":"remove","path":"/a"}', 'invalid_request'],
    ['{"a":1}', '[{"op":"add","path":"a","value":1}]', 'invalid_request'],
    ['{"a":1}', '[{"op":"add","path":"/a"}]', 'invalid_request'],
    ['{"a":1}', '[{"op":"spin","path":"/a"}]', 'invalid_request'],
    ['{"a":1}', '[{"op":"test","path":"/~2","value":1}]', 'invalid_request'],
    ['{"a":1}', '[5]', 'invalid_request'],
  ])('%s with %s is refused as %s', (target, patch, code) => {
    const before = parseJson(target);
    const attempt = () => applyJsonPatch(before, parseJson(patch));
    expect(attempt).toThrow(Problem);
    expect(
      (() => {
        try {
          attempt();
        } catch (error) {
          return (error as Problem).code;
        }
        return undefined;
      })(),
    ).toBe(code);
    expect(printJson(before)).toBe(target);
  });

  test('copies cannot double a document until memory ends', () => {
    const doubling = Array.from({ length: 40 }, () => '{"op":"copy","from":"","path":"/-"}').join(',');
    expect(() => patched('[1,2,3,4,5,6,7,8]', `[${doubling}]`)).toThrow(/grow too large/);
  });

  test('the patch between two values leads from one to the other', () => {
    fc.assert(
      fc.property(fc.oneof(container, json), fc.oneof(container, json), (from, to) => {
        const patch = jsonPatch(from, to);
        expect(isSameJson(applyJsonPatch(from, patch), to)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('and so it does wherever the work is used up', () => {
    const values = fc.oneof(container, fc.array(json, { maxLength: 30 }));
    fc.assert(
      fc.property(values, values, fc.nat({ max: 300 }), (from, to, steps) => {
        const patch = jsonPatch(from, to, createWork(steps));
        expect(isSameJson(applyJsonPatch(from, patch), to)).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  // So long that a patch of each level by itself may pass what it spares.
  const deepArray = fc.array(fc.nat({ max: 20 }), { minLength: 150, maxLength: 400 });
  const large = fc
    .array(fc.oneof(deepArray, fc.array(deepArray, { maxLength: 3 })), { maxLength: 4 })
    .map((value) => parseJson(JSON.stringify(value)));
  test('it is never much longer than the value it leads to', () => {
    fc.assert(
      fc.property(large, large, (from, to) => {
        const patch = jsonPatch(from, to);
        expect(isSameJson(applyJsonPatch(from, patch), to)).toBe(true);
        expect(printJson(patch).length).toBeLessThanOrEqual(printJson(to).length + 4200);
      }),
      { numRuns: 200 },
    );
  });

  test('what has changed throughout is replaced where it is, and what is beside it told as ever', () => {
    const numbers = (step: number) => Array.from({ length: 5000 }, (_, at) => (at * step) % 4999);
    const value = (step: number) => parseJson(JSON.stringify({ kept: numbers(1), all: numbers(step), one: [step] }));
    const patch = jsonPatch(value(2), value(3));
    expect(patch.map((operation) => toPlain(operation))).toMatchObject([
      { op: 'replace', path: '/all', value: numbers(3) },
      { op: 'replace', path: '/one/0', value: 3 },
    ]);
  });

  test('an element put in at the front of a million is one operation', () => {
    const many = Array.from({ length: 1_000_000 }, (_, at) => at % 977);
    const patch = jsonPatch(parseJson(JSON.stringify(many)), parseJson(JSON.stringify([5, ...many])));
    expect(printJson(patch)).toBe('[{"op":"add","path":"/0","value":5}]');
  });
});

describe('a unified diff', () => {
  test('is applied by another program to give the other text', () => {
    fc.assert(
      fc.property(text, text, (from, to) => {
        const patch = unifiedDiff(from, to, { from: 'a', to: 'b' });
        if (from === to) expect(patch).toBe('');
        else expect(applyPatch(from, patch)).toBe(to);
      }),
      { numRuns: 2000 },
    );
  });

  test('and so it is wherever the work is used up', () => {
    fc.assert(
      fc.property(text, text, fc.nat({ max: 60 }), (from, to, steps) => {
        const patch = unifiedDiff(from, to, { from: 'a', to: 'b' }, createWork(steps));
        expect(from === to ? from : applyPatch(from, patch)).toBe(to);
      }),
      { numRuns: 2000 },
    );
  });
});
