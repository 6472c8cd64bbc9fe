import { characterStart } from '../base/text.ts';
import { splitWords } from './analysis.ts';

const lengthMax = 300;

/** The part of a chunk around the first place that has most of the query's words, cut between words. */
export function snippetOf(text: string, lexemes: readonly string[]): string {
  const plain = text.replaceAll(/\s+/g, ' ').trim();
  if (plain.length <= lengthMax) return plain;
  const wanted = new Set(lexemes);
  let best = { start: 0, count: 0 };
  for (let start = 0; start < plain.length; start += lengthMax / 2) {
    const found = new Set(splitWords(plain.slice(start, start + lengthMax), 'index').map(({ lexeme }) => lexeme));
    const count = [...wanted].filter((lexeme) => found.has(lexeme)).length;
    if (count > best.count) best = { start, count };
  }
  // Between words where there is a space near, else between characters.
  const space = plain.indexOf(' ', best.start);
  const isNear = best.start > 0 && space !== -1 && space - best.start < lengthMax / 2;
  const from = isNear ? space + 1 : characterStart(plain, best.start);
  const to = from + lengthMax >= plain.length ? plain.length : plain.lastIndexOf(' ', from + lengthMax);
  const end = to > from ? to : characterStart(plain, from + lengthMax);
  return `${from > 0 ? '… ' : ''}${plain.slice(from, end)}${end < plain.length ? ' …' : ''}`;
}
