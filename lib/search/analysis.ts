import { stemmer } from '@orama/stemmers/english';
import { cutText } from '../base/text.ts';
import { stopWords } from './stop-words.ts';

/** A word of a text, folded: lower case, without diacritics, in one Unicode form. */
export interface Word {
  readonly text: string;
  /** Counted from 1; stop words take one, too, so that phrases keep their distances. */
  readonly position: number;
}

// Scripts written without spaces between words.
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u30fc]+/gu;
const marked = /(?<=[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}])\p{M}+/gu;
const asciiWord = /[A-Za-z0-9]+/g;
const anyWord = /[\p{L}\p{N}\p{M}]+/gu;
// Between the words of a name in camel case, as programs have them.
const camelBreak = /(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII begins there
const ascii = /^[\x00-\x7f]*$/;
const wordLengthMax = 64;

/**
 * The words of a text but for stop words. Names in camel case are found whole and by their parts; texts written without
 * spaces by pairs of neighbouring characters (as Lucene's CJKAnalyzer has it), in an index by single ones, too.
 */
export function splitWords(text: string, use: 'index' | 'query'): Word[] {
  const words: Word[] = [];
  let position = 0;
  const add = (word: string, at: number) => {
    if (!stopWords.has(word)) words.push({ text: cutText(word, wordLengthMax), position: at });
  };
  const addSpaced = (token: string) => {
    position++;
    const parts = token.length <= wordLengthMax && camelBreak.test(token) ? token.split(camelBreak) : [];
    add(token.toLowerCase(), position);
    parts.forEach((part, at) => {
      if (at > 0) position++;
      add(part.toLowerCase(), position);
    });
  };
  const addUnspaced = (run: string) => {
    const characters = [...run];
    characters.forEach((character, at) => {
      position++;
      const next = characters[at + 1];
      if (use === 'index' || characters.length === 1) add(character, position);
      if (next !== undefined) add(character + next, position);
    });
  };

  if (ascii.test(text)) {
    for (const [token] of text.matchAll(asciiWord)) addSpaced(token);
    return words;
  }
  const folded = text.normalize('NFKD').replace(marked, '').normalize('NFKC');
  for (const [token] of folded.matchAll(anyWord)) {
    let from = 0;
    for (const match of token.matchAll(unspaced)) {
      if (match.index > from) addSpaced(token.slice(from, match.index));
      addUnspaced(match[0]);
      from = match.index + match[0].length;
    }
    if (from < token.length) addSpaced(token.slice(from));
  }
  return words;
}

// Texts use the same words again and again, and stemming one takes longer than looking it up.
const stems = new Map<string, string>();
const stemsMax = 50_000;

/** What a word is indexed by: its stem where it is English (Porter2, https://snowballstem.org), else itself. */
export function toLexeme(word: string): string {
  const known = stems.get(word);
  if (known !== undefined) return known;
  const lexeme = /^[a-z]{3,}$/.test(word) ? stemmer(word) : word;
  if (stems.size >= stemsMax) stems.clear();
  stems.set(word, lexeme);
  return lexeme;
}

/** What of a text the index looks at. */
export interface Analysis {
  /** Lexemes with their positions, as PostgreSQL reads a tsvector. */
  readonly vector: string;
  /** Each lexeme once. */
  readonly lexemes: readonly string[];
  /** How many words there are but for stop words. */
  readonly length: number;
}

// Bounds of a tsvector: https://www.postgresql.org/docs/current/textsearch-limitations.html
const positionMax = 16_383;
const positionsMax = 255;

export function analyze(text: string): Analysis {
  const words = splitWords(text, 'index');
  const positions = new Map<string, number[]>();
  for (const { text: word, position } of words) {
    const lexeme = toLexeme(word);
    const known = positions.get(lexeme);
    if (known === undefined) positions.set(lexeme, [position]);
    else if (known.length < positionsMax) known.push(position);
  }
  let vector = '';
  for (const [lexeme, at] of positions) vector += `'${lexeme}':${at.map((one) => Math.min(one, positionMax))} `;
  return { vector, lexemes: [...positions.keys()], length: words.length };
}

/** FNV-1a over UTF-16 units, as a signed integer of 32 bits. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash | 0;
}

/**
 * What a lexeme is looked up by: short, and unlike in each space, so that the terms of one cost the others nothing. Two
 * lexemes of one hash are told apart by the tsvector.
 */
export const toTerm = (space: string, lexeme: string) => hash32(`${space}\n${lexeme}`);
