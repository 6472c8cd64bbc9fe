import type { Entity, Graph, Relation } from './graph.ts';

/** A node that is to be another, or none: null is nothing. */
export interface NodeChange {
  readonly from: Entity | Relation | null;
  readonly to: Entity | Relation | null;
}

/** A call of one of the memory tools. */
export interface Call {
  readonly tool: string;
  /** The one list that every one of these tools takes. */
  readonly argument: string;
  readonly items: readonly unknown[];
}

/**
 * The fewest calls that make the changes, in an order that no server refuses: what goes before what comes, entities before
 * relations. An entity of another type is deleted and made anew, since none of the tools changes it, and with it go its
 * relations, which are made anew as well.
 *
 * @param graph what the server holds.
 */
export function toCalls(changes: readonly NodeChange[], graph: Graph): Call[] {
  const deletedEntities: string[] = [];
  const deletedRelations: Relation[] = [];
  const entities: Entity[] = [];
  const relations = new Map<string, Relation>();
  const added: { entityName: string; contents: readonly string[] }[] = [];
  const removed: { entityName: string; observations: readonly string[] }[] = [];
  for (const { from, to } of changes) {
    const node = to ?? from;
    if (node === null) continue;
    if (!('name' in node)) {
      if (to === null) deletedRelations.push(node);
      else relations.set(keyOf(node), node);
      continue;
    }
    const [before, after] = [from as Entity | null, to as Entity | null];
    const isAnew = before !== null && after !== null && before.entityType !== after.entityType;
    if (after === null || isAnew) deletedEntities.push(node.name);
    if (after !== null && (before === null || isAnew)) entities.push(after);
    else if (after !== null && before !== null) {
      const [had, has] = [new Set(before.observations), new Set(after.observations)];
      const contents = [...has].filter((one) => !had.has(one));
      const observations = [...had].filter((one) => !has.has(one));
      if (contents.length > 0) added.push({ entityName: node.name, contents });
      if (observations.length > 0) removed.push({ entityName: node.name, observations });
    }
  }
  const gone = new Set(deletedEntities);
  const dropped = new Set(deletedRelations.map(keyOf));
  for (const relation of gone.size === 0 ? [] : graph.relations) {
    const isAround = gone.has(relation.from) || gone.has(relation.to);
    if (isAround && !dropped.has(keyOf(relation))) relations.set(keyOf(relation), relation);
  }
  const calls: Call[] = [
    { tool: 'delete_relations', argument: 'relations', items: deletedRelations },
    { tool: 'delete_observations', argument: 'deletions', items: removed },
    { tool: 'delete_entities', argument: 'entityNames', items: deletedEntities },
    { tool: 'create_entities', argument: 'entities', items: entities },
    { tool: 'add_observations', argument: 'observations', items: added },
    { tool: 'create_relations', argument: 'relations', items: [...relations.values()] },
  ];
  return calls.filter(({ items }) => items.length > 0).flatMap(split);
}

const keyOf = ({ from, to, relationType }: Relation) => JSON.stringify([from, to, relationType]);

// The official SDKs take 4 MiB a request by default; the rest is for the envelope.
const callBytesMax = 3_500_000;

/** The call in pieces of at most {@link callBytesMax}, or of one item. */
function split({ tool, argument, items }: Call): Call[] {
  const calls: Call[] = [];
  let piece: unknown[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = Buffer.byteLength(JSON.stringify(item)) + 1;
    if (piece.length > 0 && bytes + size > callBytesMax) {
      calls.push({ tool, argument, items: piece });
      [piece, bytes] = [[], 0];
    }
    piece.push(item);
    bytes += size;
  }
  return [...calls, { tool, argument, items: piece }];
}
