import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import type { ContextHead } from '../contexts/context.ts';
import { contextMembers } from './context-json.ts';
import { type Route, route } from './route.ts';
import { idParams, treeAnswer } from './schemas.ts';

const nodesMax = 1000;

export const treeRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/contexts/{id}/tree',
    operationId: 'readTree',
    tag: 'Trees',
    summary: 'Read the tree below a context',
    description: `The context with its live descendants nested as \`children\`, without contents; at most ${nodesMax} of them, nearest first, with \`truncated\` where there are more.`,
    scope: 'read',
    params: idParams,
    query: () =>
      z.strictObject({
        depth: z
          .string()
          .regex(/^\d{1,2}$/, 'is 0 to 32')
          .transform(Number)
          .pipe(z.int().min(0).max(32))
          .default(32)
          .meta({ description: 'How many levels below the context, 0–32.' }),
      }),
    answers: { 200: { description: 'The tree.', schema: treeAnswer } },
    problems: ['context_not_found', 'gone'],
    async handle({ manager, request, params, query }) {
      const bounds = { levels: query.depth, nodesMax };
      const { value, seq } = await manager.contexts.readTree(request, params.id, bounds);
      const tree = nest(value.nodes);
      return { seq, body: printPlain({ ...tree, truncated: value.isTruncated }) };
    },
  }),
];

/** @param nodes breadth first, so that each parent stands before its children. */
function nest(nodes: readonly ContextHead[]): Record<string, unknown> | undefined {
  const made = new Map<string, { children: unknown[] }>();
  for (const node of nodes) {
    const member = { ...contextMembers(node, false), children: [] };
    made.get(node.parentId ?? '')?.children.push(member);
    made.set(node.id, member);
  }
  return made.get(nodes[0]?.id ?? '') as Record<string, unknown> | undefined;
}
