import { isJsonObject, type Json, type JsonObject, pointer } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { createWork, type Work } from './align.ts';
import { type Conflict, printConflicts } from './conflict.ts';
import { type Chunk, diff3 } from './diff3.ts';
import { type Document, fromJson, fromText, isSameDocument, toLines, toValue } from './document.ts';
import { createIdentify, type Identify, isSameAt } from './identity.ts';
import { idsOf } from './ids.ts';
import { labelElements } from './label.ts';

type Side = 'ours' | 'theirs';
type Path = readonly (string | number)[];

interface Merging {
  /** Settles a collision: notes it and says which side the result takes. */
  readonly settle: (conflict: Omit<Conflict, 'chosen'>) => Side;
  readonly identify: Identify;
  readonly work: Work;
}

/**
 * Joins two changes of one base. A change on one side only is taken, the same change on both sides is taken once, a
 * deletion of what the other side left alone is a deletion; changes that collide are conflicts, which `prefer` settles.
 *
 * @throws Problem `merge_conflict` with the `conflicts` where there are any and `prefer` is `fail`.
 */
export function threeWay(
  base: Document,
  ours: Document,
  theirs: Document,
  prefer: 'fail' | Side,
  work: Work = createWork(),
): { document: Document; conflicts: Conflict[] } {
  const conflicts: Conflict[] = [];
  const chosen = prefer === 'fail' ? undefined : prefer;
  const merging: Merging = {
    identify: createIdentify(),
    work,
    settle(conflict) {
      conflicts.push({ ...conflict, chosen });
      return chosen ?? 'ours';
    },
  };
  const document = mergeDocuments(base, ours, theirs, merging);
  if (prefer === 'fail' && conflicts.length > 0) throw mergeConflict(conflicts);
  return { document, conflicts };
}

/** The refusal that names what collided. */
export function mergeConflict(conflicts: readonly Conflict[]): Problem {
  const where = conflicts[0]?.path || 'the root';
  const more = conflicts.length > 1 ? ` and ${conflicts.length - 1} more` : '';
  return new Problem('merge_conflict', `Both sides changed ${where}${more}; nothing was written.`, {
    conflicts: printConflicts(conflicts),
  });
}

function mergeDocuments(base: Document, ours: Document, theirs: Document, merging: Merging): Document {
  // A side that only spelled something otherwise has changed it, as long as the other side has not touched a byte.
  if (Buffer.compare(base.bytes, ours.bytes) === 0 && base.contentType === ours.contentType) return theirs;
  if (isSameDocument(ours, theirs) || isSameDocument(base, theirs)) return ours;
  if (isSameDocument(base, ours)) return theirs;
  if (ours.kind === 'text' && theirs.kind === 'text') {
    const text = mergeText(base.kind === 'text' ? base.text : '', ours.text, theirs.text, merging);
    const contentType = base.contentType === ours.contentType ? theirs.contentType : ours.contentType;
    return fromText(text, contentType, [ours, theirs]);
  }
  if (base.kind === 'json' && ours.kind === 'json' && theirs.kind === 'json') {
    const value = mergeValues(base.value, ours.value, theirs.value, [], merging);
    return fromJson(value as Json, [ours, theirs]);
  }
  const side = merging.settle({ path: '', base: toValue(base), ours: toValue(ours), theirs: toValue(theirs) });
  return side === 'ours' ? ours : theirs;
}

// Absent (undefined) is a value like any other here: a deletion is a change to it.
function mergeValues(
  base: Json | undefined,
  ours: Json | undefined,
  theirs: Json | undefined,
  path: Path,
  merging: Merging,
): Json | undefined {
  const isSame = (left: Json | undefined, right: Json | undefined) =>
    left === undefined || right === undefined ? left === right : isSameAt(path.length, left, right, merging.identify);
  if (isSame(ours, theirs) || isSame(base, theirs)) return ours;
  if (isSame(base, ours)) return theirs;
  if (isJsonObject(ours) && isJsonObject(theirs) && (base === undefined || isJsonObject(base))) {
    return mergeObjects(base ?? new Map(), ours, theirs, path, merging);
  }
  if (Array.isArray(ours) && Array.isArray(theirs) && (base === undefined || Array.isArray(base))) {
    return mergeArrays(base ?? [], ours, theirs, path, merging);
  }
  return merging.settle({ path: pointer(path), base, ours, theirs }) === 'ours' ? ours : theirs;
}

function mergeObjects(
  base: JsonObject,
  ours: JsonObject,
  theirs: JsonObject,
  path: Path,
  merging: Merging,
): JsonObject {
  const merged: JsonObject = new Map();
  for (const key of new Set([...ours.keys(), ...theirs.keys()])) {
    const value = mergeValues(base.get(key), ours.get(key), theirs.get(key), [...path, key], merging);
    if (value !== undefined) merged.set(key, value);
  }
  return merged;
}

function mergeArrays(base: Json[], ours: Json[], theirs: Json[], path: Path, merging: Merging): Json[] {
  const ids = [base, ours, theirs].map(idsOf);
  const [baseIds, ourIds, theirIds] = ids;
  if (ids.every((own) => own?.every((id) => id !== undefined)) && baseIds && ourIds && theirIds) {
    return mergeById(toMap(base, baseIds), toMap(ours, ourIds), toMap(theirs, theirIds), path, merging);
  }
  const parts = { base, ours, theirs };
  const { identify, work } = merging;
  const numbers = { base: base.map(identify), ours: ours.map(identify), theirs: theirs.map(identify) };
  return diff3(numbers, work).flatMap((chunk) => {
    const cut = cutAt(parts, chunk);
    if (chunk.changed !== 'both') return chunk.changed === 'theirs' ? cut.theirs : cut.ours;
    return mergeStretch(cut, path, chunk.ours.from, merging);
  });
}

