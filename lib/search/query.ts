import { splitWords, type Word } from './analysis.ts';

/** A query as the index is asked. */
export interface WordQuery {
  /** Any of these make a text a candidate; the rarer ones count more. */
  readonly lexemes: readonly string[];
  /** Lexemes that all have to be there. */
  readonly needed: readonly string[];
  /** Phrases that a text must hold, as a tsquery; null for none. */
  readonly must: string | null;
  /** What a text must not hold, as a tsquery; null for nothing. */
  readonly mustNot: string | null;
  /** Of that, what is a lexeme by itself. */
  readonly excluded: readonly string[];
}

// Of all kinds together: a query is read to here.
const lexemesMax = 64;

/**
 * Reads a query of natural language: its words are alternatives, `"…"` is a phrase that has to be there, `-word` and
 * `-"…"` must not be. There is no wrong query: whatever is none of these is a word or nothing.
 */
export function readQuery(text: string): WordQuery {
  const lexemes = new Set<string>();
  const must: string[] = [];
  const needed = new Set<string>();
  const mustNot: string[] = [];
  const excluded = new Set<string>();
  let asked = 0;
  const toWords = (phrase: string) => {
    const words = splitWords(phrase, 'query').slice(0, lexemesMax - asked);
    asked += words.length;
    return words;
  };
  const rest = text.replaceAll(/(?<=^|\s)(-?)"([^"]*)"|(?<=^|\s)-(?=[\p{L}\p{N}])(\S+)/gu, (_, minus, phrase, word) => {
    const words = toWords(phrase ?? word);
    const own = toPhrase(words);
    if (own === null) return ' ';
    if (minus === '-' || word !== undefined) {
      mustNot.push(own);
      const [first, ...others] = words;
      if (first !== undefined && others.every(({ position }) => position === first.position))
        excluded.add(first.lexeme);
      return ' ';
    }
    must.push(own);
    for (const { lexeme } of words) needed.add(lexeme);
    return ` ${phrase} `;
  });
  for (const { lexeme } of splitWords(rest, 'query')) {
    if (lexemes.size < lexemesMax) lexemes.add(lexeme);
  }
  const join = (parts: string[], operator: string) => (parts.length === 0 ? null : parts.join(operator));
  return {
    lexemes: [...lexemes],
    needed: [...needed],
    must: join(must, ' & '),
    mustNot: join(mustNot, ' | '),
    excluded: [...excluded],
  };
}

/** Words at their distances; null where there are none. */
function toPhrase(words: readonly Word[]): string | null {
  let phrase = '';
  let before = 0;
  for (const { lexeme, position } of words) {
    // The parts of a name in camel case stand where the name does.
    if (phrase !== '' && position === before) continue;
    phrase += `${phrase === '' ? '' : ` <${position - before}> `}'${lexeme}'`;
    before = position;
  }
  return phrase === '' ? null : `(${phrase})`;
}
