import type { Param, Statement } from './database.ts';

/** SQL and its values, not yet numbered, so that pieces can be put together. */
export interface Fragment {
  readonly parts: readonly string[];
  readonly values: readonly Param[];
}

type Piece = Param | Fragment;

/** Writes a piece of SQL; a value becomes a parameter, another piece becomes part of the text. */
export function sql(texts: TemplateStringsArray, ...pieces: readonly Piece[]): Fragment {
  const parts = [texts[0] ?? ''];
  const values: Param[] = [];
  pieces.forEach((piece, index) => {
    const after = texts[index + 1] ?? '';
    if (piece !== null && typeof piece === 'object') {
      append(parts, values, piece);
      parts[parts.length - 1] += after;
    } else {
      values.push(piece);
      parts.push(after);
    }
  });
  return { parts, values };
}

/** Puts pieces side by side with `separator` between them. */
export function join(fragments: readonly Fragment[], separator: string): Fragment {
  const parts = [''];
  const values: Param[] = [];
  fragments.forEach((fragment, index) => {
    if (index > 0) parts[parts.length - 1] += separator;
    append(parts, values, fragment);
  });
  return { parts, values };
}

/** Text of our own that is no value, such as a column's name; never anything a caller sent. */
export function raw(text: string): Fragment {
  return { parts: [text], values: [] };
}

/** Numbers the parameters. */
export function toStatement(fragment: Fragment): Statement {
  return {
    text: fragment.parts.map((part, index) => (index === 0 ? part : `$${index}${part}`)).join(''),
    params: fragment.values,
  };
}

function append(parts: string[], values: Param[], fragment: Fragment): void {
  parts[parts.length - 1] += fragment.parts[0] ?? '';
  parts.push(...fragment.parts.slice(1));
  values.push(...fragment.values);
}
