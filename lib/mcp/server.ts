import { ProtocolError, ProtocolErrorCode, Server } from '@modelcontextprotocol/server';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { Backend } from './backend.ts';
import { getPrompt, prompts } from './prompts.ts';
import { resourceTemplates } from './resources.ts';
import { listedTools } from './tools.ts';

const instructions = `Lamina keeps what agents know, with every version. Use context_get, context_put and context_list for documents with an id (notes, instructions, session summaries); use the memory tools (create_entities, search_nodes …) for facts about people, projects and things. What you store is there for every agent and session of this space.`;

/**
 * A server for one request or one connection. It is cheap: all that can be made once is.
 *
 * @param deps.backend asked for when a call needs it: `initialize` and the lists of tools and prompts do without, and so
 *   without any I/O.
 * @param deps.isSubscribable whether whoever serves it tells of changed resources.
 */
export function createMcpServer(deps: {
  backend: () => MaybePromise<Backend>;
  isSubscribable: boolean;
  version: string;
}): Server {
  const { backend, isSubscribable, version } = deps;
  const capabilities = { tools: {}, prompts: {}, resources: isSubscribable ? { subscribe: true } : {} };
  const server = new Server({ name: 'lamina', title: 'Lamina', version }, { capabilities, instructions });

  server.setRequestHandler('tools/list', () => ({ tools: listedTools as never }));
  server.setRequestHandler('tools/call', async ({ params }, { mcpReq }) =>
    (await backend()).callTool(params.name, params.arguments, mcpReq.signal),
  );
  server.setRequestHandler('resources/list', async ({ params }, { mcpReq }) =>
    (await backend()).listResources(params?.cursor, mcpReq.signal),
  );
  server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates }));
  server.setRequestHandler('resources/read', async ({ params }, { mcpReq }) =>
    (await backend()).readResource(params.uri, mcpReq.signal),
  );
  server.setRequestHandler('prompts/list', () => ({ prompts }));
  server.setRequestHandler('prompts/get', ({ params }) => {
    const prompt = getPrompt(params.name, params.arguments);
    if (prompt === undefined) {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Prompt ${params.name} not found`);
    }
    return prompt;
  });
  return server;
}
