/** A value of a JSON document and where it stands in the text. */
export interface Node {
  readonly kind: 'object' | 'array' | 'string' | 'other';
  /** Its name in the object, or its place in the array, that it is in; null at the top. */
  readonly key: string | number | null;
  readonly start: number;
  end: number;
  readonly children?: Node[];
}

const token = /[\s,:]*(?:"((?:[^"\\]|\\.)*)"|[{}[\]]|[^\s,:{}[\]"]+)/gy;

/** The values of a JSON text that the store has taken, and so is one: without recursion, whatever its depth. */
export function readNodes(text: string): Node {
  const open: Node[] = [];
  let root: Node | undefined;
  let name: string | undefined;
  token.lastIndex = 0;
  for (;;) {
    const match = token.exec(text);
    if (match === null) break;
    const end = token.lastIndex;
    const last = text[end - 1] as string;
    const start = end - match[0].trimStart().replace(/^[\s,:]+/, '').length;
    if (last === '}' || last === ']') {
      if (match[1] === undefined) {
        const closed = open.pop();
        if (closed !== undefined) closed.end = end;
        continue;
      }
    }
    const parent = open.at(-1);
    if (match[1] !== undefined && parent?.kind === 'object' && name === undefined) {
      name = JSON.parse(text.slice(start, end)) as string;
      continue;
    }
    const kind = match[1] !== undefined ? 'string' : last === '{' ? 'object' : last === '[' ? 'array' : 'other';
    const key = parent === undefined ? null : parent.kind === 'object' ? (name ?? '') : (parent.children?.length ?? 0);
    const node: Node = { kind, key, start, end, ...(kind === 'object' || kind === 'array' ? { children: [] } : {}) };
    name = undefined;
    if (parent === undefined) root = node;
    else parent.children?.push(node);
    if (node.children !== undefined) open.push(node);
  }
  return root ?? { kind: 'other', key: null, start: 0, end: text.length };
}

/** A value as people read it: a line for each scalar, under its path. */
export function textOf(text: string, node: Node, path = ''): string {
  if (node.kind === 'string') return label(path, JSON.parse(text.slice(node.start, node.end)) as string);
  if (node.kind === 'other') return label(path, text.slice(node.start, node.end));
  const isPlainList =
    node.kind === 'array' && node.children?.every(({ kind }) => kind === 'string' || kind === 'other');
  if (isPlainList) return label(path, (node.children ?? []).map((child) => textOf(text, child)).join('; '));
  return (node.children ?? [])
    .map((child) =>
      textOf(text, child, node.kind === 'array' ? path : path === '' ? `${child.key}` : `${path}.${child.key}`),
    )
    .join('\n');
}

const label = (path: string, value: string) => (path === '' ? value : `${path}: ${value}`);
