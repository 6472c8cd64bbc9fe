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
   * As many of the items as one answer has room for, the first at least: four requests at most.
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

  /** What was agreed on, where a step depends on it. */
  async function readAgreedValues(request: RequestContext, known: readonly KnownItem[]) {
    const values = known.flatMap(({ value }) => (value ? [value] : []));
    const hashes = values.map(({ hash }) => hash);
    const contents = values.length === 0 ? undefined : await readContents(database, request, hashes);
    return ({ value }: KnownItem): Value | null => {
      const bytes = value && contents?.get(value.hash);
      if (!bytes) return null;
      const { hash: _hash, sizeBytes: _size, ...rest } = value;
      return { ...rest, bytes };
    };
  }

  return {
    async inspect({ request, session, start }, wanted, displaced) {
      const { lens } = session;
      const { name: peer, definition } = start.peer;
      const { subtree } = definition;
      const { ids, heads, nowMs } = await readHeads(request, wanted);
      const readings = await session.read(ids);
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
        // Something is here that is none of the peer's business: it must not be written over.
        const foreign = live === null || ours !== null ? undefined : within.has(id) ? 'unlike' : 'outside';
        return { id, head, known, ...facts, foreign, refused: refuse(reading) } as const;
      });
      const joined = seen.filter((one) => one.refused === undefined && needsBase(one, lens));
      const agreedOf = await readAgreedValues(
        request,
        joined.map(({ known }) => known),
      );

      /** Whether a value can be put where it says. */
      const hasPlace = (id: string, { parentId }: Value) => {
        if (!lens.hasPlace || id === subtree) return true;
        return parentId === null ? subtree === undefined : within.has(parentId);
      };
      return seen.map(({ refused, foreign, ...rest }) => {
        const item: Item = { ...rest, agreedValue: agreedOf(rest.known) };
        const step = refused === undefined ? plan(item, { ...definition, lens }) : { refused };
        const look = { ...rest, ...item, step };
        if (foreign !== undefined && step.apply !== undefined)
          return { ...look, step: { refused: foreignReasons[foreign] } };
        return { ...look, step: displaced.has(rest.id) ? displace(look, definition, lens) : place(rest.id, step) };
      });

      function place(id: string, step: Step): Step {
        if (!step.apply || hasPlace(id, step.apply)) return step;
        return { refused: 'Its parent is not here, or lies outside the subtree of the peer.', isPlace: true };
      }
    },
  };
}

const foreignReasons = {
  unlike: 'The context of this id is one here that the peer cannot hold.',
  outside: 'A context of this id lies here, outside the subtree of the peer.',
};

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
