import { characterStart } from '../base/text.ts';
import { splitRuns } from './analysis.ts';

const lengthMax = 300;
const halfLength = lengthMax / 2;

/** The part of a chunk around the first place that has most of the query's words, cut between words. */
export function snippetOf(text: string, lexemes: readonly string[]): string {
  const plain = text.replaceAll(/\s+/g, ' ').trim();
  if (plain.length <= lengthMax) return plain;
  const wanted = new Set(lexemes);
  let best = { start: 0, count: 0 };
  let before = new Set<string>();
  for (let start = 0; start < plain.length; start += halfLength) {
    const half = new Set<string>();
    for (const { words } of splitRuns(plain.slice(wordStart(plain, start), wordStart(plain, start + halfLength))))
      for (const { lexeme } of words) if (wanted.has(lexeme)) half.add(lexeme);
    const count = new Set([...before, ...half]).size;
    if (count > best.count) best = { start: Math.max(start - halfLength, 0), count };
    before = half;
  }
  // Between words where there is a space near, else between characters.
  const space = plain.indexOf(' ', best.start);
  const isNear = best.start > 0 && space !== -1 && space - best.start < halfLength;
  const from = isNear ? space + 1 : characterStart(plain, best.start);
  const to = from + lengthMax >= plain.length ? plain.length : plain.lastIndexOf(' ', from + lengthMax);
  const end = to > from ? to : characterStart(plain, from + lengthMax);
  return `${from > 0 ? '… ' : ''}${plain.slice(from, end)}${end < plain.length ? ' …' : ''}`;
}

/** Where the word that begins before `at` has ended, unless that is far. */
function wordStart(text: string, at: number): number {
  if (at === 0 || at >= text.length) return at;
  const space = text.indexOf(' ', at - 1);
  return space !== -1 && space - at < halfLength / 2 ? space + 1 : characterStart(text, at);
}
