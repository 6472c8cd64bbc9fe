/** A value in a JSON text, and where it stands: [start, end). */
export interface JsonNode {
  readonly start: number;
  readonly end: number;
  readonly value: unknown;
  /** Members of an object, in order; a key that is there twice is there twice. */
  readonly members?: readonly JsonMember[];
  readonly elements?: readonly JsonNode[];
}

interface JsonMember {
  readonly key: string;
  /** Where its key stands: [start, keyEnd). */
  readonly start: number;
  readonly keyEnd: number;
  readonly node: JsonNode;
}

const space = /[ \t\r\n]*/y;
const scalar = /"(?:[^"\\]|\\.)*"|[^\s,\]}]+/y;

/** @throws SyntaxError of `JSON.parse` where the text is no JSON. */
export function readJsonText(text: string): JsonNode {
  // Whatever follows may rely on it.
  JSON.parse(text);
  let at = 0;
  const skip = (expression: RegExp) => {
    expression.lastIndex = at;
    const [found = ''] = expression.exec(text) ?? [];
    at += found.length;
    return found;
  };
  const list = <Item>(close: string, read: () => Item): Item[] => {
    const items: Item[] = [];
    at++;
    for (skip(space); text[at] !== close; skip(space)) {
      if (text[at] === ',') at++;
      skip(space);
      items.push(read());
    }
    at++;
    return items;
  };
  const node = (): JsonNode => {
    skip(space);
    const start = at;
    if (text[at] === '{') {
      const members = list('}', () => {
        const from = at;
        const key = JSON.parse(skip(scalar)) as string;
        const keyEnd = at;
        skip(space);
        at++;
        return { key, start: from, keyEnd, node: node() };
      });
      return {
        start,
        end: at,
        value: Object.fromEntries(members.map(({ key, node: { value } }) => [key, value])),
        members,
      };
    }
    if (text[at] === '[') {
      const elements = list(']', node);
      return { start, end: at, value: elements.map(({ value }) => value), elements };
    }
    const value: unknown = JSON.parse(skip(scalar));
    return { start, end: at, value };
  };
  return node();
}

/** The member of an object, undefined where there is none. */
export const memberOf = (node: JsonNode | undefined, key: string) =>
  node?.members?.findLast((member) => member.key === key)?.node;

/**
 * The text with a member (or, without `key`, an element) more at the end of what stands at `into`; not a byte of the rest
 * is changed. A member that is there is replaced.
 */
export function putItem(text: string, into: JsonNode, item: { key?: string; value: unknown }): string {
  const old = item.key === undefined ? undefined : memberOf(into, item.key);
  const { unit, line } = layoutOf(text);
  const depth = indentAt(text, into.start) + unit;
  const print = (indent: string) =>
    `${item.key === undefined ? '' : `${JSON.stringify(item.key)}: `}${JSON.stringify(item.value, null, unit).replaceAll('\n', line + indent)}`;
  if (old !== undefined) {
    const value = JSON.stringify(item.value, null, unit).replaceAll('\n', line + indentAt(text, old.start));
    return text.slice(0, old.start) + value + text.slice(old.end);
  }
  const last = itemsOf(into).at(-1);
  if (last === undefined) {
    return `${text.slice(0, into.start + 1)}${line}${depth}${print(depth)}${line}${indentAt(text, into.start)}${text.slice(into.end - 1)}`;
  }
  const indent = indentAt(text, last.start);
  return `${text.slice(0, last.end)},${line}${indent}${print(indent)}${text.slice(last.end)}`;
}

/** The text without one member or element, the inverse of {@link putItem}. */
export function dropItem(text: string, from: JsonNode, index: number): string {
  const items = itemsOf(from);
  const [before, item, after] = [items[index - 1], items[index], items[index + 1]];
  if (item === undefined) return text;
  if (before !== undefined) return text.slice(0, before.end) + text.slice(item.end);
  if (after !== undefined) return text.slice(0, item.start) + text.slice(after.start);
  return text.slice(0, from.start + 1) + text.slice(from.end - 1);
}

function itemsOf(node: JsonNode): readonly { start: number; end: number }[] {
  return node.members?.map(({ start, node: { end } }) => ({ start, end })) ?? node.elements ?? [];
}

/** What the line on which something stands begins with. */
function indentAt(text: string, at: number): string {
  const from = text.lastIndexOf('\n', at - 1) + 1;
  return /^[ \t]*/.exec(text.slice(from, at))?.[0] ?? '';
}

function layoutOf(text: string): { unit: string; line: string } {
  const unit = /\n([ \t]+)\S/.exec(text)?.[1] ?? '  ';
  return { unit: unit.startsWith('\t') ? '\t' : unit, line: text.includes('\r\n') ? '\r\n' : '\n' };
}
