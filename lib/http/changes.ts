import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { toHash, toTime } from './context-json.ts';
import { type Route, route } from './route.ts';
import { changeAnswer } from './schemas.ts';

export const changeRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/changes',
    operationId: 'readChanges',
    tag: 'Feed',
    summary: 'Follow the changes',
    description:
      'Every committed change of a context once, in order. Begin without `since`, go on with `nextCursor`; `latest` is now. `waitSeconds` holds the answer until there is something to tell.',
    scope: 'read',
    query: () =>
      z.strictObject({
        since: z
          .union([
            z.literal('latest'),
            z
              .string()
              .regex(/^\d{1,15}$/, 'is a cursor or latest')
              .transform(Number),
          ])
          .default(0),
        limit: z
          .string()
          .regex(/^\d{1,4}$/, 'is 1 to 200')
          .transform(Number)
          .pipe(z.int().min(1).max(200))
          .default(50),
        waitSeconds: z
          .string()
          .regex(/^\d{1,2}$/, 'is 0 to 20')
          .transform(Number)
          .pipe(z.int().min(0).max(20))
          .default(0),
      }),
    answers: {
      200: {
        description: 'Changes after the cursor, oldest first.',
        schema: () => z.strictObject({ changes: z.array(changeAnswer()), nextCursor: z.string() }),
        example: {
          changes: [
            {
              cursor: '42',
              id: 'checkout:notes',
              version: 7,
              operation: 'put',
              hash: `sha256:${'0'.repeat(64)}`,
              actor: { kind: 'api', id: 'key_5c1a90b2d3e4' },
              at: '2026-01-31T12:00:00.000Z',
            },
          ],
          nextCursor: '42',
        },
      },
    },
    problems: ['cursor_expired'],
    async handle({ manager, request, query }) {
      const waitMs = Math.min(query.waitSeconds, manager.settings.limits.waitSeconds) * 1000;
      const { changes, next, seq } = await manager.feed.read(request, {
        since: query.since,
        limit: query.limit,
        waitMs,
      });
      const shown = changes.map((change) => ({
        cursor: String(change.tick),
        id: change.id,
        version: change.version,
        operation: change.operation,
        hash: toHash(change.hash),
        actor: change.actor,
        at: toTime(change.atMs),
      }));
      return { seq, body: printPlain({ changes: shown, nextCursor: String(next) }) };
    },
  }),
];
