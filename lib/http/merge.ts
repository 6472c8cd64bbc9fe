import * as z from 'zod';
import { reaches } from '../access/scopes.ts';
import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { contextTooLarge } from '../contexts/outcomes.ts';
import { printConflicts } from '../merge/conflict.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import type { MergeSource } from '../versions/revisions.ts';
import { contentUrl, contextMembers } from './context-json.ts';
import { toContent } from './put.ts';
import { type Call, type Route, route } from './route.ts';
import { conflict, contextAnswer, mergeBody } from './schemas.ts';

type Source = z.output<ReturnType<typeof mergeBody>>['sources'][number];

export const mergeRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/merge',
    operationId: 'mergeContexts',
    tag: 'Merge',
    summary: 'Merge contexts or contents',
    description:
      '`latest` takes the source updated last; `union` everything any has; `intersection` what all agree on; `three-way` joins two changes of one base, with `prefer` for what collides. With a `target` (scope `write`) the result is written.',
    scope: 'read',
    body: {
      kind: 'json',
      types: [jsonType],
      schema: mergeBody,
      example: {
        strategy: 'three-way',
        base: { content: { retries: 3, owner: 'ann' } },
        sources: [{ content: { retries: 5, owner: 'ann' } }, { content: { retries: 3, owner: 'ben' } }],
      },
    },
    answers: {
      200: {
        description: 'The merged content.',
        schema: () =>
          z.strictObject({
            content: z.json(),
            contentUrl: z
              .string()
              .optional()
              .meta({ description: 'Where the content is, when it is too large for this answer.' }),
            contentType: z.string(),
            strategy: z.string(),
            conflicts: z.array(conflict()),
            written: contextAnswer().optional(),
          }),
        example: { content: { retries: 5, owner: 'ben' }, contentType: jsonType, strategy: 'three-way', conflicts: [] },
      },
    },
    problems: [
      'merge_conflict',
      'context_not_found',
      'version_not_found',
      'gone',
      'version_conflict',
      'context_too_large',
      'unprocessable',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, principal, body, idempotency }) {
      if (body.target !== undefined && !reaches(principal.scopes, 'write')) {
        throw new Problem('forbidden', 'Writing the result needs the scope write.', { needed: 'write' });
      }
      const plan = {
        strategy: body.strategy,
        prefer: body.prefer,
        target: body.target,
        sources: body.sources.map((source, index) => toSource(manager, source, `/sources/${index}`)),
        base: body.base && toSource(manager, body.base, '/base'),
      };
      const key = body.target === undefined ? undefined : idempotency;
      const { merged, written, seq } = await manager.revisions.merge(request, plan, key);
      const report = written?.extra as { conflicts?: unknown } | undefined;
      const made = merged?.document ?? { bytes: written?.context.content, contentType: written?.context.contentType };
      const text = Buffer.from(made.bytes ?? []).toString();
      const isText = isTextType(made.contentType ?? jsonType);
      const { inlineBytes } = manager.settings.limits;
      const isLarge = text.length > inlineBytes;
      if (isLarge && written === null) throw contextTooLarge(text.length, inlineBytes);
      return {
        seq,
        body: printPlain({
          content: isLarge ? null : isText ? text : { jsonText: text },
          ...(isLarge && written ? { contentUrl: contentUrl(written.context) } : {}),
          contentType: made.contentType,
          strategy: body.strategy,
          conflicts: merged ? printConflicts(merged.conflicts) : (report?.conflicts ?? []),
          ...(written ? { written: { ...contextMembers(written.context, false), ...unchanged(written.outcome) } } : {}),
        }),
      };
    },
  }),
];

const unchanged = (outcome: string) => (outcome === 'unchanged' ? { unchanged: true } : {});

function toSource(manager: Call<unknown, unknown, unknown>['manager'], source: Source, path: string): MergeSource {
  if ('id' in source) return source;
  return toContent(source.content, source.contentType ?? jsonType, manager.settings.limits, `${path}/content`);
}
