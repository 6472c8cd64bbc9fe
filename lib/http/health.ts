import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import type { EngineHealth } from '../health.ts';
import { later } from './later.ts';
import { type Route, route } from './route.ts';

const tag = 'Operations';
const engine = later(() => ({
  status: z.enum(['ready', 'away']),
  latencyMs: z.number().meta({ description: 'How long its answer took, or was waited for.' }),
}));
const enginesAnswer = later(() =>
  z.strictObject({
    postgres: z.strictObject({ ...engine(), slow: z.boolean() }),
    layer2: z.strictObject({ kind: z.enum(['redis', 'in-process']), ...engine() }),
    weaviate: z.strictObject(engine()).optional(),
  }),
);
const embedderAnswer = later(() => z.strictObject({ id: z.string(), kind: z.enum(['built-in', 'provider']) }));

/** What those ask who keep the process alive and send it requests. */
export const healthRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/healthz',
    operationId: 'health',
    tag,
    summary: 'Whether the process is alive',
    scope: null,
    answers: {
      200: {
        description: 'It is.',
        schema: () => z.strictObject({ status: z.literal('ok') }),
        example: { status: 'ok' },
      },
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
    description:
      'All are asked at once, each for as long as a request would wait for it. Without PostgreSQL the answer is 503. Layer 2 or Weaviate may be `away`: answers are right without them, and so it is 200. The embedder is named, not asked. `slow` is set above `alerts.databaseMs`.',
    scope: 'read',
    answers: {
      200: {
        description: 'PostgreSQL answers; what the others do is told.',
        schema: () =>
          z.strictObject({ status: z.literal('ready'), engines: enginesAnswer(), embedder: embedderAnswer() }),
        example: {
          status: 'ready',
          engines: {
            postgres: { status: 'ready', latencyMs: 1.2, slow: false },
            layer2: { kind: 'redis', status: 'ready', latencyMs: 0.9 },
            weaviate: { status: 'away', latencyMs: 3000 },
          },
          embedder: { id: 'static:glove-6b-30k:100:1', kind: 'built-in' },
        },
      },
    },
    problems: [],
    async handle({ manager }) {
      const { postgres, layer2, weaviate, embedder } = await manager.health();
      const engines = {
        postgres: { ...engineMembers(postgres), slow: postgres.isSlow },
        layer2: { kind: layer2.kind, ...engineMembers(layer2) },
        ...(weaviate && { weaviate: engineMembers(weaviate) }),
      };
      if (!postgres.isReady) throw new Problem('unavailable', 'PostgreSQL does not answer.', { engines });
      const { id, isRemote } = embedder;
      return {
        body: printPlain({ status: 'ready', engines, embedder: { id, kind: isRemote ? 'provider' : 'built-in' } }),
      };
    },
  }),
];

const engineMembers = ({ isReady, latencyMs }: EngineHealth) => ({
  status: isReady ? 'ready' : 'away',
  latencyMs: Math.round(latencyMs * 10) / 10,
});
