import { stemmer } from '@orama/stemmers/english';
import { cutText } from '../base/text.ts';
import { stopWords } from './stop-words.ts';

/** A word of a text. */
export interface Word extends Folded {
  /** Counted from 1; stop words take one, too, so that phrases keep their distances. */
  readonly position: number;
}

/** A word, folded: lower case, without diacritics, in one Unicode form. */
interface Folded {
  readonly text: string;
  /** What it is indexed by: its stem where it is English (Porter2, https://snowballstem.org), else itself. */
  readonly lexeme: string;
}

/** A run of letters and digits, which has been looked at: texts have the same ones again and again. */
export interface Run {
  /** Its words but for stop words, in order. */
  readonly words: readonly RunWord[];
  /** How many places it takes. */
  readonly places: number;
}

interface RunWord extends Folded {
  /** In the run, counted from 1. */
  readonly place: number;
  /** Whether a query that has the run does not look for it. */
  readonly isIndexOnly: boolean;
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

/**
 * The words of a text but for stop words, in order. Names in camel case are found whole and by their parts; texts written
 * without spaces by pairs of neighbouring characters (as Lucene's CJKAnalyzer has it), in an index by single ones, too.
 */
export function splitWords(text: string, use: 'index' | 'query'): Word[] {
  const words: Word[] = [];
  visitWords(splitRuns(text), use, ({ text: own, lexeme }, position) => words.push({ text: own, lexeme, position }));
  return words;
}

function visitWords(
  runs: readonly Run[],
  use: 'index' | 'query',
  visit: (word: Folded, position: number) => void,
): void {
  let position = 0;
  for (const { words, places } of runs) {
    for (const word of words) if (use === 'index' || !word.isIndexOnly) visit(word, position + word.place);
    position += places;
  }
}

/** The runs of letters and digits of a text, in order. */
export function splitRuns(text: string): Run[] {
  if (ascii.test(text)) return (text.match(asciiRun) ?? []).map(knownRun);
  const folded = text.normalize('NFKD').replace(marked, '').normalize('NFKC');
  return (folded.match(anyRun) ?? []).map(knownRun);
}

const runsMax = 50_000;
const knownRuns = new Map<string, Run>();

/** To look a run up takes less time than to look at it. */
function knownRun(run: string): Run {
  const before = knownRuns.get(run);
  if (before !== undefined) return before;
  // Long ones are hardly ever met again.
  if (run.length > wordLengthMax) return toRun(run);
  // A copy: a piece of a string keeps all of it in memory.
  const own = Buffer.from(run).toString();
  const made = toRun(own);
  if (knownRuns.size >= runsMax) knownRuns.clear();
  knownRuns.set(own, made);
  return made;
}

function toRun(run: string): Run {
  const words: RunWord[] = [];
  let places = 0;
  const addSpaced = (own: string) => {
    if (own === '') return;
    const isName = own.length <= wordLengthMax && camelBreak.test(own);
    const parts = isName ? own.split(camelBreak) : [];
    // The first part stands where the whole does.
    for (const [word, place] of [[own, 1] as const, ...parts.map((part, at) => [part, at + 1] as const)]) {
      const text = cutText(word.toLowerCase(), wordLengthMax);
      if (!stopWords.has(text)) words.push({ text, lexeme: stem(text), place: places + place, isIndexOnly: false });
    }
    places += Math.max(parts.length, 1);
  };
  const addUnspaced = (own: string) => {
    const characters = [...own];
    for (const [at, text] of characters.entries()) {
      places++;
      const pair = `${text}${characters[at + 1] ?? ''}`;
      words.push({ text, lexeme: text, place: places, isIndexOnly: characters.length > 1 });
      if (pair !== text) words.push({ text: pair, lexeme: pair, place: places, isIndexOnly: false });
    }
  };
  let from = 0;
  for (const match of run.matchAll(unspaced)) {
    addSpaced(run.slice(from, match.index));
    addUnspaced(match[0]);
    from = match.index + match[0].length;
  }
  addSpaced(run.slice(from));
  return { words, places };
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

export function analyze(runs: readonly Run[]): Analysis {
  const positions = new Map<string, string>();
  let length = 0;
  visitWords(runs, 'index', ({ lexeme }, position) => {
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
