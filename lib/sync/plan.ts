import type { PrintedConflict } from '../merge/conflict.ts';
import { type Base, type Direction, decide } from './decision.ts';
import { join, type SyncStrategy } from './join.ts';
import type { Held, Lens, Value } from './value.ts';

/** An item as a run finds it. */
export interface Item {
  readonly base: Base;
  /** SHA-256 of what was agreed on; null unless `base` is `known`. */
  readonly agreed: string | null;
  /** What was agreed on; null where nothing was, or it was not read. */
  readonly agreedValue: Value | null;
  readonly ours: Held | null;
  readonly theirs: Held | null;
  /** When a side that has nothing came to have nothing, by its own clock. */
  readonly goneMs: { readonly ours: number; readonly theirs: number };
}

/** What a run does about an item: what each side is to hold (undefined: what it does), and what is agreed on then. */
export interface Step {
  readonly apply?: Value | null | undefined;
  readonly push?: Value | null | undefined;
  /** Undefined: what was agreed on stays; null: nothing is any more. */
  readonly agree?: Value | null | undefined;
  readonly isJoined?: boolean;
  /** What theirs held and the strategy leaves out: it becomes a version here before the step is carried out. */
  readonly overruled?: Value | undefined;
  /** Set where the changes collide; nothing else is done then. */
  readonly conflicts?: readonly PrintedConflict[];
  /** Why nothing can be done about it. */
  readonly refused?: string;
  /** What is refused is its place in the tree. */
  readonly isPlace?: boolean;
  /** On one side it is none for synchronisation, so that there is nothing to be in conflict with either. */
  readonly isForeign?: boolean;
}

/** Whether the plan of an item needs what was agreed on itself, not only its fingerprint. */
export function needsBase(item: Omit<Item, 'agreedValue'>, lens: Lens): boolean {
  const { ours, theirs } = prints(item, lens);
  return item.base === 'known' && ours !== theirs && decide(item.base, item.agreed, ours, theirs) === 'join';
}

/** What is to be done about an item: the verdict of the table, as the direction allows. Pure. */
export function plan(
  item: Item,
  {
    lens,
    strategy,
    direction,
  }: { readonly lens: Lens; readonly strategy: SyncStrategy; readonly direction: Direction },
): Step {
  const { ours, theirs, base } = item;
  const print = prints(item, lens);
  const isSame = print.ours === print.theirs;
  const verdict = decide(base, item.agreed, print.ours, print.theirs);
  const [mine, yours] = [ours?.value ?? null, theirs?.value ?? null];
  if (verdict === 'rest') return {};
  if (isSame) return { agree: mine };
  switch (verdict) {
    case 'forget':
      return { agree: null };
    case 'take':
      if (direction !== 'push') return { apply: yours, agree: yours };
      // Who is only pushed to and has lost it is given it again; what it has changed is its own.
      return yours === null ? { push: mine, agree: mine } : {};
    case 'give':
      if (direction !== 'pull') return { push: mine, agree: mine };
      return base === 'erased' ? { refused: 'It was erased here, and the peer is only pulled from.' } : {};
    case 'join': {
      const joined = join(strategy, { base: item.agreedValue, ours, theirs, goneMs: item.goneMs });
      if ('conflicts' in joined) return { conflicts: joined.conflicts };
      const { value } = joined;
      const is = value === null ? null : lens.fingerprint(value);
      const apply = is === print.ours || direction === 'push' ? undefined : value;
      const push = is === print.theirs || direction === 'pull' ? undefined : value;
      // A side that is never written is agreed on as it was seen: what it changes next counts from there.
      const agree = direction === 'both' ? value : direction === 'pull' ? yours : mine;
      const overruled = joined.isLossy && is !== print.theirs ? theirs?.value : undefined;
      return { apply, push, agree, isJoined: true, overruled };
    }
  }
}

function prints({ ours, theirs }: Pick<Item, 'ours' | 'theirs'>, { fingerprint }: Lens) {
  return { ours: ours && fingerprint(ours.value), theirs: theirs && fingerprint(theirs.value) };
}
