import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { Operation } from '../contexts/operation.ts';
import { atOperation, writeMany } from '../contexts/written.ts';
import { contextMembers, itemMembers } from './context-json.ts';
import { later } from './later.ts';
import { toPut } from './put.ts';
import { problemBody } from './respond.ts';
import { type Route, route } from './route.ts';
import { batchGetBody, batchWriteBody, contextAnswer, problemAnswer } from './schemas.ts';

const item = later(() => contextAnswer().or(problemAnswer()));

export const batchRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/batch/get',
    operationId: 'batchGet',
    tag: 'Batches',
    summary: 'Read up to 100 contexts',
    description: 'In the order asked; a problem stands in the place of what cannot be read.',
    scope: 'read',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: batchGetBody,
      example: { ids: ['checkout', 'checkout:notes'] },
    },
    answers: { 200: { description: 'One item an id.', schema: () => z.strictObject({ items: z.array(item()) }) } },
    problems: [],
    async handle({ manager, request, body }) {
      const { value, seq } = await manager.contexts.readMany(request, body.ids);
      return { seq, body: printPlain({ items: value.map(itemMembers) }) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/batch/write',
    operationId: 'batchWrite',
    tag: 'Batches',
    summary: 'Write up to 100 contexts in one step',
    description:
      'In the order sent, so a parent may be made before its child. With `atomic` all or none: the first failing operation is the answer, with its index as `operation`.',
    scope: 'write',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: batchWriteBody,
      example: {
        atomic: true,
        operations: [
          { op: 'put', id: 'checkout', content: {} },
          { op: 'put', id: 'checkout:notes', parentId: 'checkout', content: { decided: 'idempotent retries' } },
        ],
      },
    },
    answers: {
      200: {
        description: 'One result an operation.',
        schema: () =>
          z.strictObject({
            results: z.array(
              z.strictObject({
                index: z.int(),
                status: z.int(),
                context: contextAnswer().optional(),
                problem: problemAnswer().optional(),
              }),
            ),
          }),
      },
    },
    problems: [
      'already_exists',
      'version_conflict',
      'context_not_found',
      'gone',
      'has_children',
      'parent_not_found',
      'parent_cycle',
      'context_too_large',
      'unprocessable',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, body, headers, idempotency }) {
      const { limits } = manager.settings;
      const isMinimal = /\breturn=minimal\b/i.test(headers.get('prefer') ?? '');
      const refused = new Map<number, Problem>();
      const operations: Operation[] = [];
      const places: number[] = [];
      body.operations.forEach((operation, index) => {
        try {
          operations.push(toOperation(operation, limits, `/operations/${index}`));
          places.push(index);
        } catch (error) {
          if (!(error instanceof Problem)) throw error;
          if (body.atomic) throw atOperation(error, index);
          refused.set(index, error);
        }
      });
      const { atomic } = body;
      const written = await writeMany(manager.contexts, request, operations, { atomic, idempotency });
      const results = new Map<number, (typeof written.results)[number]>(refused);
      for (const [at, result] of written.results.entries()) results.set(places[at] ?? at, result);

      let contentBytes = 0;
      const shown = body.operations.map((_, index) => {
        const result = results.get(index);
        if (result === undefined || result instanceof Problem) {
          const problem = result ?? new Problem('internal', 'The operation has no result.');
          return { index, status: problem.status, problem: problemBody(problem) };
        }
        const { outcome } = result;
        const { sizeBytes } = result.context;
        const isFitting = contentBytes + sizeBytes <= limits.inlineBytes;
        if (isFitting) contentBytes += sizeBytes;
        const context = isFitting ? result.context : { ...result.context, content: undefined };
        const unchanged = outcome === 'unchanged' ? { unchanged: true } : {};
        const status = outcome === 'created' ? 201 : 200;
        return { index, status, context: { ...contextMembers(context, !isMinimal), ...unchanged } };
      });
      const { seq } = written;
      return { seq, body: printPlain({ results: shown }) };
    },
  }),
];

type Sent = z.output<ReturnType<typeof batchWriteBody>>['operations'][number];

function toOperation(sent: Sent, limits: Settings['limits'], path: string): Operation {
  if (sent.op === 'delete') return sent;
  const { ifVersion } = sent;
  return { ...toPut(sent.id, sent, limits, path), ...(ifVersion === undefined ? {} : { ifVersion }) };
}
