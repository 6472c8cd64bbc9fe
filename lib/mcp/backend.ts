import {
  type CallToolResult,
  type ListResourcesResult,
  ProtocolError,
  type ReadResourceResult,
} from '@modelcontextprotocol/server';
import { reaches } from '../access/scopes.ts';
import { Problem } from '../base/problem.ts';
import { cutText } from '../base/text.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { listResources, readResource } from './resources.ts';
import { requireFitting, type Session } from './tool.ts';
import { toToolError } from './tool-error.ts';
import { findTool } from './tools.ts';

/** What stands behind a server: a store in this process, or one elsewhere. */
export interface Backend {
  /** A refusal is an answer, with `isError`. */
  callTool(name: string, args: unknown, signal: AbortSignal): Promise<CallToolResult>;
  listResources(cursor: string | undefined, signal: AbortSignal): Promise<ListResourcesResult>;
  readResource(uri: string, signal: AbortSignal): Promise<ReadResourceResult>;
}

/** The store of a session, in this process. */
export function createLocalBackend(session: Session, telemetry: Telemetry): Backend {
  /** Whoever calls off a read waits for nothing more. */
  const until = (signal: AbortSignal): Session => ({
    ...session,
    request: { ...session.request, signal: () => signal },
  });

  return {
    async callTool(name, args, signal) {
      const tool = findTool(name);
      if (tool === undefined) return failed(`MCP error -32602: Tool ${name} not found`);
      try {
        if (!reaches(session.scopes, tool.scope)) {
          throw new Problem('forbidden', `${name} needs the scope ${tool.scope}.`, { needed: tool.scope });
        }
        // A write goes on when its caller is gone: nobody could tell any more whether it happened.
        const isRead = tool.listed.annotations['readOnlyHint'] === true;
        const { text, structured, links = [], narrower = '' } = await tool.call(isRead ? until(signal) : session, args);
        const linked = links.map((link) => ({ type: 'resource_link' as const, ...link }));
        const result: CallToolResult = {
          content: [{ type: 'text', text }, ...linked],
          structuredContent: { ...structured },
        };
        requireFitting(session, result, narrower);
        return result;
      } catch (error) {
        const problem = error instanceof Problem ? error : new Problem('internal', 'Something went wrong here.');
        if (problem.status >= 500) telemetry.log({ level: 'error', event: 'mcp.failed', facts: { tool: name }, error });
        return failed(tool.isMemory ? problem.message : toToolError(problem));
      }
    },
    listResources: (cursor, signal) => listResources(until(signal), cursor),
    readResource: (uri, signal) => readResource(until(signal), uri),
  };
}

/** An error that is an answer. */
export const isProtocolError = (error: unknown) => error instanceof ProtocolError;

/** A call that could not be made, in a model's words; what the protocol has its own answer for goes on. */
export function refuseCall(error: unknown): CallToolResult {
  if (isProtocolError(error)) throw error;
  return failed(`unavailable: ${error instanceof Error ? error.message : 'The store cannot be reached.'}`);
}

// An error may quote what was sent.
const errorCharactersMax = 262_144;

function failed(text: string): CallToolResult {
  const told = text.length > errorCharactersMax ? `${cutText(text, errorCharactersMax)}…` : text;
  return { content: [{ type: 'text', text: told }], isError: true };
}
