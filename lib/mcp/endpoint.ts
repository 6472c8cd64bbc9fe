import {
  createMcpHandler,
  hostHeaderValidationResponse,
  localhostAllowedHostnames,
  type McpHttpHandler,
  type McpServer,
  originValidationResponse,
} from '@modelcontextprotocol/server';
import { LRUCache } from 'lru-cache';
import type { Principal } from '../access/credentials.ts';
import { scopes } from '../access/scopes.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { invalid, Problem } from '../base/problem.ts';
import { decodeUtf8, readBody } from '../http/body.ts';
import { readBearer } from '../http/mount.ts';
import { createTiming, problemAnswer, toProblem, toResponse } from '../http/respond.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { createLocalBackend } from './backend.ts';
import { readMessage } from './message.ts';
import { createMcpServer } from './server.ts';
import { toSession } from './session.ts';
import { type Bus, createBus } from './subscriptions.ts';
import type { Session } from './tool.ts';

export const mcpPath = '/mcp';
/** Where RFC 9728 has the metadata of the resource `/mcp`. */
export const metadataPath = `/.well-known/oauth-protected-resource${mcpPath}`;

// Spaces whose handlers are kept; a handler holds nothing between requests but open subscriptions.
const spacesMax = 1000;
// What a subscription leaves of the time of its process, for its end to be sent.
const endingMs = 5000;

/** MCP over Streamable HTTP, stateless: the 2026-07-28 revision and those of 2025, one server a request. */
export interface McpEndpoint {
  /** @param leftMs how long the process may still work on it: a subscription is ended before. Absent where it may for ever. */
  fetch(request: Request, leftMs?: number): Promise<Response>;
  /** The metadata of RFC 9728: https://www.rfc-editor.org/rfc/rfc9728 */
  metadata(request: Request): Promise<Response>;
}

/**
 * @param deps.authenticate whose token it is; the store's own credentials unless a test has none.
 * @param deps.publicUrl where clients reach the server; absent where it serves whoever reaches it under any name.
 * @param deps.isLocal whether it serves this machine alone, so that a page in its browser must not reach it under a name
 *   of its own (DNS rebinding).
 */
