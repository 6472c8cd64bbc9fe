import { canonicalJson, isJsonObject, type Json, type JsonObject, printJson } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { type Conflict, type PrintedConflict, printConflicts } from '../merge/conflict.ts';
import { type Document, fromJson, jsonType, type Source, toDocument } from '../merge/document.ts';
import { merge } from '../merge/merge.ts';
import { threeWay } from '../merge/three-way.ts';
import type { Held, Value } from './value.ts';

/** How two changes of one item are joined; `manual` leaves it to people. */
export const syncStrategies = ['three-way', 'union', 'latest', 'intersection', 'manual'] as const;
export type SyncStrategy = (typeof syncStrategies)[number];

/** What comes of two changes: one value for both sides (null: none of them is to have it), or that they collide. */
export type Joined =
  | {
      readonly value: Value | null;
      /** Whether something that a side has changed is not in it. */
      readonly isLossy: boolean;
    }
  | { readonly conflicts: readonly PrintedConflict[] };

/**
 * Joins what both sides have made of what was agreed on. Absent (null) is a state like any other: a delete that meets a
 * change collides in a three-way join, gives way in a union and prevails in an intersection. Of `latest`, a delete counts
 * by the time its side tells. Deterministic, and the same whichever side is which, but for order.
 *
 * @param base null where nothing was agreed on.
 */
export function join(
  strategy: SyncStrategy,
  sides: {
    readonly base: Value | null;
    readonly ours: Held | null;
    readonly theirs: Held | null;
    readonly goneMs: { readonly ours: number; readonly theirs: number };
  },
): Joined {
  const { base, ours, theirs } = sides;
  if (strategy === 'latest') {
    const later = (theirs?.updatedMs ?? sides.goneMs.theirs) >= (ours?.updatedMs ?? sides.goneMs.ours) ? theirs : ours;
    return { value: later?.value ?? null, isLossy: true };
  }
  if (ours === null || theirs === null) {
    if (strategy === 'union') return { value: (ours ?? theirs)?.value ?? null, isLossy: false };
    return strategy === 'intersection' ? { value: null, isLossy: true } : collision;
  }
  if (strategy === 'manual') return collision;
  return strategy === 'three-way' ? joinChanges(base, ours.value, theirs.value) : joinValues(strategy, ours, theirs);
}

// The whole of it collides; what there is to see is kept with the conflict.
const collision: Joined = { conflicts: [{ path: '' }] };

const text = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();

function joinValues(strategy: 'union' | 'intersection', ours: Held, theirs: Held): Joined {
  const later = theirs.updatedMs >= ours.updatedMs ? theirs : ours;
  const source = ({ updatedMs }: Held, document: Document): Source => ({ ...document, updatedMs, version: 0 });
  const both = (of: (value: Value) => Document, by: 'union' | 'intersection') => {
    const sources = [source(ours, of(ours.value)), source(theirs, of(theirs.value))];
    return merge({ strategy: by, sources, prefer: 'latest' });
  };
  const isEntity = [ours, theirs].every(({ value }) => readSet(contentOf(value)) !== undefined);
  try {
    // Without its name or type an entity would be none: only its observations are cut to what both have.
    const content = both(contentOf, isEntity ? 'union' : strategy);
    const metadata = both(metadataOf, strategy);
    const cut = isEntity && strategy === 'intersection' ? both(observationsOf, strategy).document : undefined;
    const { contentType, bytes } = cut === undefined ? content.document : withObservations(content.document, cut);
    const isLossy = strategy === 'intersection' || content.conflicts.length + metadata.conflicts.length > 0;
    return { value: { ...later.value, contentType, bytes, metadata: text(metadata.document.bytes) }, isLossy };
  } catch (error) {
    // What has nothing in common has no intersection.
    if (!(error instanceof Problem)) throw error;
    return collision;
  }
}

