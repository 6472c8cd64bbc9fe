import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import type { Held } from '../cache/explain.ts';
import { later } from './later.ts';
import { type Route, route } from './route.ts';
import { contextId, kind } from './schemas.ts';

const tag = 'Cache';
const count = later(() => z.int().min(0));
const rate = later(() =>
  z.number().min(0).max(1).nullable().meta({ description: 'Hits of all asked; null before anything was.' }),
);
const layer = later(() => ({ hits: count(), misses: count(), hitRate: rate() }));
const l1 = later(() =>
  z.strictObject({
    ...layer(),
    joined: count().meta({ description: 'Reads answered by another one that was under way.' }),
    entries: count(),
    bytes: count(),
    evictions: count(),
  }),
);
const l2 = later(() =>
  z.strictObject({
    ...layer(),
    calls: count(),
    averageMs: z.number().nullable().meta({ description: 'What a call took; null before the first.' }),
    failures: count().meta({ description: 'Calls without an answer.' }),
    unreadable: count().meta({ description: 'Entries that were damaged, foreign or of another format.' }),
    refused: count().meta({ description: 'Values that came too late to be stored.' }),
    leases: z
      .strictObject({ granted: count(), held: count() })
      .meta({ description: 'Loads that others could wait for, and waits for another one.' }),
  }),
);
const l3 = later(() =>
  z.strictObject({
    ...layer(),
    entries: count().nullable().meta({ description: 'Of this space; null while PostgreSQL does not answer.' }),
    bytes: count().nullable(),
  }),
);
const ofKind = later(() =>
  z.strictObject({
    l1: z.strictObject({ hits: count(), entries: count(), bytes: count(), evictions: count() }),
    l2: z.strictObject({ hits: count() }),
    l3: z.strictObject({ hits: count() }),
    loads: count().meta({ description: 'Values that the context tables were asked for.' }),
    loadMs: z.number().nullable().meta({ description: 'What a request for them took; null before the first.' }),
    bypassed: count().meta({ description: 'Values asked for past every layer.' }),
    stale: count().meta({ description: 'Values served beyond the bounds while PostgreSQL was away.' }),
  }),
);
const breakerState = later(() => z.enum(['closed', 'open', 'half-open']));
const held = later(() => ({
  held: z.boolean(),
  at: z.int().nullable().meta({ description: 'The tick at whose snapshot the value was true.' }),
  deps: z.array(z.string()).meta({ description: 'The items it was made of.' }),
  why: z.string(),
}));
const explanation = later(() =>
  z.strictObject({
    id: contextId(),
    l1: z.strictObject({ ...held(), tick: z.int(), validatedMsAgo: z.number().nullable(), ownTick: z.int() }),
    l2: z.strictObject({
      ...held(),
      applied: z.int().nullable(),
      incarnation: z.string().nullable(),
      verifiedMsAgo: z.number().nullable(),
    }),
    l3: z.strictObject(held()),
  }),
);

const text = later(() =>
  z
    .string()
    .min(1)
    .max(200)
    .refine((value) => !value.includes('\u0000'), 'holds U+0000'),
);
const invalidateBody = later(() =>
  z
    .union([
      z.strictObject({ ids: z.array(contextId()).min(1).max(1000) }),
      z.strictObject({ tags: z.array(text()).min(1).max(1000) }),
      z.strictObject({ pattern: text() }),
      z.strictObject({ all: z.literal(true) }),
    ])
    .meta({ id: 'CacheInvalidate', description: 'One of `ids`, `tags`, `pattern` or `all`.' }),
);

const warmBody = later(() =>
  z
    .strictObject({
      ids: z.array(contextId()).min(1).max(1000).optional(),
      kind: kind().optional(),
      subtreeOf: contextId().optional(),
      top: z.int().min(1).max(10_000).optional(),
      budgetMs: z.int().min(10).max(10_000).default(1000),
    })
    .refine(({ ids, kind: of, subtreeOf, top }) => ids === undefined || (of ?? subtreeOf ?? top) === undefined, {
      error: 'excludes kind, subtreeOf and top',
      path: ['ids'],
    })
    .meta({ id: 'CacheWarm' }),
);

