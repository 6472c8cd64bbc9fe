import { printPlain } from '../base/json.ts';

/** One page of what was read with one item more than `limit`, to know whether another follows. */
export function pageAnswer<Item>(
  { items: found, seq }: { readonly items: readonly Item[]; readonly seq?: number },
  limit: number,
  members: (item: Item) => Record<string, unknown>,
  cursorAt: (item: Item) => string,
) {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  const nextCursor = found.length > limit && last ? cursorAt(last) : null;
  return { seq, body: printPlain({ items: items.map(members), nextCursor }) };
}
