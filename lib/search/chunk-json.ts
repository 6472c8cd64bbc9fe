import { pointer } from '../base/json.ts';
import { cutText } from '../base/text.ts';
import type { Piece } from './chunk.ts';
import { chunkText, createCursor, headingMax, isClosed, sizeMax } from './chunk-text.ts';
import { type Node, textOf } from './json-nodes.ts';

const namesMax = 8;

/** JSON, cut between members: what is small enough stays together, and the path is a JSON Pointer to what it is in. */
export function chunkJson(text: string, root: Node): Piece[] {
  const pieces: Piece[] = [];
  // Depth first, without recursion.
  const todo: { readonly node: Node; readonly path: readonly (string | number)[] }[] = [{ node: root, path: [] }];
  for (;;) {
    const next = todo.pop();
    if (next === undefined) break;
    const { node, path } = next;
    if (node.end - node.from <= sizeMax) pieces.push(toPiece(text, [node], path));
    else {
      pieces.push(...longName(node, path));
      if (node.children === undefined) pieces.push(...longValue(text, node, path));
      else todo.push(...divide(text, node, path, pieces));
    }
  }
  return pieces.sort((left, right) => left.start - right.start);
}

/** Puts small neighbouring children together into `pieces`; answers with the large ones. */
function divide(text: string, node: Node, path: readonly (string | number)[], pieces: Piece[]) {
  const large: { node: Node; path: (string | number)[] }[] = [];
  let group: Node[] = [];
  const close = () => {
    if (group.length > 0) pieces.push(toPiece(text, group, path));
    group = [];
  };
  for (const child of node.children ?? []) {
    if (child.end - child.from > sizeMax) {
      close();
      large.push({ node: child, path: [...path, child.key ?? ''] });
      continue;
    }
    const [first = child] = group;
    const size = (group.at(-1)?.end ?? first.from) - first.from;
    if (isClosed(size, text.slice(child.from, child.end))) close();
    group.push(child);
  }
  close();
  return large;
}

function toPiece(text: string, nodes: readonly Node[], path: readonly (string | number)[]): Piece {
  return { text: textOf(text, nodes), path: pathOf(path), start: nodes[0]?.start ?? 0, end: nodes.at(-1)?.end ?? 0 };
}

/** A JSON Pointer, of its last names alone where there are many, each cut to 100 characters. */
function pathOf(path: readonly (string | number)[]): string {
  const names = path.slice(-namesMax).map((name) => (typeof name === 'string' ? cutText(name, headingMax) : name));
  return `${names.length < path.length ? '…' : ''}${pointer(names)}`;
}

/** A name that a path has not the room to tell. */
function longName({ key, from, start }: Node, path: readonly (string | number)[]): Piece[] {
  if (typeof key !== 'string' || key.length <= headingMax) return [];
  return chunkText(key).map((piece) => ({ text: piece.text, path: pathOf(path), start: from, end: start }));
}

/** What is no parent: a string is cut as text is. */
function longValue(text: string, node: Node, path: readonly (string | number)[]): Piece[] {
  if (node.kind === 'other' || node.end - node.start <= sizeMax) return [toPiece(text, [{ ...node, key: null }], path)];
  const raw = text.slice(node.start + 1, node.end - 1);
  const isPlain = !raw.includes('\\');
  const value = isPlain ? raw : (JSON.parse(text.slice(node.start, node.end)) as string);
  const lengthOf = isPlain
    ? (from: number, to: number) => to - from
    : (from: number, to: number, at: number) => escapedLength(raw, at, to - from);
  const [starts, ends] = [createCursor(lengthOf), createCursor(lengthOf)];
  return chunkText(value).map(({ text: own, start, end }) => ({
    text: own,
    path: pathOf(path),
    start: node.start + 1 + starts(start),
    end: node.start + 1 + ends(end),
  }));
}

/** What `count` units of a string's value take in its JSON text from `at` on, which has escapes. */
function escapedLength(raw: string, at: number, count: number): number {
  let end = at;
  for (let unit = 0; unit < count; unit++) end += raw[end] !== '\\' ? 1 : raw[end + 1] === 'u' ? 6 : 2;
  return end - at;
}