export const cacheRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/cache',
    operationId: 'readCache',
    tag,
    summary: 'What the caches of this instance did',
    description: 'Counts since the instance began, of all its spaces; what layer 3 holds, of this space.',
    scope: 'admin',
    answers: {
      200: {
        description: 'Per layer, and together: `combinedHitRate` is what PostgreSQL was not asked for.',
        schema: () =>
          z.strictObject({
            layers: z.strictObject({ l1: l1(), l2: l2(), l3: l3() }),
            combinedHitRate: rate(),
            kinds: z.record(z.string(), ofKind()).meta({ description: 'The same by kind of what was read.' }),
            breaker: breakerState(),
            origin: breakerState().meta({ description: 'The same of PostgreSQL, as cached reads see it.' }),
            windowMs: count(),
            repairMs: count(),
          }),
        example: {
          layers: {
            l1: { hits: 900, misses: 100, joined: 3, hitRate: 0.9, entries: 80, bytes: 120_000, evictions: 0 },
            l2: {
              hits: 60,
              misses: 40,
              hitRate: 0.6,
              calls: 140,
              averageMs: 1.1,
              failures: 0,
              unreadable: 0,
              refused: 1,
              leases: { granted: 38, held: 2 },
            },
            l3: { hits: 0, misses: 0, hitRate: null, entries: 0, bytes: 0 },
          },
          combinedHitRate: 0.96,
          kinds: {
            head: {
              l1: { hits: 900, entries: 80, bytes: 120_000, evictions: 0 },
              l2: { hits: 60 },
              l3: { hits: 0 },
              loads: 40,
              loadMs: 2.3,
              bypassed: 0,
              stale: 0,
            },
          },
          breaker: 'closed',
          origin: 'closed',
          windowMs: 1000,
          repairMs: 10_000,
        },
      },
    },
    problems: [],
    async handle({ manager, request }) {
      const { stats, summary, layer3 } = await manager.caching.report(request);
      const { windowMs, repairMs } = manager.settings.cache;
      const { kinds, layer1, layer2, breaker, origin } = stats;
      const sum = (name: 'joined' | 'unreadable' | 'refused' | 'leasesGranted' | 'leasesHeld') =>
        Object.values(kinds).reduce((total, counts) => total + counts[name], 0);
      const { entries, bytes, evictions } = layer1;
      const byKind = Object.entries(kinds).map(([name, counts]) => {
        const heldHere = layer1.kinds[name] ?? { entries: 0, bytes: 0, evictions: 0 };
        const { originCalls, originMs, loads, bypassed, stale } = counts;
        return [
          name,
          {
            l1: { hits: counts.l1Hits, ...heldHere },
            l2: { hits: counts.l2Hits },
            l3: { hits: counts.l3Hits },
            loads,
            loadMs: originCalls === 0 ? null : originMs / originCalls,
            bypassed,
            stale,
          },
        ] as const;
      });
      return {
        body: printPlain({
          layers: {
            l1: { ...summary.l1, joined: sum('joined'), entries, bytes, evictions },
            l2: {
              ...summary.l2,
              calls: layer2.calls,
              averageMs: layer2.calls === 0 ? null : layer2.ms / layer2.calls,
              failures: layer2.failures,
              unreadable: sum('unreadable'),
              refused: sum('refused'),
              leases: { granted: sum('leasesGranted'), held: sum('leasesHeld') },
            },
            l3: { ...summary.l3, entries: layer3?.entries ?? null, bytes: layer3?.bytes ?? null },
          },
          combinedHitRate: summary.combinedHitRate,
          kinds: Object.fromEntries(byKind),
          breaker,
          origin,
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
      200: { description: 'The tick.', schema: () => z.strictObject({ seq: z.int() }), example: { seq: 42 } },
    },
    problems: ['idempotency_mismatch'],
    async handle({ manager, request, body, idempotency }) {
      const seq = await manager.caching.invalidate(request, body, idempotency);
      return { seq, body: printPlain({ seq }) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/cache/warm',
    operationId: 'warmCache',
    tag,
    summary: 'Fill the caches before anyone asks',
    description:
      'These ids, or of a kind or a subtree or everything what is worth most: what is read most by the reports of all instances, then what was changed last. No new step begins after `budgetMs`.',
    scope: 'admin',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: warmBody,
      isOptional: true,
      example: { subtreeOf: 'checkout', top: 100 },
    },
    answers: {
      200: {
        description: '`skipped` were held already, could not be given, or are beyond the budget.',
        schema: () => z.strictObject({ warmed: count(), skipped: count(), tookMs: z.number().min(0) }),
        example: { warmed: 96, skipped: 4, tookMs: 41 },
      },
    },
    problems: ['idempotency_mismatch'],
    async handle({ manager, request, body, idempotency }) {
      const run = async () => printPlain({ ...(await manager.caching.warm(request, body)) });
      return { body: await manager.once(request, idempotency, run) };
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
    query: () =>
      z.strictObject({
        id: contextId(),
        kind: z.enum(['head', 'effective']).default('head').meta({
          description: 'The context itself, or with its ancestors folded in as `?resolve=ancestors` reads it.',
        }),
      }),
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
          l3: { held: false, at: null, deps: [], why: 'this kind is not kept in layer 3' },
        },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const { l1: one, l2: two, l3: three } = await manager.caching.explain(request, query.id, query.kind);
      const show = ({ isHeld, at, deps, why }: Held) => ({ held: isHeld, at, deps, why });
      const { tick, validatedMsAgo, own } = one;
      const { applied, incarnation, verifiedMsAgo } = two;
      return {
        body: printPlain({
          id: query.id,
          l1: { ...show(one), tick, validatedMsAgo, ownTick: own },
          l2: { ...show(two), applied, incarnation, verifiedMsAgo },
          l3: show(three),
        }),
      };
    },
  }),
];