function joinChanges(base: Value | null, ours: Value, theirs: Value): Joined {
  const conflicts: Conflict[] = [];
  const join = (of: (value: Value) => Document, path: string) => {
    const from = base === null ? nothingLike(of(ours)) : of(base);
    const joined = joinSets(from, of(ours), of(theirs)) ?? threeWay(from, of(ours), of(theirs), 'ours');
    conflicts.push(...joined.conflicts.map((one) => ({ ...one, path: path + one.path })));
    return joined.document;
  };
  const pick = <Name extends 'kind' | 'parentId' | 'expiresMs'>(name: Name): Value[Name] => {
    if (ours[name] === theirs[name] || theirs[name] === base?.[name]) return ours[name];
    if (base !== null && ours[name] === base[name]) return theirs[name];
    const shown = (value: Value | null) => (value === null ? undefined : plain(value[name]));
    conflicts.push({ path: `/${name}`, base: shown(base), ours: shown(ours), theirs: shown(theirs) });
    return ours[name];
  };
  const document = join(contentOf, '');
  const metadata = text(join(metadataOf, '/metadata').bytes);
  const rest = { kind: pick('kind'), parentId: pick('parentId'), expiresMs: pick('expiresMs') };
  if (conflicts.length > 0) return { conflicts: printConflicts(conflicts).map(shorten) };
  return { value: { ...rest, contentType: document.contentType, bytes: document.bytes, metadata }, isLossy: false };
}

// What is longer is in the conflict itself, which keeps both sides whole.
const shownCharactersMax = 4096;

/** A conflict without those of its values that are long. */
function shorten({ path, ...sides }: PrintedConflict): PrintedConflict {
  const shown = Object.entries(sides).filter(
    ([, value]) => typeof value === 'object' && value.jsonText.length <= shownCharactersMax,
  );
  // PostgreSQL keeps no U+0000, which a key may hold.
  return { path: path.replaceAll('\u0000', '\\u0000'), ...Object.fromEntries(shown) };
}

const contentOf = ({ bytes, contentType }: Value) => toDocument(bytes, contentType);
const metadataOf = ({ metadata }: Value) => toDocument(Buffer.from(metadata), jsonType);

function plain(value: string | number | null): Json {
  return typeof value === 'number' ? { number: String(value) } : value;
}

/** What two sides have grown from that never agreed on anything: an empty document of their kind. */
function nothingLike({ kind, contentType }: Document): Document {
  return toDocument(Buffer.from(kind === 'text' ? '' : '{}'), contentType);
}

/**
 * Observations of an entity are a set in the order of their making: what either side added is there, what either took away
 * is not. So two sides that both add never collide, as they would where places count.
 *
 * @returns undefined where one of them is no entity.
 */
function joinSets(base: Document, ours: Document, theirs: Document): ReturnType<typeof threeWay> | undefined {
  const [was, left, right] = [base, ours, theirs].map(readSet);
  if (left === undefined || right === undefined) return undefined;
  const before = new Set((was?.observations ?? []).map(canonicalJson));
  const [mine, yours] = [left, right].map(({ observations }) => new Set(observations.map(canonicalJson))) as [
    Set<string>,
    Set<string>,
  ];
  const kept = left.observations.filter((one) => !before.has(canonicalJson(one)) || yours.has(canonicalJson(one)));
  const added = right.observations.filter((one) => !before.has(canonicalJson(one)) && !mine.has(canonicalJson(one)));
  const rest = (of: { rest: JsonObject } | undefined) =>
    toDocument(Buffer.from(printJson(of?.rest ?? new Map())), jsonType);
  const { document, conflicts } = threeWay(rest(was), rest(left), rest(right), 'ours');
  const joined = new Map(document.kind === 'json' && isJsonObject(document.value) ? document.value : []);
  joined.set('observations', [...kept, ...added]);
  return { document: fromJson(joined, [ours, theirs]), conflicts };
}

/** An entity's observations alone, as a document. */
function observationsOf(value: Value): Document {
  const observations = readSet(contentOf(value))?.observations ?? [];
  return toDocument(Buffer.from(printJson(observations)), jsonType);
}

function withObservations(entity: Document, observations: Document): Document {
  const members = entity.kind === 'json' && isJsonObject(entity.value) ? entity.value : new Map<string, Json>();
  const joined = new Map(members).set('observations', observations.kind === 'json' ? observations.value : []);
  return fromJson(joined, []);
}

function readSet(document: Document): { rest: JsonObject; observations: Json[] } | undefined {
  if (document.kind !== 'json' || !isJsonObject(document.value)) return undefined;
  const rest = new Map(document.value);
  const observations = rest.get('observations');
  rest.delete('observations');
  const isEntity = typeof rest.get('name') === 'string' && typeof rest.get('entityType') === 'string';
  return isEntity && Array.isArray(observations) ? { rest, observations } : undefined;
}
