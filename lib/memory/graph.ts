import { entityId, relationId } from '../contexts/node-ids.ts';

/** As the reference memory server has it: https://github.com/modelcontextprotocol/servers/tree/main/src/memory */
export interface Entity {
  readonly name: string;
  readonly entityType: string;
  readonly observations: readonly string[];
}

export interface Relation {
  readonly from: string;
  readonly to: string;
  readonly relationType: string;
}

/** Entities and relations, each in order of creation. */
export interface Graph {
  readonly entities: readonly Entity[];
  readonly relations: readonly Relation[];
}

/** The kinds of the contexts that the graph is made of. */
export const entityKind = 'memory.entity';
export const relationKind = 'memory.relation';

/**
 * The entity that a content holds, with whatever else another door has put beside it; undefined where it is none, or not
 * the one its id stands for.
 */
export function readEntity(id: string, content: Uint8Array): Entity | undefined {
  const value = readObject(content);
  const { name, entityType, observations } = value;
  if (typeof name !== 'string' || typeof entityType !== 'string' || !isTexts(observations)) return undefined;
  return entityId(name) === id ? (value as unknown as Entity) : undefined;
}

/** The relation that a content holds; undefined as for {@link readEntity}. */
export function readRelation(id: string, content: Uint8Array): Relation | undefined {
  const { from, to, relationType } = readObject(content);
  if (typeof from !== 'string' || typeof to !== 'string' || typeof relationType !== 'string') return undefined;
  return relationId({ from, to, relationType }) === id ? { from, to, relationType } : undefined;
}

/** The content that keeps an entity or a relation. */
export function toContent(of: Entity | Relation) {
  return { bytes: Buffer.from(JSON.stringify(of)), contentType: 'application/json' };
}

/** The relations that begin or end at one of the entities. */
export function around(entities: readonly Entity[], relations: readonly Relation[]): Graph {
  const names = new Set(entities.map(({ name }) => name));
  return { entities, relations: relations.filter(({ from, to }) => names.has(from) || names.has(to)) };
}

/** Another door may have written anything there. */
function readObject(content: Uint8Array): Partial<Record<keyof Entity | keyof Relation, unknown>> {
  try {
    const value = JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.length).toString()) as unknown;
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');
