import type { Touch } from '../redis/redis.ts';
import type { Change, ContextHead } from './context.ts';
import { readNodeId } from './node-ids.ts';

/** What everything depends on that lists or searches a space. */
export const anyItem = 'any';
/** What every "there is none" depends on, so that a pattern can cover ids that no context has. */
export const absentItem = 'absent';
/** What answers made of several contexts depend on, so that an invalidation of any of those covers them. */
export const invalidatedItem = 'invalidated';

/**
 * The items a change touches: one pure function, used by whoever writes and by whoever reads the feed, so that both
 * always say the same. A cached value is true as long as none of the items it names was touched after its tick.
 */
export function items(change: Change): string[] {
  if (change.kind === 'key') return [...(change.items ?? [])];
  if (change.kind === 'invalidation') return [...(change.items ?? []), invalidatedItem];
  const touched = new Set<string>([anyItem]);
  if (change.id !== null) for (const item of [contextItem(change.id), ...nodeItems(change.id)]) touched.add(item);
  if (change.parentBefore !== null) touched.add(parentItem(change.parentBefore));
  if (change.parentAfter !== null) touched.add(parentItem(change.parentAfter));
  return [...touched];
}

export const contextItem = (id: string) => `c:${id}`;
/** What answers about the whole knowledge graph depend on. */
export const graphItem = 'graph';
/** What answers about an entity and the relations that end there depend on. */
export const entityItem = (entityId: string) => `n:${entityId}`;

/** What a change of a context touches that the knowledge graph may hold. */
function nodeItems(id: string): string[] {
  const ends = readNodeId(id);
  return ends === undefined ? [] : [graphItem, ...new Set(ends.map(entityItem))];
}

export const parentItem = (id: string) => `p:${id}`;
/** Items are kept line by line, so a tag with a line break is spelled without one. */
export const tagItem = (tag: string) => `t:${JSON.stringify(tag).slice(1, -1)}`;

/** What changes amount to for the caches. */
export function toTouches(changes: readonly Change[]): Touch[] {
  return changes.flatMap((change) => items(change).map((item) => ({ item, tick: change.tick })));
}

/** The tags a context bears: its kind, its parent, and each string of `metadata.tags`. */
export function tagsOf(context: ContextHead): string[] {
  const { tags } = JSON.parse(context.metadata) as { tags?: unknown };
  const own = Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === 'string') : [];
  return [`kind:${context.kind}`, ...(context.parentId === null ? [] : [`parent:${context.parentId}`]), ...own];
}

/** What an answer made of this head depends on. */
export function headDeps(context: ContextHead): string[] {
  return [contextItem(context.id), ...tagsOf(context).map(tagItem)];
}
