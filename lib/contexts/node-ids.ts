import { sha256 } from '../base/hash.ts';

// Ids of contexts that stand for parts of the knowledge graph. Names are any text and fit no id, so their SHA-256 stands
// for them, 160 bits of it: two names of one space that share these take 2^80 tries to find. The schema knows the forms,
// too: keep_memory_node in migrations/functions/03-versions.sql.

const digest = (text: string) => sha256(text).slice(0, 40);

export const entityId = (name: string) => `entity:${digest(name)}`;

/** Names both ends, so that relations can be found by either without a look at what they hold. */
export const relationId = (relation: { readonly from: string; readonly to: string; readonly relationType: string }) =>
  `relation:${digest(relation.from)}:${digest(relation.to)}:${digest(relation.relationType)}`;

const form = /^(?:entity:([0-9a-f]{40})|relation:([0-9a-f]{40}):([0-9a-f]{40}):[0-9a-f]{40})$/;

/** The ids of the entities that a context of this id is or ends at; undefined where it is no part of the graph. */
export function readNodeId(id: string): string[] | undefined {
  const [, entity, from, to] = form.exec(id) ?? [];
  const hashes = entity === undefined ? [from, to] : [entity];
  return hashes[0] === undefined ? undefined : hashes.map((hash) => `entity:${hash}`);
}
