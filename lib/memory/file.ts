import type { Entity, Graph, Relation } from './graph.ts';

/** The file of the reference memory server: a line of JSON for each entity, then for each relation; no final newline. */
export function printGraphFile({ entities, relations }: Graph): string {
  return [
    ...entities.map(({ name, entityType, observations }) =>
      JSON.stringify({ type: 'entity', name, entityType, observations }),
    ),
    ...relations.map(({ from, to, relationType }) => JSON.stringify({ type: 'relation', from, to, relationType })),
  ].join('\n');
}

/** What a file holds, and the numbers of the lines that are none of its format. */
export interface GraphFile extends Graph {
  readonly unreadable: readonly number[];
}

/** Reads such a file. Of several entities of one name the first is taken, with the observations of all. */
export function readGraphFile(text: string): GraphFile {
  const entities = new Map<string, Entity>();
  const relations = new Map<string, Relation>();
  const unreadable: number[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const item = readLine(line);
    if (item === undefined) unreadable.push(index + 1);
    else if ('name' in item) {
      const known = entities.get(item.name);
      const observations = new Set([...(known?.observations ?? []), ...item.observations]);
      entities.set(item.name, known ? { ...known, observations: [...observations] } : item);
    } else relations.set(JSON.stringify([item.from, item.to, item.relationType]), item);
  }
  return { entities: [...entities.values()], relations: [...relations.values()], unreadable };
}

function readLine(line: string): Entity | Relation | undefined {
  try {
    const { type, name, entityType, observations, from, to, relationType } = JSON.parse(line);
    const isText = (...values: unknown[]) => values.every((value) => typeof value === 'string' && value.isWellFormed());
    if (type === 'entity' && isText(name, entityType) && Array.isArray(observations) && isText(...observations)) {
      return { name, entityType, observations };
    }
    if (type === 'relation' && isText(from, to, relationType)) return { from, to, relationType };
  } catch {
    // Falls through: no JSON.
  }
  return undefined;
}
