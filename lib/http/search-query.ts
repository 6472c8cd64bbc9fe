import * as z from 'zod';
import { isJsonNumber, isJsonObject, type Json } from '../base/json.ts';
import type { RawJson } from '../base/json-parse.ts';
import { invalid } from '../base/problem.ts';
import type { ContextFilter, FilterNumber, Range } from '../contexts/filter.ts';
import { later } from './later.ts';
import { contextId, kind, time } from './schemas.ts';

// PostgreSQL has no text with U+0000 in it.
const isText = (value: string) => !value.includes('\u0000') && value.isWellFormed();
const text = later(() => z.string().max(1000).refine(isText, 'holds what is no character'));
/** PostgreSQL's numbers go further, but not for ever. */
function isWithinBounds({ number }: FilterNumber): boolean {
  const exponent = Number(/[eE](.*)$/.exec(number)?.[1] ?? 0);
  return number.length <= 400 && Math.abs(exponent) <= 308 && Number.isFinite(Number(number));
}

// Spelled as it was sent, or, where it came as a number of JavaScript, as that prints.
const spelled = later(() =>
  z.union([
    z.number().transform((value): FilterNumber => ({ number: String(value) })),
    z
      .custom<FilterNumber>((value) => isJsonNumber(value as Json))
      .refine(isWithinBounds, 'is no number within 10^±308'),
  ]),
);
const bound = later(() => z.union([text(), spelled()]).optional());
const range = later(() =>
  z
    .strictObject({ gt: bound(), gte: bound(), lt: bound(), lte: bound() })
    .refine((value) => Object.keys(value).length > 0, 'names gt, gte, lt or lte'),
);

/** Path of metadata → a scalar that is there or in the array there, or a range; numbers by value, texts by their bytes. */
export const metadataFilter = later(() =>
  z
    .record(
      z
        .string()
        .regex(/^[^.]+(\.[^.]+){0,15}$/, 'is a path such as team or build.number')
        .refine(isText, 'holds what is no character'),
      z.union([text(), z.boolean(), spelled(), range()]),
    )
    .refine((value) => Object.keys(value).length <= 20, 'has at most 20 paths'),
);

export const filterFields = later(() => ({
  kind: kind().optional(),
  parentId: contextId().optional(),
  subtreeOf: contextId().optional(),
  ids: z.array(contextId()).min(1).max(1000).optional(),
  updatedAfter: time().optional(),
  updatedBefore: time().optional(),
}));

/** @throws Problem `invalid_request` for what is no filter, naming where. */
export function readMetadata(sent: RawJson | undefined): z.output<ReturnType<typeof metadataFilter>> | undefined {
  if (sent === undefined) return undefined;
  const { data, error } = metadataFilter().safeParse(toMembers(sent.value, ['filter', 'metadata']));
  if (data !== undefined) return data;
  const [issue] = error.issues;
  throw invalid(['filter', 'metadata', ...(issue?.path ?? [])].join('/'), issue?.message ?? 'is no filter');
}

/** Objects as JavaScript has them, numbers as they are spelled. */
function toMembers(value: Json, path: readonly string[]): unknown {
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(
    [...value].map(([key, member]) => {
      // JavaScript's objects keep no member of that name.
      if (key === '__proto__') throw invalid([...path, key].join('/'), 'cannot be filtered by');
      return [key, toMembers(member, [...path, key])];
    }),
  );
}

type FilterFields = z.output<z.ZodObject<ReturnType<typeof filterFields>>>;

/** Null where nothing is filtered by. */
export function toFilter(
  { updatedAfter, updatedBefore, ...rest }: FilterFields,
  metadata: z.output<ReturnType<typeof metadataFilter>> = {},
): ContextFilter | null {
  const equal: { path: string[]; value: string | FilterNumber | boolean }[] = [];
  const ranges: { path: string[]; range: Range }[] = [];
  for (const [key, value] of Object.entries(metadata)) {
    const path = key.split('.');
    if (typeof value === 'object' && !('number' in value)) ranges.push({ path, range: value });
    else equal.push({ path, value });
  }
  const filter = {
    ...rest,
    // Times are kept to the millisecond.
    updatedSinceMs: updatedAfter === undefined ? undefined : Date.parse(updatedAfter) + 1,
    updatedBeforeMs: updatedBefore === undefined ? undefined : Date.parse(updatedBefore),
    ...(equal.length > 0 ? { equal } : {}),
    ...(ranges.length > 0 ? { ranges } : {}),
  };
  return Object.values(filter).some((value) => value !== undefined) ? filter : null;
}

export const queryText = later(() =>
  z.string().max(10_000).meta({
    description:
      'Words of a question or a few key words, of which any may be there; `"…"` is a phrase that has to be there, `-word` must not.',
  }),
);
export const searchMode = later(() => z.enum(['hybrid', 'semantic', 'keyword']));
