import { type CallToolResult, ProtocolError, ProtocolErrorCode, Server } from '@modelcontextprotocol/server';
import { reaches } from '../access/scopes.ts';
import { Problem } from '../base/problem.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { contextTools } from './context-tools.ts';
import { memoryTools } from './memory-tools.ts';
import { getPrompt, prompts } from './prompts.ts';
import { listResources, readResource, resourceTemplates } from './resources.ts';
import { type Session, type Tool, toToolError } from './tool.ts';

const tools: readonly Tool[] = [...contextTools, ...memoryTools];
const byName = new Map(tools.map((one) => [one.name, one]));
// Made once: listing does no work and no I/O.
const listedTools = { tools: tools.map(({ listed }) => listed) };

const instructions = `Lamina keeps what agents know, with every version. Use context_get, context_put and context_list for documents with an id (notes, instructions, session summaries); use the memory tools (create_entities, search_nodes …) for facts about people, projects and things. What you store is there for every agent and session of this space.`;

/**
 * A server for one request or one connection. It is cheap: all that can be made once is.
 *
 * @param deps.open the session, opened when the first call needs it: `initialize` and the lists of tools and prompts do
 *   without.
 * @param deps.isSubscribable whether whoever serves it tells of changed resources.
 */
export function createMcpServer(deps: {
  open: () => Promise<Session> | Session;
  isSubscribable: boolean;
  telemetry: Telemetry;
  version: string;
}): Server {
  const { open, isSubscribable, telemetry, version } = deps;
  const capabilities = { tools: {}, prompts: {}, resources: isSubscribable ? { subscribe: true } : {} };
  const server = new Server({ name: 'lamina', title: 'Lamina', version }, { capabilities, instructions });

  /** The session of one call: who called off waits for nothing more. */
  async function sessionOf(signal: AbortSignal): Promise<Session> {
    const session = await open();
    return { ...session, request: { ...session.request, signal } };
  }

  async function call(name: string, args: unknown, signal: AbortSignal): Promise<CallToolResult> {
    const tool = byName.get(name);
    if (tool === undefined) return failed(`MCP error -32602: Tool ${name} not found`);
    try {
      const session = await sessionOf(signal);
      if (!reaches(session.scopes, tool.scope)) {
        throw new Problem('forbidden', `${name} needs the scope ${tool.scope}.`, { needed: tool.scope });
      }
      // Who has called off a write must not make it unknown whether it happened.
      const whole =
        tool.scope === 'read' ? session : { ...session, request: { ...session.request, signal: undefined } };
      const { text, structured, links = [] } = await tool.call(whole, args);
      const linked = links.map((link) => ({ type: 'resource_link' as const, ...link }));
      return { content: [{ type: 'text', text }, ...linked], structuredContent: { ...structured } };
    } catch (error) {
      const problem = toProblem(error);
      if (problem.status >= 500) telemetry.log({ level: 'error', event: 'mcp.failed', facts: { tool: name }, error });
      return failed(tool.isMemory ? problem.message : toToolError(problem));
    }
  }

  server.setRequestHandler('tools/list', () => listedTools as never);
  server.setRequestHandler('tools/call', async ({ params }, { mcpReq }) =>
    server.projectCallToolResult(
      await call(params.name, params.arguments, mcpReq.signal),
      byName.get(params.name)?.listed.outputSchema as never,
    ),
  );
  server.setRequestHandler('resources/list', async ({ params }, { mcpReq }) =>
    listResources(await sessionOf(mcpReq.signal), params?.cursor),
  );
  server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates }));
  server.setRequestHandler('resources/read', async ({ params }, { mcpReq }) =>
    readResource(await sessionOf(mcpReq.signal), params.uri),
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

const failed = (text: string): CallToolResult => ({ content: [{ type: 'text', text }], isError: true });

function toProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem('internal', 'Something went wrong here.', {}, error);
}
