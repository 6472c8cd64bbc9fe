import type { Clock } from '../base/clock.ts';
import type { Settings } from '../config/settings.ts';
import { type Context, isLive } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import { type KnownItem, readContents, readItems } from './bases.sql.ts';
import type { PeerDefinition, Reading } from './peer.ts';
import { type Item, needsBase, plan, type Step } from './plan.ts';
import type { Passing } from './survey.ts';
import { faultOf, type Held, type Lens, type Value } from './value.ts';

/** An item with all that is known of it, and what is to be done about it. */
export interface Look extends Item {
  readonly id: string;
  /** Our head, tombstones included; null where nothing ever was. */
  readonly head: Context | null;
  readonly known: KnownItem;
  readonly step: Step;
  /** Whether a context of this id lies outside the subtree, and so is none for synchronisation. */
  readonly isOutside: { readonly ours: boolean; readonly theirs: boolean };
  /** Its version at the peer, where that tells one. */
  readonly theirVersion?: number | undefined;
}

/** Why an item cannot be synchronised now; `isPlace` where that is its place in the tree. */
export interface Left {
  readonly id: string;
  readonly reason: string;
  readonly isPlace?: boolean | undefined;
}

/** Looks at items on both sides and in what was agreed on. */
export interface Inspecting {
  /**
   * As many of the items as there is room for (`limits.inlineBytes` of contents on each side, and of what was agreed on), the
   * first at least: four requests at most.
   *
   * @param displaced items whose place nobody can give them: they come to stand right below the root of the peer's subtree,
   *   or below nothing.
   */
  inspect(passing: Passing, ids: readonly string[], displaced: ReadonlySet<string>): Promise<readonly Look[]>;
}

export function createInspecting(deps: {
  database: Database;
  contexts: Contexts;
  settings: Settings;
  clock: Clock;
}): Inspecting {
  const { database, contexts, settings, clock } = deps;
  const { inlineBytes, contextBytes } = settings.limits;

  /** Heads with their contents. */
  async function readHeads(request: RequestContext, wanted: readonly string[]) {
    const references = wanted.map((id) => ({ id }));
    const all = await contexts.readExact(request, references, { inlineBytes });
    const cut = all.value.findIndex((head) => head?.state === 'live' && head.content === undefined);
    if (cut !== 0) return { ids: cut < 0 ? wanted : wanted.slice(0, cut), heads: all.value, nowMs: all.nowMs };
    const one = await contexts.readExact(request, references.slice(0, 1), { inlineBytes: contextBytes });
    return { ids: wanted.slice(0, 1), heads: one.value, nowMs: one.nowMs };
  }

  /** The first of the items as far as there is room for what was agreed on of them, and that, where a step depends on it. */
  async function readBases<One extends Omit<Item, 'agreedValue'> & { known: KnownItem; refused: string | undefined }>(
    request: RequestContext,
    seen: readonly One[],
    lens: Lens,
  ) {
    const hashes: string[] = [];
    let bytes = 0;
    const cut = seen.findIndex((one, at) => {
      const { value } = one.known;
      if (value === null || one.refused !== undefined || !needsBase(one, lens)) return false;
      bytes += value.sizeBytes;
      if (at > 0 && bytes > inlineBytes) return true;
      hashes.push(value.hash);
      return false;
    });
    const contents = hashes.length === 0 ? undefined : await readContents(database, request, hashes);
    const agreedOf = ({ value }: KnownItem): Value | null => {
      const found = value && contents?.get(value.hash);
      if (!found) return null;
      const { hash: _hash, sizeBytes: _size, ...rest } = value;
      return { ...rest, bytes: found };
    };
    return { fitting: cut < 0 ? seen : seen.slice(0, cut), agreedOf };
  }

  return {
    async inspect({ request, session, start }, wanted, displaced) {
      const { lens } = session;
      const { name: peer, definition } = start.peer;
      const { subtree } = definition;
      const { ids: asked, heads, nowMs } = await readHeads(request, wanted);
      const readings = await session.read(asked, inlineBytes);
      const answered = asked.findLastIndex((id) => readings.has(id)) + 1;
      const ids = answered === 0 ? asked : asked.slice(0, answered);
      const parents = [...readings.values()].flatMap((one) => ('held' in one ? (one.held?.value.parentId ?? []) : []));
      const { items, within } = await readItems(database, request, {
        peer,
        ids,
        within: [...ids, ...parents],
        subtree,
      });

      /** Why what the peer has told cannot be taken at all. */
      const refuse = (reading: Reading | undefined): string | undefined => {
        if (reading === undefined) return 'The peer has not told what it holds.';
        if ('refused' in reading) return reading.refused;
        return reading.held ? faultOf(reading.held.value, settings.limits) : undefined;
      };
      const seen = ids.map((id, at) => {
        const head = heads[at] ?? null;
        const reading = readings.get(id);
        const live = head !== null && isLive(head, nowMs) ? head : null;
        const value = live && within.has(id) ? lens.view(live) : undefined;
        const ours = live && value ? { value, updatedMs: live.updatedMs } : null;
        const theirs = reading && 'held' in reading ? reading.held : null;
        const known = items.get(id) ?? { base: 'none', fingerprint: null, value: null, conflict: null };
        const theirGoneMs = reading && 'goneMs' in reading ? reading.goneMs : undefined;
        const goneMs = { ours: head?.updatedMs ?? 0, theirs: theirGoneMs ?? clock() };
        // What we sent, never heard of again and have no more counts as agreed on where the peer holds just that.
        const isSent = known.base === 'none' && known.fingerprint !== null && theirs !== null && ours === null;
        const isOwn = isSent && lens.fingerprint(theirs.value) === known.fingerprint;
        const facts = { base: isOwn ? 'known' : known.base, agreed: known.fingerprint, ours, theirs, goneMs } as const;
        const told = reading && 'held' in reading ? reading : undefined;
        const isOutside = { ours: live !== null && !within.has(id), theirs: told?.isOutside === true };
        const isUnlike = live !== null && ours === null && !isOutside.ours;
        const look = { id, head, known, isOutside, theirVersion: told?.version, ...facts };
        return { ...look, isUnlike, refused: refuse(reading) } as const;
      });
      const { fitting, agreedOf } = await readBases(request, seen, lens);

      /** Whether a value can be put where it says. */
      const hasPlace = (id: string, { parentId }: Value) => {
        if (!lens.hasPlace || id === subtree) return true;
        return parentId === null ? subtree === undefined : within.has(parentId);
      };
      return fitting.map(({ refused, isUnlike, ...rest }) => {
        const item: Item = { ...rest, agreedValue: agreedOf(rest.known) };
        const step = refused === undefined ? plan(item, { ...definition, lens }) : { refused };
        const look = { ...rest, ...item, step };
        // Outside is not absent: the delete of what was erased here is still to be confirmed.
        if (item.base === 'erased' && rest.isOutside.theirs) return { ...look, step: { refused: erasedOutside } };
        const foreign = foreignTo(step, rest.isOutside, isUnlike);
        if (foreign !== undefined) return { ...look, step: { refused: foreign, isForeign: true } };
        return { ...look, step: displaced.has(rest.id) ? displace(look, definition, lens) : place(rest.id, step) };
      });

      function place(id: string, step: Step): Step {
        if (!step.apply || hasPlace(id, step.apply)) return step;
        return { refused: 'Its parent is not here, or lies outside the subtree of the peer.', isPlace: true };
      }
    },
  };
}

