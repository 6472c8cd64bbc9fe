/** What is known to be agreed on about an item: nothing, a value, or only that it was erased here. */
export type Base = 'none' | 'known' | 'erased';

/** How a side stands to what was agreed on. Where nothing was, whatever is there has changed. */
interface Sides {
  readonly none: 'absent' | 'changed';
  readonly known: 'absent' | 'same' | 'changed';
  readonly erased: 'absent' | 'changed';
}

/**
 * What is to be done about an item.
 *
 * - `rest`: nothing.
 * - `forget`: neither side has it; nothing is agreed on any more.
 * - `take`: our side is to hold what theirs does.
 * - `give`: their side is to hold what ours does.
 * - `join`: both have changed it; the strategy joins them, unless they are the same by now.
 */
export type Verdict = 'rest' | 'forget' | 'take' | 'give' | 'join';

/** The whole transition table, `[base][ours][theirs]`: a case left out does not compile. See SPEC.md. */
export const verdicts = {
  none: {
    absent: { absent: 'forget', changed: 'take' },
    changed: { absent: 'give', changed: 'join' },
  },
  known: {
    absent: { absent: 'forget', same: 'give', changed: 'join' },
    same: { absent: 'take', same: 'rest', changed: 'take' },
    changed: { absent: 'join', same: 'give', changed: 'join' },
  },
  // Whatever theirs holds of what was erased here is none that our side may take.
  erased: {
    absent: { absent: 'forget', changed: 'give' },
    changed: { absent: 'give', changed: 'give' },
  },
} as const satisfies {
  readonly [Known in Base]: { readonly [Ours in Sides[Known]]: { readonly [Theirs in Sides[Known]]: Verdict } };
};

/**
 * The verdict over an item by fingerprints: of what was agreed on, and of what each side holds, null where it has none.
 */
export function decide(base: Base, agreed: string | null, ours: string | null, theirs: string | null): Verdict {
  const stand = (side: string | null) => (side === null ? 'absent' : side === agreed ? 'same' : 'changed');
  switch (base) {
    case 'known':
      return verdicts.known[stand(ours)][stand(theirs)];
    case 'none':
    case 'erased': {
      const is = (side: string | null) => (side === null ? 'absent' : 'changed');
      return verdicts[base][is(ours)][is(theirs)];
    }
  }
}

/** Which way a peer is synchronised. */
export type Direction = 'both' | 'pull' | 'push';
