import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { toTime } from './context-json.ts';
import { later } from './later.ts';
import { type Route, route } from './route.ts';
import { maintenanceBody } from './schemas.ts';

const tag = 'Operations';
const count = later(() => z.int().min(0));
const rate = later(() => z.number().min(0).max(1).nullable());
const layer = later(() => z.strictObject({ hits: count(), misses: count(), hitRate: rate() }));
const statsAnswer = later(() =>
  z.strictObject({
    contexts: count(),
    expired: count().meta({ description: 'Contexts whose time is over and that cleanup has not seen yet.' }),
    tombstones: count(),
    contentBytes: count(),
    largestBytes: count(),
    versions: z.strictObject({ count: count(), pinned: count(), bytes: count() }),
    cache: z.strictObject({
      l1: layer(),
      l2: layer(),
      l3: layer(),
      combinedHitRate: rate(),
      reported: z.array(
        z.strictObject({
          kind: z.string(),
          l1Hits: count(),
          l2Hits: count(),
          l3Hits: count(),
          loads: count(),
          hitRate: rate(),
          l3Entries: count(),
          l3Bytes: count(),
        }),
      ),
    }),
    search: z.strictObject({
      engine: z.enum(['pgvector', 'weaviate']),
      embedder: z.string(),
      chunks: count(),
      embedded: count().meta({ description: 'Chunks that have their vector of this embedder.' }),
      vectors: z.record(z.string(), count()).meta({ description: 'Chunks that have one, by embedder.' }),
      pending: count().meta({ description: 'Writes that the index has not seen yet.' }),
      queries: z.strictObject({
        cached: count().meta({ description: 'Searches that the caches answered.' }),
        asked: count(),
        averageMs: z.number().nullable().meta({ description: 'What one of those asked took; null before the first.' }),
      }),
    }),
    sync: z.array(
      z.strictObject({
        peer: z.string(),
        lag: count().meta({ description: 'Changes here that its runs have not seen.' }),
        runs: count(),
        failed: count(),
        halted: count(),
        lost: count(),
        runMsP50: z.number().nullable(),
        runMsP95: z.number().nullable(),
        synchronisedAt: z.iso.datetime().nullable(),
        conflicts: count(),
        items: count(),
        due: count(),
      }),
    ),
    engines: z.record(z.string(), z.strictObject({ calls: count(), failures: count(), averageMs: z.number() })),
    warnings: z.array(
      z.strictObject({ alert: z.string(), value: z.number(), threshold: z.number(), detail: z.string() }),
    ),
  }),
);
// A run asked for over HTTP ends before the gateways lose patience; what is left waits for the next.
const maintenanceBudgetMs = 10_000;

