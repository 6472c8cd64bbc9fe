import { z } from 'zod';
import { printPlain } from '../base/json.ts';
import type { Held } from '../cache/explain.ts';
import { type Route, route } from './route.ts';
import { contextId } from './schemas.ts';

const tag = 'Cache';
const count = z.int().min(0);
const rate = z.number().min(0).max(1).nullable().meta({ description: 'Hits of all asked; null before anything was.' });
const l1 = z.strictObject({
  hits: count,
  misses: count,
  joined: count.meta({ description: 'Reads answered by another one that was under way.' }),
  hitRate: rate,
  entries: count,
  bytes: count,
  evictions: count,
});
const l2 = z.strictObject({
  hits: count,
  misses: count,
  hitRate: rate,
  failures: count.meta({ description: 'Calls without an answer.' }),
  unreadable: count.meta({ description: 'Entries that were damaged, foreign or of another format.' }),
  refused: count.meta({ description: 'Values that came too late to be stored.' }),
});
const held = {
  held: z.boolean(),
  at: z.int().nullable().meta({ description: 'The tick at whose snapshot the value was true.' }),
  deps: z.array(z.string()).meta({ description: 'The items it was made of.' }),
  why: z.string(),
};
const explanation = z.strictObject({
  id: contextId,
  l1: z.strictObject({ ...held, tick: z.int(), validatedMsAgo: z.number().nullable(), ownTick: z.int() }),
  l2: z.strictObject({
    ...held,
    applied: z.int().nullable(),
    incarnation: z.string().nullable(),
    verifiedMsAgo: z.number().nullable(),
  }),
});

const text = z
  .string()
  .min(1)
  .max(200)
  .refine((value) => !value.includes('\u0000'), 'holds U+0000');
const invalidateBody = z
  .union([
    z.strictObject({ ids: z.array(contextId).min(1).max(1000) }),
    z.strictObject({ tags: z.array(text).min(1).max(1000) }),
    z.strictObject({ pattern: text }),
    z.strictObject({ all: z.literal(true) }),
  ])
  .meta({ id: 'CacheInvalidate', description: 'One of `ids`, `tags`, `pattern` or `all`.' });

export const cacheRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/cache',
    operationId: 'readCache',
    tag,
    summary: 'What the caches of this instance did',
    description: 'Counts since the instance began, of all its spaces.',
    scope: 'admin',
    answers: {
      200: {
        description: 'Per layer, and together: `combinedHitRate` is what PostgreSQL was not asked for.',
        schema: z.strictObject({
          layers: z.strictObject({ l1, l2 }),
          combinedHitRate: rate,
          breaker: z.enum(['closed', 'open', 'half-open']),
          windowMs: count,
          repairMs: count,
        }),
        example: {
          layers: {
            l1: { hits: 900, misses: 100, joined: 3, hitRate: 0.9, entries: 80, bytes: 120_000, evictions: 0 },
            l2: { hits: 60, misses: 40, hitRate: 0.6, failures: 0, unreadable: 0, refused: 1 },
          },
          combinedHitRate: 0.96,
          breaker: 'closed',
          windowMs: 1000,
          repairMs: 10_000,
        },
      },
    },
    problems: [],
    handle({ manager }) {
      const { l1: one, l2: two, breaker } = manager.caching.stats();
      const { windowMs, repairMs } = manager.settings.cache;
      const hitRate = (hits: number, all: number) => (all === 0 ? null : hits / all);
      const asked = one.hits + one.misses;
      return {
        body: printPlain({
          layers: {
            l1: { ...one, hitRate: hitRate(one.hits, asked) },
            l2: { ...two, hitRate: hitRate(two.hits, two.hits + two.misses) },
          },
          combinedHitRate: hitRate(one.hits + two.hits, asked),
          breaker,
          windowMs,
          repairMs,
        }),
      };
    },
  }),

  route({
    method: 'post',
    path: '/v1/cache/invalidate',
    operationId: 'invalidateCache',
    tag,
    summary: 'Have contexts loaded again',
    description:
      'By ids, by tags (`kind:<kind>`, `parent:<id>`, strings of `metadata.tags`), by a glob over ids (`*`, `?`, `[…]`), or all. One tick and one command, whatever it covers; a read that presents `seq` as `Context-Seq` sees nothing cached before.',
    scope: 'admin',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: invalidateBody,
      example: { pattern: 'checkout:*:notes' },
    },
    answers: {
      200: { description: 'The tick.', schema: z.strictObject({ seq: z.int() }), example: { seq: 42 } },
    },
    problems: ['idempotency_mismatch'],
    async handle({ manager, request, body, idempotency }) {
      const seq = await manager.caching.invalidate(request, body, idempotency);
      return { seq, body: printPlain({ seq }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/cache/explain',
    operationId: 'explainCache',
    tag,
    summary: 'What the caches hold of a context',
    description:
      'For each layer whether it holds the context, as of which tick, made of what, and whether it would be served.',
    scope: 'admin',
    query: z.strictObject({ id: contextId }),
    answers: {
      200: {
        description: 'The whole story of one id, as this instance sees it.',
        schema: explanation,
        example: {
          id: 'checkout:notes',
          l1: {
            held: true,
            at: 41,
            deps: ['c:checkout:notes', 't:kind:note'],
            why: 'served',
            tick: 42,
            validatedMsAgo: 120,
            ownTick: 41,
          },
          l2: {
            held: true,
            at: 42,
            deps: ['c:checkout:notes', 't:kind:note'],
            why: 'served',
            applied: 42,
            incarnation: '1769860800000.1:n',
            verifiedMsAgo: 900,
          },
        },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const { l1: one, l2: two } = await manager.caching.explain(request, query.id);
      const show = ({ isHeld, at, deps, why }: Held) => ({ held: isHeld, at, deps, why });
      const { tick, validatedMsAgo, own } = one;
      const { applied, incarnation, verifiedMsAgo } = two;
      return {
        body: printPlain({
          id: query.id,
          l1: { ...show(one), tick, validatedMsAgo, ownTick: own },
          l2: { ...show(two), applied, incarnation, verifiedMsAgo },
        }),
      };
    },
  }),
];
