import { z } from 'zod';
import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { type Route, route } from './route.ts';
import { maintenanceBody } from './schemas.ts';

const tag = 'Operations';
const engine = z.strictObject({ ready: z.boolean(), latencyMs: z.number(), slow: z.boolean() });
// A run asked for over HTTP ends before the gateways lose patience; what is left waits for the next.
const maintenanceBudgetMs = 10_000;

export const operationRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/healthz',
    operationId: 'health',
    tag,
    summary: 'Whether the process is alive',
    scope: null,
    answers: {
      200: { description: 'It is.', schema: z.strictObject({ status: z.literal('ok') }), example: { status: 'ok' } },
    },
    problems: [],
    handle: () => ({ body: '{"status":"ok"}' }),
  }),

  route({
    method: 'get',
    path: '/readyz',
    operationId: 'readiness',
    tag,
    summary: 'Whether each engine answers',
    description: '`slow` is set above `alerts.databaseMs`.',
    scope: 'read',
    answers: {
      200: {
        description: 'All engines answer.',
        schema: z.strictObject({ status: z.literal('ready'), engines: z.strictObject({ postgres: engine }) }),
        example: { status: 'ready', engines: { postgres: { ready: true, latencyMs: 1.2, slow: false } } },
      },
    },
    problems: [],
    async handle({ manager }) {
      const health = await manager.health();
      const { isReady, latencyMs, isSlow } = health.postgres;
      const engines = { postgres: { ready: isReady, latencyMs: Math.round(latencyMs * 10) / 10, slow: isSlow } };
      if (!isReady) throw new Problem('unavailable', 'PostgreSQL does not answer.', { engines });
      return { body: printPlain({ status: 'ready', engines }) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/maintenance/run',
    operationId: 'runMaintenance',
    tag,
    summary: 'Run now what the schedule runs',
    description:
      '`cleanup` removes what retention no longer keeps in this space, `warm` fills its caches with what is read most, `reconcile` compares layer 2 with PostgreSQL; each for ten seconds at most, and `unfinished` says that more is left.',
    scope: 'admin',
    body: { kind: 'json', types: ['application/json'], schema: maintenanceBody, example: { task: 'cleanup' } },
    answers: {
      200: {
        description: 'What was done.',
        schema: z.union([
          z.strictObject({
            task: z.literal('cleanup'),
            unfinished: z.boolean(),
            expired: z.int(),
            tombstones: z.int(),
            versions: z.int(),
            contents: z.int(),
            idempotencyKeys: z.int(),
            changes: z.int(),
            cacheEntries: z.int(),
            cacheReports: z.int(),
          }),
          z.strictObject({ task: z.literal('warm'), warmed: z.int(), skipped: z.int(), tookMs: z.number() }),
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
          changes: 0,
          cacheEntries: 0,
          cacheReports: 0,
        },
      },
    },
    problems: [],
    async handle({ manager, request, body }) {
      const { task } = body;
      const reports = await manager[task]({ only: request, budgetMs: maintenanceBudgetMs });
      const { isUnfinished, ...counts } = (reports[request.space] ?? {}) as { isUnfinished?: boolean };
      return {
        body: printPlain({ task, ...(isUnfinished === undefined ? {} : { unfinished: isUnfinished }), ...counts }),
      };
    },
  }),
];