export const operationRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/stats',
    operationId: 'readStats',
    tag,
    summary: 'What the space holds, how its caches and engines do, and what should worry',
    description:
      'Sizes, and what the search index holds, are of this space; hit rates, queries and engines are of this instance since it began, `reported` of all instances within `cache.reportDays`. `warnings` names each threshold of `alerts` that is passed.',
    scope: 'read',
    answers: {
      200: {
        description: 'The figures.',
        schema: statsAnswer,
        example: {
          contexts: 1200,
          expired: 0,
          tombstones: 4,
          contentBytes: 5_200_000,
          largestBytes: 310_000,
          versions: { count: 9100, pinned: 12, bytes: 31_000_000 },
          cache: {
            l1: { hits: 900, misses: 100, hitRate: 0.9 },
            l2: { hits: 60, misses: 40, hitRate: 0.6 },
            l3: { hits: 2, misses: 9, hitRate: 0.18 },
            combinedHitRate: 0.962,
            reported: [
              { kind: 'head', l1Hits: 900, l2Hits: 60, l3Hits: 0, loads: 40, hitRate: 0.96, l3Entries: 0, l3Bytes: 0 },
            ],
          },
          search: {
            engine: 'pgvector',
            embedder: 'static:glove-6b-30k:100:1',
            chunks: 2600,
            embedded: 2600,
            vectors: { 'static:glove-6b-30k:100:1': 2600 },
            pending: 0,
            queries: { cached: 40, asked: 55, averageMs: 18.4 },
          },
          sync: [
            {
              peer: 'laptop',
              lag: 0,
              runs: 100,
              failed: 1,
              halted: 0,
              lost: 0,
              runMsP50: 24.1,
              runMsP95: 88.4,
              synchronisedAt: '2026-01-31T12:00:00.000Z',
              conflicts: 0,
              items: 812,
              due: 0,
            },
          ],
          engines: { postgres: { calls: 310, failures: 0, averageMs: 2.1 } },
          warnings: [],
        },
      },
    },
    problems: [],
    async handle({ manager, request }) {
      const { space, cache, search, sync: peers, engines, warnings } = await manager.statistics(request);
      const { seq, versions, pinned, versionBytes, ...held } = space;
      const count = { count: versions, pinned, bytes: versionBytes };
      const sync = peers.map(({ synchronisedMs, ...peer }) => ({ ...peer, synchronisedAt: toTime(synchronisedMs) }));
      return { seq, body: printPlain({ ...held, versions: count, cache, search, sync, engines, warnings }) };
    },
  }),

  route({
    method: 'get',
    path: '/metrics',
    operationId: 'metrics',
    tag,
    summary: 'What this instance counted, as OpenMetrics',
    description: 'For Prometheus and whatever reads its format: engines with their latencies, and the caches by kind.',
    scope: 'admin',
    answers: { 200: { description: 'The metrics.', contentType: 'application/openmetrics-text' } },
    problems: [],
    async handle({ manager }) {
      const { text, contentType } = await manager.printMetrics();
      return { contentType, body: text };
    },
  }),

  route({
    method: 'post',
    path: '/v1/maintenance/run',
    operationId: 'runMaintenance',
    tag,
    summary: 'Run now what the schedule runs',
    description:
      '`cleanup` removes what retention no longer keeps in this space, `warm` fills its caches with what is read most, `reconcile` compares layer 2 with PostgreSQL, `index` brings the search index up to what was written, `reindex` makes it anew; each for ten seconds at most, and `unfinished` says that more is left.',
    scope: 'admin',
    body: { kind: 'json', types: ['application/json'], schema: maintenanceBody, example: { task: 'cleanup' } },
    answers: {
      200: {
        description: 'What was done.',
        schema: () =>
          z.union([
            z.strictObject({
              task: z.literal('cleanup'),
              unfinished: z.boolean(),
              expired: z.int(),
              tombstones: z.int(),
              versions: z.int(),
              contents: z.int(),
              idempotencyKeys: z.int(),
              uploads: z.int(),
              changes: z.int(),
              cacheEntries: z.int(),
              cacheReports: z.int(),
              conflicts: z.int(),
              events: z.int(),
              sessions: z.int(),
            }),
            z.strictObject({ task: z.literal('warm'), warmed: z.int(), skipped: z.int(), tookMs: z.number() }),
            z.strictObject({
              task: z.enum(['index', 'reindex']),
              unfinished: z.boolean(),
              contexts: z.int(),
              chunks: z.int(),
              embedded: z.int(),
            }),
            z.strictObject({ task: z.literal('reconcile'), unfinished: z.boolean(), changes: z.int() }),
          ]),
        example: {
          task: 'cleanup',
          unfinished: false,
          expired: 2,
          tombstones: 0,
          versions: 12,
          contents: 11,
          idempotencyKeys: 0,
          uploads: 0,
          changes: 0,
          cacheEntries: 0,
          cacheReports: 0,
          conflicts: 0,
          events: 0,
          sessions: 0,
        },
      },
    },
    problems: ['idempotency_mismatch'],
    async handle({ manager, request, body, idempotency }) {
      const { task } = body;
      const run = async () => {
        const reports = await manager[task]({ only: request, budgetMs: maintenanceBudgetMs });
        const { isUnfinished, ...counts } = (reports[request.space] ?? {}) as { isUnfinished?: boolean };
        return printPlain({ task, ...(isUnfinished === undefined ? {} : { unfinished: isUnfinished }), ...counts });
      };
      return { body: await manager.once(request, idempotency, run) };
    },
  }),
];
