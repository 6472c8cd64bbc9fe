import { printGraphFile } from '../memory/file.ts';
import { type Route, route } from './route.ts';

async function* continued(
  first: IteratorResult<Uint8Array>,
  rest: AsyncIterator<Uint8Array>,
): AsyncIterable<Uint8Array> {
  for (let piece = first; !piece.done; piece = await rest.next()) yield piece.value;
}

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
      const pieces = printGraphFile(manager.memory.listNodes(request))[Symbol.asyncIterator]();
      // Whatever refuses the request does so before the answer begins.
      const first = await pieces.next();
      return { contentType: 'application/x-ndjson', body: continued(first, pieces) };
    },
  }),
];