export function createMcpEndpoint(deps: {
  manager: UnifiedContextManager;
  telemetry: Telemetry;
  authenticate?: (token: string | undefined) => MaybePromise<Principal>;
  publicUrl: string | undefined;
  isLocal: boolean;
  /** The address it listens on, which is a name of its own. */
  host?: string | undefined;
  version: string;
  /** What serves a request instead of the product, for a test of all that lies around it. */
  createServer?: () => McpServer;
}): McpEndpoint {
  const { manager, telemetry, publicUrl, isLocal, host, version, authenticate = admit, createServer } = deps;
  const handlers = new LRUCache<string, { readonly handler: McpHttpHandler; readonly bus: Bus }>({ max: spacesMax });
  const ownUrls = [...(publicUrl === undefined ? [] : [publicUrl]), ...(host === undefined ? [] : [toUrl(host)])];
  const ownHosts = [...localhostAllowedHostnames(), ...ownUrls.map((url) => new URL(url).hostname)];

  function admit(token: string | undefined) {
    if (token === undefined) throw new Problem('unauthenticated', 'Send the token as Authorization: Bearer <token>.');
    return manager.access.credentials.authenticate(token, { isConfirming: false });
  }

  function servingOf(session: Session) {
    const { slot } = session.request;
    const known = handlers.get(slot);
    if (known !== undefined) return known;
    const { keyId: _keyId, unconfirmed: _unconfirmed, ...request } = session.request;
    const bus = createBus({ manager, request });
    const serving = { handler: createHandler(bus), bus };
    handlers.set(slot, serving);
    return serving;
  }

  function createHandler(bus: Bus): McpHttpHandler {
    return createMcpHandler(
      ({ era, authInfo }) =>
        createServer?.() ??
        createMcpServer({
          backend: () => createLocalBackend(authInfo?.extra?.['session'] as Session, telemetry),
          isSubscribable: era === 'modern',
          version,
        }),
      { bus, onerror: (error) => telemetry.log({ level: 'warn', event: 'mcp.refused', error }) },
    );
  }

  const originOf = (request: Request) => publicUrl ?? new URL(request.url).origin;
  const hostOf = (request: Request) => new URL(request.url).hostname;

  /** The message as it was sent, whatever the SDK would make of it. */
  async function readJson(request: Request): Promise<unknown> {
    const text = decodeUtf8(await readBody(request, manager.settings.limits.toolRequestBytes));
    try {
      return readMessage(text);
    } catch {
      throw invalid('', 'the body is no JSON');
    }
  }

  /** Refuses what a web page may have sent under a name it has given to this machine, or from a foreign origin. */
  function refuseForeign(request: Request): Response | undefined {
    const isAnyHost = publicUrl === undefined && !isLocal;
    return (
      (isAnyHost ? undefined : hostHeaderValidationResponse(request, ownHosts)) ??
      originValidationResponse(request, isAnyHost ? [...ownHosts, hostOf(request)] : ownHosts)
    );
  }

  async function answerProblem(request: Request, error: unknown): Promise<Response> {
    const problem = toProblem(error);
    const requestId = manager.ids.sortable();
    if (problem.status >= 500) telemetry.log({ level: 'error', event: 'mcp.failed', facts: { requestId }, error });
    const answer = problemAnswer(problem, requestId);
    const challenge = `Bearer resource_metadata="${originOf(request)}${metadataPath}"`;
    const headers = problem.code === 'unauthenticated' ? { 'www-authenticate': challenge } : {};
    const about = { requestId, timing: createTiming(), acceptEncoding: null };
    return toResponse({ ...answer, headers: { ...answer.headers, ...headers } }, about);
  }

  return {
    async fetch(request, leftMs) {
      const refused = refuseForeign(request);
      if (refused !== undefined) return refused;
      try {
        const token = readBearer(request.headers);
        const principal = await authenticate(token);
        const session = toSession(manager, principal);
        const authInfo = { token: '', clientId: principal.id, scopes: [...principal.scopes], extra: { session } };
        const parsedBody = request.method === 'POST' ? await readJson(request) : undefined;
        const { handler, bus } = servingOf(session);
        if (Object(parsedBody).method !== 'subscriptions/listen') {
          return await handler.fetch(request, { authInfo, parsedBody });
        }
        await bus.look();
        const admit = () => authenticate(token);
        if (leftMs === undefined) return guard(await handler.fetch(request, { authInfo, parsedBody }), admit);
        // A handler of its own can be closed: its subscriber is told that it has ended, and may listen again.
        const own = createHandler(bus);
        const listening = await own.fetch(request, { authInfo, parsedBody });
        const timer = setTimeout(() => void own.close(), leftMs - endingMs);
        return guard(listening, admit, () => clearTimeout(timer));
      } catch (error) {
        return answerProblem(request, error);
      }
    },

    async metadata(request) {
      const document = {
        resource: `${originOf(request)}${mcpPath}`,
        resource_name: 'Lamina',
        bearer_methods_supported: ['header'],
        scopes_supported: scopes,
      };
      const headers = { 'access-control-allow-origin': '*', 'cache-control': 'public, max-age=300' };
      return Response.json(document, { headers });
    },
  };
}

const toUrl = (host: string) => `http://${host.includes(':') ? `[${host}]` : host}`;

/** A stream whose every piece is let through by `admit`, and which ends with the first that is not; `onEnd` hears of any end. */
function guard(response: Response, admit: () => Promise<unknown> | unknown, onEnd = () => {}): Response {
  const gate = new TransformStream<Uint8Array, Uint8Array>({
    async transform(piece, controller) {
      try {
        await admit();
        controller.enqueue(piece);
      } catch {
        controller.terminate();
        onEnd();
      }
    },
    flush: onEnd,
    cancel: onEnd,
  });
  if (response.body === null) onEnd();
  return new Response(response.body?.pipeThrough(gate) ?? null, response);
}
