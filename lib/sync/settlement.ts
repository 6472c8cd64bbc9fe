import { Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import type { Operation } from '../contexts/operation.ts';
import type { StoredConflict } from './conflicts.sql.ts';
import { join } from './join.ts';
import type { Lens, Value } from './value.ts';

/** How a conflict is to be settled: as one side has it, as both of them together, or as a content says. */
export type Settlement =
  | { readonly choose: 'ours' | 'theirs' | 'both' }
  | { readonly content: { readonly bytes: Uint8Array; readonly contentType: string } };

/** The sides of a conflict, null for one that has nothing. */
interface Sides {
  readonly base: Value | null;
  readonly ours: Value | null;
  readonly theirs: Value | null;
}

/** What settles a conflict. */
interface SettlementPlan {
  /** None where the context is already what was chosen. */
  readonly operations: readonly Operation[];
  /** The same with the context right below the root of what is synchronised. */
  readonly displaced: readonly Operation[];
  /** The version that they build on. */
  readonly ifVersion: number;
  /** Whether what was chosen is that there be none. */
  readonly isDelete: boolean;
}

/**
 * The operations that make a context what was chosen. What is not chosen is not lost: it becomes a version that another one
 * follows. Pure.
 *
 * @param of.head our context, tombstones included; `live` null where it is none that can be read.
 * @throws Problem `unprocessable` for what the peer could not hold.
 */
export function planSettlement(of: {
  readonly conflict: Pick<StoredConflict, 'contextId' | 'peer' | 'oursVersion'>;
  readonly settlement: Settlement;
  readonly sides: Sides;
  readonly head: Context | null;
  readonly live: Context | null;
  readonly lens: Lens;
  readonly subtree: string | undefined;
}): SettlementPlan {
  const { settlement, head, lens, subtree } = of;
  const { contextId, peer, oursVersion } = of.conflict;
  const print = (value: Value | null) => value && lens.fingerprint(value);
  // Ours is what is here now; whatever else is chosen, was chosen by who saw the version that the conflict names.
  const isOurs = 'choose' in settlement && settlement.choose === 'ours';
  const ifVersion = isOurs ? (head?.version ?? 0) : oursVersion;
  const now = of.live && lens.view(of.live);
  if (now === undefined)
    throw new Problem('unprocessable', `Context ${contextId} is something here that the peer cannot hold.`);
  const { theirs } = of.sides;
  const { value, isLossy } = choose(settlement, isOurs ? { ...of.sides, ours: now } : of.sides);
  // A content has to be one of what the peer can hold under this id.
  const wanted = 'choose' in settlement ? value : value && asHeld(lens, contextId, value);
  if (wanted === undefined)
    throw new Problem('unprocessable', `The content is none that the peer could hold as ${contextId}.`);

  const isKept = theirs === null || print(theirs) === print(wanted) || !isLossy;
  const toOperations = (move: (one: Value) => Value): Operation[] => {
    const put = (one: Value, more: object): Operation => ({
      ...lens.toPut(contextId, move(one), head, subtree),
      ...more,
    });
    const first = isKept ? [] : [put(theirs, { ifVersion, message: `from peer ${peer}, not chosen in a conflict` })];
    if (print(wanted) === print(isKept ? now : theirs)) return first;
    const last = { ifVersion: ifVersion + first.length };
    const message = `a conflict with peer ${peer} was settled`;
    if (wanted === null) return [...first, { op: 'delete', id: contextId, children: 'fail', ...last }];
    return [...first, put(wanted, { ...last, operation: 'merge', message })];
  };
  return {
    operations: toOperations((one) => one),
    displaced: toOperations((one) => ({ ...one, parentId: subtree ?? null })),
    ifVersion,
    isDelete: wanted === null,
  };
}

/** What a settlement comes to, and whether something that a side has changed is not in it. */
function choose(
  settlement: Settlement,
  { base, ours, theirs }: Sides,
): { readonly value: Value | null; readonly isLossy: boolean } {
  if ('content' in settlement) {
    const nothing = { kind: 'note', metadata: '{}', parentId: null, expiresMs: null };
    return { value: { ...(ours ?? theirs ?? nothing), ...settlement.content }, isLossy: true };
  }
  if (settlement.choose === 'ours') return { value: ours, isLossy: true };
  if (settlement.choose === 'theirs') return { value: theirs, isLossy: true };
  const held = (value: Value | null, updatedMs: number) => value && { value, updatedMs };
  const joined = join('union', { base, ours: held(ours, 1), theirs: held(theirs, 0), goneMs: { ours: 1, theirs: 0 } });
  return 'value' in joined ? joined : { value: ours, isLossy: true };
}

/** A value as the lens sees it in a context of this id. */
function asHeld(lens: Lens, id: string, value: Value): Value | undefined {
  const { bytes: content, ...rest } = value;
  const none = {
    version: 0,
    hash: null,
    sizeBytes: content.length,
    createdMs: 0,
    updatedMs: 0,
    state: 'live',
  } as const;
  return lens.view({ id, ...rest, ...none, content, actor: { kind: 'sync', id: '' } });
}
