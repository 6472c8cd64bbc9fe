import { isJsonObject, type Json } from '../base/json.ts';
import type { Identify } from './identity.ts';

/** For each side the labels of its elements: an element that is still the same thing as one of the base has its label. */
export interface Labels {
  readonly base: readonly number[];
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
}

/**
 * Tells which elements of an array are one thing, changed or moved, where nothing as plain as an `id` does: two elements
 * are the same thing when they share a string member that no other element beside them has, such as a name, a title or
 * a path; of several candidates, the one with most such members.
 *
 * @returns undefined where no element is recognised.
 */
export function labelElements(
  { base, ours, theirs }: Readonly<Record<'base' | 'ours' | 'theirs', readonly Json[]>>,
  identify: Identify,
): Labels | undefined {
  const known = identities(base);
  const [ourLabels, theirLabels] = [labelSide(known, ours, identify), labelSide(known, theirs, identify)];
  if (ourLabels === undefined && theirLabels === undefined) return undefined;
  return {
    base: base.map((_, index) => labelOf(index)),
    ours: ourLabels ?? ours.map(identify),
    theirs: theirLabels ?? theirs.map(identify),
  };
}

// Below zero, so that no label is taken for the number of a value.
const labelOf = (index: number) => -1 - index;

function labelSide(
  known: ReadonlyMap<string, number>,
  side: readonly Json[],
  identify: Identify,
): number[] | undefined {
  if (known.size === 0) return undefined;
  const taken = new Set<number>();
  const votes: Map<number, number>[] = side.map(() => new Map());
  for (const [identity, at] of identities(side)) {
    const index = known.get(identity);
    const own = votes[at];
    if (index !== undefined && own) own.set(index, (own.get(index) ?? 0) + 1);
  }
  const labels = side.map((element, at) => {
    const ranked = [...(votes[at] ?? [])].sort(([left, more], [right, fewer]) => fewer - more || left - right);
    const index = ranked.find(([candidate]) => !taken.has(candidate))?.[0];
    if (index === undefined) return identify(element);
    taken.add(index);
    return labelOf(index);
  });
  return taken.size === 0 ? undefined : labels;
}

/** The string members that one element alone has, and which element that is. */
function identities(elements: readonly Json[]): Map<string, number> {
  const places = new Map<string, number>();
  const repeated = new Set<string>();
  elements.forEach((element, at) => {
    if (!isJsonObject(element)) return;
    for (const [key, value] of element) {
      if (typeof value !== 'string' || value === '') continue;
      const identity = JSON.stringify([key, value]);
      if (places.has(identity)) repeated.add(identity);
      places.set(identity, at);
    }
  });
  for (const identity of repeated) places.delete(identity);
  return places;
}
