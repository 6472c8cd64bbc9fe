import { sha256 } from '../base/hash.ts';
import { isJsonObject, printJson } from '../base/json.ts';
import { parseJson } from '../base/json-parse.ts';
import { readNodeId } from '../contexts/node-ids.ts';
import type { Lens, Value } from '../sync/value.ts';
import { type Entity, entityKind, type Relation, readEntity, readRelation, relationKind, toContent } from './graph.ts';

/** What a memory server holds of a context: an entity by name, type and its set of observations; a relation by its ends. */
export const graphLens: Lens = {
  kinds: [entityKind, relationKind],
  hasPlace: false,
  mayHold: (id) => readNodeId(id) !== undefined,
  view({ id, kind, content }) {
    if (content === undefined) return undefined;
    const entity = kind === entityKind ? readEntity(id, content) : undefined;
    if (entity !== undefined) return toValue(entity);
    const relation = kind === relationKind ? readRelation(id, content) : undefined;
    return relation && toValue(relation);
  },
  fingerprint(value) {
    const node = readValue(value);
    // Whichever came first: a server tells observations in the order it has got them.
    return sha256(
      JSON.stringify('name' in node ? [node.name, node.entityType, ...[...node.observations].sort()] : node),
    );
  },
  toPut(id, value, head, subtree) {
    const { bytes, kind } = value;
    const isLive = head?.state === 'live' && head.kind === kind && head.content !== undefined;
    const content = isLive ? joinMembers(head.content, bytes) : bytes;
    const place = isLive || subtree === undefined ? {} : { parentId: subtree };
    return { op: 'put', id, content: { bytes: content, contentType: 'application/json' }, kind, ...place };
  },
};

/** An entity or a relation as synchronisation compares it. */
export function toValue(node: Entity | Relation): Value {
  const { bytes, contentType } = toContent(
    'name' in node
      ? { name: node.name, entityType: node.entityType, observations: [...new Set(node.observations)] }
      : { from: node.from, to: node.to, relationType: node.relationType },
  );
  return {
    kind: 'name' in node ? entityKind : relationKind,
    contentType,
    bytes,
    metadata: '{}',
    parentId: null,
    expiresMs: null,
  };
}

/** What {@link toValue} was made of. */
export function readValue({ bytes }: Value): Entity | Relation {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()) as Entity | Relation;
}

/** The members of `next` in an object that keeps what else another door has put there. */
function joinMembers(before: Uint8Array, next: Uint8Array): Uint8Array {
  const [old, changed] = [before, next].map((bytes) =>
    parseJson(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()),
  );
  if (!isJsonObject(old) || !isJsonObject(changed)) return next;
  return Buffer.from(printJson(new Map([...old, ...changed])));
}
