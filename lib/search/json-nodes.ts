import { cutText } from '../base/text.ts';
import { sizeMax } from './chunk-text.ts';

/** A value of a JSON document and where it stands in the text. */
export interface Node {
  readonly kind: 'object' | 'array' | 'string' | 'other';
  /** Its name in the object, or its place in the array, that it is in; null at the top. */
  readonly key: string | number | null;
  /** Where its name begins, or the value itself where it has none. */
  readonly from: number;
  readonly start: number;
  end: number;
  readonly children?: Node[];
}

// Numbers and the like that stand one after another in an array are one node until they have this many characters: a
// node for each takes more memory than a document of nothing else may.
const runMax = 256;
const between = /[\s,:]*/y;
const scalar = /[^\s,:{}[\]"]+/y;

/** The values of a JSON text that the store has taken, and so is one: without recursion, whatever its depth. */
export function readNodes(text: string): Node {
  const open: { readonly node: Node; members: number }[] = [];
  let root: Node | undefined;
  let name: { readonly from: number; readonly key: string } | undefined;
  for (let at = 0; ; ) {
    between.lastIndex = at;
    between.test(text);
    const start = between.lastIndex;
    if (start >= text.length) break;
    const first = text[start] as string;
    if (first === '}' || first === ']') {
      at = start + 1;
      const closed = open.pop();
      if (closed !== undefined) closed.node.end = at;
      // What is empty says nothing.
      if (closed?.node.children?.length === 0 && typeof closed.node.key === 'number') open.at(-1)?.node.children?.pop();
      continue;
    }
    const parent = open.at(-1);
    at = first === '"' ? stringEnd(text, start) : first === '{' || first === '[' ? start + 1 : scalarEnd(text, start);
    if (first === '"' && parent?.node.kind === 'object' && name === undefined) {
      name = { from: start, key: JSON.parse(text.slice(start, at)) as string };
      continue;
    }
    const kind = first === '"' ? 'string' : first === '{' ? 'object' : first === '[' ? 'array' : 'other';
    const isInArray = parent?.node.kind === 'array';
    const before = parent?.node.children?.at(-1);
    if (isInArray) parent.members++;
    if (isInArray && kind === 'other' && before?.kind === 'other' && before.end - before.start < runMax) {
      before.end = at;
      continue;
    }
    const key = parent === undefined ? null : isInArray ? parent.members - 1 : (name?.key ?? '');
    const isParent = kind === 'object' || kind === 'array';
    const node: Node = { kind, key, from: name?.from ?? start, start, end: at, ...(isParent ? { children: [] } : {}) };
    name = undefined;
    if (parent === undefined) root = node;
    else parent.node.children?.push(node);
    if (isParent) open.push({ node, members: 0 });
  }
  return root ?? { kind: 'other', key: null, from: 0, start: 0, end: text.length };
}

/** Where the string that begins at `start` ends: behind the first quotation mark that an even number of `\` precedes. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; ; ) {
    const quote = text.indexOf('"', at);
    if (quote === -1) return text.length;
    let slashes = 0;
    while (text.charCodeAt(quote - 1 - slashes) === 92) slashes++;
    at = quote + 1;
    if (slashes % 2 === 0) return at;
  }
}

function scalarEnd(text: string, start: number): number {
  scalar.lastIndex = start;
  scalar.test(text);
  // What is no JSON is passed over.
  return Math.max(scalar.lastIndex, start + 1);
}

// A path is said again for each value below it, so what is said is bounded.
const pathMax = 200;
const textMax = 4 * sizeMax;

/** Neighbouring values as people read them: a line for each scalar, under its path, of 4,800 characters at most. */
export function textOf(text: string, nodes: readonly Node[]): string {
  const lines = nodes.map((node) =>
    linesOf(text, node, typeof node.key === 'string' ? cutText(node.key, sizeMax) : ''),
  );
  return cutText(lines.join('\n'), textMax);
}

function linesOf(text: string, node: Node, path: string): string {
  const said = path.length > pathMax && node.children !== undefined ? `…${path.slice(-pathMax).toWellFormed()}` : path;
  if (node.kind === 'string') return label(said, JSON.parse(text.slice(node.start, node.end)) as string);
  if (node.kind === 'other') return label(said, text.slice(node.start, node.end));
  const children = node.children ?? [];
  if (children.length === 0) return said;
  if (node.kind === 'object')
    return children
      .map((child) => linesOf(text, child, said === '' ? `${child.key}` : `${said}.${child.key}`))
      .join('\n');
  const isPlainList = children.every(({ kind }) => kind === 'string' || kind === 'other');
  if (isPlainList) return label(said, children.map((child) => linesOf(text, child, '')).join('; '));
  return children.map((child) => linesOf(text, child, said)).join('\n');
}

const label = (path: string, value: string) => (path === '' ? value : `${path}: ${value}`);