const erasedOutside = 'It was erased here; at the peer it lies outside the subtree.';

/** Why a step would write over something that is none of the peer's business; undefined where it would not. */
function foreignTo({ apply, push }: Step, isOutside: Look['isOutside'], isUnlike: boolean): string | undefined {
  if (apply !== undefined && isUnlike) return 'The context of this id is one here that the peer cannot hold.';
  if (apply !== undefined && isOutside.ours) return 'A context of this id lies here, outside the subtree of the peer.';
  if (push !== undefined && isOutside.theirs) return 'At the peer a context of this id lies outside the subtree.';
  return undefined;
}

/** The step with its value moved to right below the root of the subtree, on each side that is written to and has it elsewhere. */
function displace({ step, ours, theirs }: Look, { subtree, direction }: PeerDefinition, { fingerprint }: Lens): Step {
  const move = (one: Value): Value => ({ ...one, parentId: subtree ?? null });
  const isHeld = (held: Held | null, one: Value) => held !== null && fingerprint(held.value) === fingerprint(one);
  const value = step.apply ?? step.push;
  const moved = value && move(value);
  const over = step.overruled && move(step.overruled);
  // What was overruled for its place alone is no version of its own once it is moved.
  const isSaid = over && (isHeld(ours, over) || (moved && fingerprint(over) === fingerprint(moved)));
  const rest = { ...step, overruled: isSaid ? undefined : over };
  if (!moved) return rest;
  const where = (held: Held | null) => (isHeld(held, moved) ? undefined : moved);
  if (direction === 'pull') return { ...rest, apply: where(ours) };
  if (direction === 'push') return { ...rest, push: where(theirs) };
  return { ...rest, apply: where(ours), push: where(theirs), agree: moved };
}