interface Parts {
  readonly base: Json[];
  readonly ours: Json[];
  readonly theirs: Json[];
}

function cutAt({ base, ours, theirs }: Parts, chunk: Chunk): Parts {
  return {
    base: base.slice(chunk.base.from, chunk.base.to),
    ours: ours.slice(chunk.ours.from, chunk.ours.to),
    theirs: theirs.slice(chunk.theirs.from, chunk.theirs.to),
  };
}

/** A stretch of an array that both sides changed: elements known to be the same thing are documents of their own. */
function mergeStretch(parts: Parts, path: Path, from: number, merging: Merging): Json[] {
  const labels = labelElements(parts, merging.identify);
  if (labels === undefined) return mergeWhole(parts, path, from, merging);
  const isSame = (left: Json[], right: Json[]) => isSameAt(path.length, left, right, merging.identify);
  return diff3(labels, merging.work).flatMap((chunk) => {
    const cut = cutAt(parts, chunk);
    // Equal labels say "the same thing", not "the same value": a side counts as unchanged only by its values.
    if (chunk.changed === 'ours' && isSame(cut.base, cut.theirs)) return cut.ours;
    if (chunk.changed === 'theirs' && isSame(cut.base, cut.ours)) return cut.theirs;
    return mergeWhole(cut, path, from + chunk.ours.from, merging);
  });
}

function mergeWhole(parts: Parts, path: Path, from: number, merging: Merging): Json[] {
  const { base, ours, theirs } = parts;
  if (isSameAt(path.length, ours, theirs, merging.identify)) return ours;
  if (base.length === ours.length && base.length === theirs.length) {
    return base.map((element, index) => {
      return mergeValues(element, ours[index], theirs[index], [...path, from + index], merging) as Json;
    });
  }
  return parts[merging.settle({ path: pointer([...path, from]), ...parts })];
}

function toMap(elements: readonly Json[], ids: readonly (string | undefined)[]): JsonObject {
  return new Map(elements.map((element, index) => [ids[index] as string, element]));
}

function mergeById(base: JsonObject, ours: JsonObject, theirs: JsonObject, path: Path, merging: Merging): Json[] {
  // A conflict inside an element is told by its place in ours, or in theirs where ours lacks it.
  const places = new Map([...[...theirs.keys()].entries(), ...[...ours.keys()].entries()].map(([at, id]) => [id, at]));
  const merged: JsonObject = new Map();
  for (const [id, place] of places) {
    const value = mergeValues(base.get(id), ours.get(id), theirs.get(id), [...path, place], merging);
    if (value !== undefined) merged.set(id, value);
  }
  return mergeOrder(base, ours, theirs, path, merging).flatMap((id) => merged.get(id) ?? []);
}

/** The order of all ids: that of the side which moved any; new ones stay behind what they followed on their side. */
function mergeOrder(base: JsonObject, ours: JsonObject, theirs: JsonObject, path: Path, merging: Merging): string[] {
  const shared = (side: JsonObject) => [...side.keys()].filter((id) => ours.has(id) && theirs.has(id));
  const known = (side: JsonObject) =>
    shared(side)
      .filter((id) => base.has(id))
      .join();
  const haveMoved = { ours: known(ours) !== known(base), theirs: known(theirs) !== known(base) };
  let lead: Side = haveMoved.theirs ? 'theirs' : 'ours';
  if (haveMoved.ours === haveMoved.theirs && shared(ours).join() !== shared(theirs).join()) {
    const values = { base: [...base.values()], ours: [...ours.values()], theirs: [...theirs.values()] };
    lead = merging.settle({ path: pointer(path), ...values });
  }
  const [first, second] = lead === 'ours' ? [ours, theirs] : [theirs, ours];
  const [leading, following] = [groupBehind(first, second), groupBehind(second, first)];
  // What both sides added in one place comes in the order of the first ids, whichever side is ours.
  return [...leading].flatMap(([id, own]) => {
    const other = following.get(id) ?? [];
    const isOtherFirst = other.length > 0 && own.length > 0 && (other[0] as string) < (own[0] as string);
    return [id, ...(isOtherFirst ? [...other, ...own] : [...own, ...other])];
  });
}

/** For the start (`''`) and each id both sides have: the ids only `side` has that follow it there. */
function groupBehind(side: JsonObject, other: JsonObject): Map<string, string[]> {
  let behind: string[] = [];
  const groups = new Map([['', behind]]);
  for (const id of side.keys()) {
    if (!other.has(id)) behind.push(id);
    else {
      behind = [];
      groups.set(id, behind);
    }
  }
  return groups;
}

function mergeText(base: string, ours: string, theirs: string, merging: Merging): string {
  const lines = { base: toLines(base), ours: toLines(ours), theirs: toLines(theirs) };
  return diff3(lines, merging.work)
    .map((chunk) => {
      const parts = {
        base: lines.base.slice(chunk.base.from, chunk.base.to).join(''),
        ours: lines.ours.slice(chunk.ours.from, chunk.ours.to).join(''),
        theirs: lines.theirs.slice(chunk.theirs.from, chunk.theirs.to).join(''),
      };
      if (chunk.changed !== 'both') return chunk.changed === 'theirs' ? parts.theirs : parts.ours;
      if (parts.ours === parts.theirs) return parts.ours;
      return parts[merging.settle({ path: lineRange(chunk), ...parts })];
    })
    .join('');
}

function lineRange({ base }: Chunk): string {
  if (base.to === base.from) return `L${base.from + 1}`;
  return `L${base.from + 1}-L${base.to}`;
}
