import { splitWords, toLexeme } from './analysis.ts';

const lengthMax = 300;

/** The part of a chunk around the first place that has most of the query's words, cut between words. */
export function snippetOf(text: string, lexemes: readonly string[]): string {
  const plain = text.replaceAll(/\s+/g, ' ').trim();
  if (plain.length <= lengthMax) return plain;
  const wanted = new Set(lexemes);
  let best = { start: 0, count: 0 };
  for (let start = 0; start < plain.length; start += lengthMax / 2) {
    const found = new Set(
      splitWords(plain.slice(start, start + lengthMax), 'index').map(({ text: word }) => toLexeme(word)),
    );
    const count = [...wanted].filter((lexeme) => found.has(lexeme)).length;
    if (count > best.count) best = { start, count };
  }
  const from = best.start === 0 ? 0 : plain.indexOf(' ', best.start) + 1 || best.start;
  const to = from + lengthMax >= plain.length ? plain.length : plain.lastIndexOf(' ', from + lengthMax);
  const end = to > from ? to : from + lengthMax;
  return `${from > 0 ? '… ' : ''}${plain.slice(from, end)}${end < plain.length ? ' …' : ''}`;
}
