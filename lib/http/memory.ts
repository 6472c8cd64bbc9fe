import { printGraphFile } from '../memory/file.ts';
import { type Route, route } from './route.ts';

export const memoryRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/memory/graph',
    operationId: 'readGraph',
    tag: 'Memory',
    summary: 'The knowledge graph as a file',
    description:
      'What the memory tools of `/mcp` remember, in the format of the reference memory server: a line of JSON for each entity, then for each relation, in order of creation.',
    scope: 'read',
    answers: { 200: { description: 'Lines of JSON.', contentType: 'application/x-ndjson' } },
    problems: [],
    async handle({ manager, request }) {
      return { contentType: 'application/x-ndjson', body: printGraphFile(manager.memory.listNodes(request)) };
    },
  }),
];
