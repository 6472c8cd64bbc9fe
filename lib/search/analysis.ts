import { stemmer } from '@orama/stemmers/english';
import { cutText } from '../base/text.ts';
import { stopWords } from './stop-words.ts';

/** A word of a text, folded: lower case, without diacritics, in one Unicode form. */
export interface Word extends Folded {
  /** Counted from 1; stop words take one, too, so that phrases keep their distances. */
  readonly position: number;
}

/** A word, and what it is indexed by: its stem where it is English (Porter2, https://snowballstem.org), else itself. */
interface Folded {
  readonly text: string;
  readonly lexeme: string;
}

// Scripts written without spaces between words.
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u30fc]+/gu;
const marked = /(?<=[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}])\p{M}+/gu;
const asciiRun = /[A-Za-z0-9]+/g;
const anyRun = /[\p{L}\p{N}\p{M}]+/gu;
// Between the words of a name in camel case, as programs have them.
const camelBreak = /(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII begins there
const ascii = /^[\x00-\x7f]*$/;
const wordLengthMax = 64;

/** The words of a text but for stop words, see {@link visitWords}. */
export function splitWords(text: string, use: 'index' | 'query'): Word[] {
  const words: Word[] = [];
  visitWords(text, use, ({ text: own, lexeme }, position) => words.push({ text: own, lexeme, position }));
  return words;
}

/**
 * Tells the words of a text but for stop words, in order. Names in camel case are found whole and by their parts; texts
 * written without spaces by pairs of neighbouring characters (as Lucene's CJKAnalyzer has it), in an index by single ones, too.
 */
export function visitWords(
  text: string,
  use: 'index' | 'query',
  visit: (word: Folded, position: number) => void,
): void {
  let position = 0;
  const visitSpaced = (own: string) => {
    const run = foldRun(own);
    if (!run.isStopWord) visit(run, position + 1);
    for (const part of run.parts) if (!part.isStopWord) visit(part, position + part.place);
    position += run.places;
  };
  const visitUnspaced = (run: string) => {
    const characters = [...run];
    characters.forEach((character, at) => {
      position++;
      const next = characters[at + 1];
      if (use === 'index' || characters.length === 1) visit({ text: character, lexeme: character }, position);
      if (next !== undefined) visit({ text: character + next, lexeme: character + next }, position);
    });
  };

  const { runs, isAscii } = splitRuns(text);
  if (isAscii) {
    for (const run of runs) visitSpaced(run);
    return;
  }
  for (const run of runs) {
    let from = 0;
    for (const match of run.matchAll(unspaced)) {
      if (match.index > from) visitSpaced(run.slice(from, match.index));
      visitUnspaced(match[0]);
      from = match.index + match[0].length;
    }
    if (from < run.length) visitSpaced(run.slice(from));
  }
}

/** The runs of letters and digits of a text, in order: what words there are in one, it says by itself. */
export function splitRuns(text: string): { readonly runs: readonly string[]; readonly isAscii: boolean } {
  if (ascii.test(text)) return { runs: text.match(asciiRun) ?? [], isAscii: true };
  const folded = text.normalize('NFKD').replace(marked, '').normalize('NFKC');
  return { runs: folded.match(anyRun) ?? [], isAscii: false };
}

const runsMax = 50_000;

/** Keeps what is made of a run: texts have the same ones again and again, and to look one up takes less time. */
export function rememberRuns<Value>(make: (run: string) => Value): (run: string) => Value {
  const known = new Map<string, Value>();
  return (run) => {
    const before = known.get(run);
    if (before !== undefined) return before;
    // Long ones are hardly ever met again.
    if (run.length > wordLengthMax) return make(run);
    // A copy: a piece of a string keeps all of it in memory.
    const own = Buffer.from(run).toString();
    const made = make(own);
    if (known.size >= runsMax) known.clear();
    known.set(own, made);
    return made;
  };
}

/** A run of letters and digits: a word, or a name whose parts are words, too. */
interface Run extends Part {
  readonly parts: readonly Part[];
  /** How many places it takes. */
  readonly places: number;
}

interface Part extends Folded {
  readonly isStopWord: boolean;
  /** In the run, counted from 1: the first part stands where the whole does. */
  readonly place: number;
}

const noParts: readonly Part[] = [];

const foldRun = rememberRuns((run): Run => {
  const isName = run.length <= wordLengthMax && camelBreak.test(run);
  const parts = isName ? run.split(camelBreak).map((part, at) => toPart(part, at + 1)) : noParts;
  return { ...toPart(run, 1), parts, places: Math.max(parts.length, 1) };
});

function toPart(own: string, place: number): Part {
  const text = cutText(own.toLowerCase(), wordLengthMax);
  return { text, lexeme: stem(text), isStopWord: stopWords.has(text), place };
}

const stem = (word: string) => (/^[a-z]{3,}$/.test(word) ? stemmer(word) : word);

/** What of a text the index looks at. */
export interface Analysis {
  /** Lexemes with their positions, as PostgreSQL reads a tsvector. */
  readonly vector: string;
  /** Each lexeme once. */
  readonly lexemes: readonly string[];
  /** How many words there are but for stop words. */
  readonly length: number;
}

export function analyze(text: string): Analysis {
  const positions = new Map<string, string>();
  let length = 0;
  visitWords(text, 'index', ({ lexeme }, position) => {
    const before = positions.get(lexeme);
    positions.set(lexeme, before === undefined ? `${position}` : `${before},${position}`);
    length++;
  });
  let vector = '';
  for (const [lexeme, at] of positions) vector += `${lexeme}:${at} `;
  return { vector, lexemes: [...positions.keys()], length };
}

/** FNV-1a over UTF-16 units, as a signed integer of 32 bits. @param before the hash of what precedes the text. */
export function hash32(text: string, before = 0x811c9dc5): number {
  let hash = before;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash | 0;
}

/**
 * What each lexeme is looked up by: short, and unlike in each space, so that the terms of one cost the others nothing. Two
 * lexemes of one hash are told apart by the tsvector.
 */
export function toTerms(space: string, lexemes: readonly string[]): number[] {
  const before = hash32(`${space}\n`);
  return lexemes.map((lexeme) => hash32(lexeme, before));
}
