import { z } from 'zod';
import type { ContextFilter, Range } from '../contexts/filter.ts';
import { contextId, kind, time } from './schemas.ts';

// PostgreSQL has no text with U+0000 in it.
const isText = (value: string) => !value.includes('\u0000') && value.isWellFormed();
const text = z.string().max(1000).refine(isText, 'holds what is no character');
const bound = z.union([text, z.number()]).optional();
const range = z
  .strictObject({ gt: bound, gte: bound, lt: bound, lte: bound })
  .refine((value) => Object.keys(value).length > 0, 'names gt, gte, lt or lte');

/** Path of metadata → a scalar that is there or in the array there, or a range; numbers by value, texts by their bytes. */
export const metadataFilter = z
  .record(
    z
      .string()
      .regex(/^[^.]+(\.[^.]+){0,15}$/, 'is a path such as team or build.number')
      .refine(isText, 'holds what is no character'),
    z.union([text, z.number(), z.boolean(), range]),
  )
  .refine((value) => Object.keys(value).length <= 20, 'has at most 20 paths');

export const filterFields = {
  kind: kind.optional(),
  parentId: contextId.optional(),
  subtreeOf: contextId.optional(),
  ids: z.array(contextId).min(1).max(1000).optional(),
  updatedAfter: time.optional(),
  updatedBefore: time.optional(),
};

type FilterFields = z.output<z.ZodObject<typeof filterFields>>;

/** Null where nothing is filtered by. */
export function toFilter(
  { updatedAfter, updatedBefore, ...rest }: FilterFields,
  metadata: z.output<typeof metadataFilter> = {},
): ContextFilter | null {
  const equal: { path: string[]; value: string | number | boolean }[] = [];
  const ranges: { path: string[]; range: Range }[] = [];
  for (const [key, value] of Object.entries(metadata)) {
    const path = key.split('.');
    if (typeof value === 'object') ranges.push({ path, range: value });
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

export const queryText = z.string().max(10_000).meta({
  description:
    'Words of a question or a few key words, of which any may be there; `"…"` is a phrase that has to be there, `-word` must not.',
});
export const searchMode = z.enum(['hybrid', 'semantic', 'keyword']);
