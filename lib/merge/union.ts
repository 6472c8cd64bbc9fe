import { canonicalJson, isJsonObject, isSameJson, type Json, pointer } from '../base/json.ts';
import { align } from './align.ts';
import type { Conflict } from './conflict.ts';
import { areTexts, type Document, fromJson, fromText, type Source, toLines, toValue } from './document.ts';
import { createIdentify, type Identify } from './identity.ts';
import { idsOf } from './ids.ts';
import { compareAge } from './latest.ts';

interface Ranked {
  readonly value: Json;
  /** Higher is later; equal where only the value itself can tell. */
  readonly rank: number;
}

/**
 * Everything that any source has. Objects key by key; arrays keep each element as often as the source that has it most;
 * elements with an `id` are matched by it where ids are unique within each array. Of unequal scalars the latest wins and
 * a conflict is reported.
 */
export function union(sources: readonly [Source, ...Source[]]): { document: Document; conflicts: Conflict[] } {
  const conflicts: Conflict[] = [];
  const all: readonly Source[] = sources;
  if (areTexts(all)) {
    const text = all.map((source) => source.text).reduce(unionLines);
    return { document: fromText(text, sources[0].contentType, sources), conflicts };
  }
  const byAge = [...sources].sort(compareAge);
  const ranked = sources.map((source) => ({
    source,
    rank: byAge.findIndex((other) => compareAge(other, source) === 0),
  }));
  if (sources.every((source) => source.kind === 'json')) {
    const values = ranked.map(({ source, rank }, index) => ({
      value: toValue(source),
      // Contents sent along are as old as their place in the list.
      rank: Number.isFinite(source.updatedMs) ? rank : rank + index,
    }));
    return { document: fromJson(unite(values, [], { conflicts, identify: createIdentify() }), sources), conflicts };
  }
  const chosen = ranked.reduce((best, one) => (one.rank >= best.rank ? one : best)).source;
  const other = sources.find((source) => source !== sources[0] && source.kind !== sources[0].kind) ?? chosen;
  const theirs = chosen === sources[0] ? other : chosen;
  conflicts.push({
    path: '',
    ours: toValue(sources[0]),
    theirs: toValue(theirs),
    chosen: chosen === sources[0] ? 'ours' : 'theirs',
  });
  return { document: chosen, conflicts };
}

interface Uniting {
  readonly conflicts: Conflict[];
  readonly identify: Identify;
}

function unite(values: readonly Ranked[], path: readonly (string | number)[], uniting: Uniting): Json {
  const first = (values[0] as Ranked).value;
  if (values.length === 1) return first;
  if (values.every(({ value }) => isJsonObject(value))) return uniteObjects(values, path, uniting);
  if (values.every(({ value }) => Array.isArray(value))) return uniteArrays(values, path, uniting);
  const different = values.find(({ value }) => !isSameJson(value, first));
  if (different === undefined) return first;
  const chosen = values.reduce((best, one) => (isLater(one, best) ? one : best)).value;
  const isOurs = isSameJson(chosen, first);
  uniting.conflicts.push({
    path: pointer(path),
    ours: first,
    theirs: isOurs ? different.value : chosen,
    chosen: isOurs ? 'ours' : 'theirs',
  });
  return isOurs ? first : chosen;
}

// Where age cannot tell, the value itself does, so that the order of the sources does not matter.
function isLater(one: Ranked, best: Ranked): boolean {
  return one.rank > best.rank || (one.rank === best.rank && canonicalJson(one.value) > canonicalJson(best.value));
}

function uniteObjects(values: readonly Ranked[], path: readonly (string | number)[], uniting: Uniting): Json {
  const members = new Map<string, Ranked[]>();
  for (const { value, rank } of values) {
    for (const [key, member] of value as Map<string, Json>) {
      const own = members.get(key);
      if (own === undefined) members.set(key, [{ value: member, rank }]);
      else own.push({ value: member, rank });
    }
  }
  const united = new Map<string, Json>();
  for (const [key, own] of members) united.set(key, unite(own, [...path, key], uniting));
  return united;
}

function uniteArrays(values: readonly Ranked[], path: readonly (string | number)[], uniting: Uniting): Json {
  const ids = values.map(({ value }) => idsOf(value as Json[]));
  const isMatchedById = ids.every((own) => own !== undefined);
  const slots = new Map<string, Ranked[]>();
  values.forEach(({ value, rank }, source) => {
    const seen = new Map<number, number>();
    (value as Json[]).forEach((element, index) => {
      const id = isMatchedById ? ids[source]?.[index] : undefined;
      let slot = `id ${id}`;
      if (id === undefined) {
        const number = uniting.identify(element);
        const nth = seen.get(number) ?? 0;
        seen.set(number, nth + 1);
        slot = `${nth} ${number}`;
      }
      const own = slots.get(slot);
      if (own === undefined) slots.set(slot, [{ value: element, rank }]);
      else own.push({ value: element, rank });
    });
  });
  return [...slots].map(([slot, own], index) =>
    // What shares a slot without an id is equal already.
    slot.startsWith('id ') ? unite(own, [...path, index], uniting) : (own[0] as Ranked).value,
  );
}

function unionLines(left: string, right: string): string {
  const ours = toLines(left);
  const theirs = toLines(right);
  const lines: string[] = [];
  let leftAt = 0;
  let rightAt = 0;
  for (const match of [...align(ours, theirs), { leftAt: ours.length, rightAt: theirs.length, length: 0 }]) {
    for (const line of closed(ours.slice(leftAt, match.leftAt), theirs.slice(rightAt, match.rightAt))) lines.push(line);
    for (let at = 0; at < match.length; at++) lines.push(ours[match.leftAt + at] as string);
    leftAt = match.leftAt + match.length;
    rightAt = match.rightAt + match.length;
  }
  return lines.join('');
}

// A last line without a line break gets one when something follows it.
function closed(left: string[], right: string[]): string[] {
  const last = left.at(-1);
  if (last === undefined || right.length === 0 || last.endsWith('\n')) return [...left, ...right];
  return [...left.slice(0, -1), `${last}\n`, ...right];
}
