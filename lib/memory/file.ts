import type { Entity, Graph, Relation } from './graph.ts';

/** The file of the reference memory server, in pieces: a line of JSON for each node; no final newline. */
export async function* printGraphFile(nodes: AsyncIterable<Entity | Relation>): AsyncIterable<Uint8Array> {
  let isFirst = true;
  for await (const node of nodes) {
    yield Buffer.from(`${isFirst ? '' : '\n'}${printLine(node)}`);
    isFirst = false;
  }
}

function printLine(node: Entity | Relation): string {
  if ('from' in node) {
    const { from, to, relationType } = node;
    return JSON.stringify({ type: 'relation', from, to, relationType });
  }
  const { name, entityType, observations } = node;
  return JSON.stringify({ type: 'entity', name, entityType, observations });
}

/** What a file holds, and the numbers of the lines that could not be taken as they are. */
export interface GraphFile extends Graph {
  /** Lines that are none of its format. */
  readonly unreadable: readonly number[];
  /** Lines with an entity that an earlier line gives another type; only its observations were taken. */
  readonly retyped: readonly number[];
}

/** Reads such a file. Of several entities of one name the first is taken, with the observations of all. */
export function readGraphFile(bytes: Uint8Array): GraphFile {
  const entities = new Map<string, Entity>();
  const relations = new Map<string, Relation>();
  const unreadable: number[] = [];
  const retyped: number[] = [];
  let number = 0;
  for (const line of splitLines(bytes)) {
    number++;
    const item = readLine(line);
    if (item === 'empty') continue;
    if (item === 'unreadable') unreadable.push(number);
    else if ('name' in item) {
      const known = entities.get(item.name);
      if (known !== undefined && known.entityType !== item.entityType) retyped.push(number);
      const observations = new Set([...(known?.observations ?? []), ...item.observations]);
      entities.set(item.name, known ? { ...known, observations: [...observations] } : item);
    } else relations.set(JSON.stringify([item.from, item.to, item.relationType]), item);
  }
  return { entities: [...entities.values()], relations: [...relations.values()], unreadable, retyped };
}

function* splitLines(bytes: Uint8Array): Iterable<Uint8Array> {
  for (let start = 0; start <= bytes.length; ) {
    const end = bytes.indexOf(10, start);
    yield bytes.subarray(start, end < 0 ? bytes.length : end);
    start = end < 0 ? bytes.length + 1 : end + 1;
  }
}

// Takes away a byte order mark, as some editors write one.
const utf8 = new TextDecoder('utf-8', { fatal: true });
const isText = (value: unknown): value is string => typeof value === 'string' && value.isWellFormed();

function readLine(line: Uint8Array): Entity | Relation | 'empty' | 'unreadable' {
  const value = parseLine(line);
  if (typeof value !== 'object' || value === null) return value === undefined ? 'empty' : 'unreadable';
  const { type, name, entityType, observations, from, to, relationType } = value as Record<string, unknown>;
  if (type === 'entity' && isText(name) && isText(entityType) && Array.isArray(observations)) {
    return observations.every(isText) ? { name, entityType, observations } : 'unreadable';
  }
  if (type === 'relation' && isText(from) && isText(to) && isText(relationType)) return { from, to, relationType };
  return 'unreadable';
}

/** What a line says; undefined where it is empty, null where it is no JSON or no UTF-8. */
function parseLine(line: Uint8Array): unknown {
  try {
    const text = utf8.decode(line).trim();
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return null;
  }
}
