import { randomUUID } from 'node:crypto';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { printPlain } from '../base/json.ts';
import type { Backend } from './backend.ts';

/** The store that a server elsewhere has in front of it. */
export interface RemoteBackend extends Backend {
  close(): Promise<void>;
}

// Longer than anything a server does for one call; whoever asked may call off before.
const callMs = 120_000;

/**
 * Speaks MCP to a Lamina server.
 *
 * @param deps.url its origin; the endpoint is `/mcp` below it.
 * @throws Error of the SDK where it cannot be reached, or does not take the token.
 */
export async function connectRemote(deps: { url: string; token: string; version: string }): Promise<RemoteBackend> {
  const { url, token, version } = deps;
  const client = new Client({ name: 'lamina-bridge', version });
  const requestInit = { headers: { authorization: `Bearer ${token}` } };
  // The SDK would print contents anew; it prints a mark, and the arguments come in its place as they are.
  const printed = new Map<string, string>();
  const send = (to: string | URL, init: RequestInit = {}) => {
    const { body } = init;
    if (typeof body !== 'string') return fetch(to, init);
    return fetch(to, { ...init, body: body.replace(markForm, (mark) => printed.get(mark) ?? mark) });
  };
  await client
    .connect(new StreamableHTTPClientTransport(new URL('/mcp', url), { requestInit, fetch: send }))
    .catch((error) => {
      if (error.status !== 401) throw error;
      throw new Error(`${url} does not take this token: it runs with another LAMINA_TOKEN.`, { cause: error });
    });
  const until = (signal: AbortSignal) => ({ signal, timeout: callMs });
  return {
    async callTool(name, args = {}, signal) {
      const id = randomUUID();
      printed.set(`"${id}"`, printArguments(args));
      const sent = { toJSON: () => id };
      return client
        .request({ method: 'tools/call', params: { name, arguments: sent as never } }, until(signal))
        .finally(() => printed.delete(`"${id}"`));
    },
    listResources: (cursor, signal) => client.request({ method: 'resources/list', params: { cursor } }, until(signal)),
    readResource: (uri, signal) => client.request({ method: 'resources/read', params: { uri } }, until(signal)),
    close: () => client.close(),
  };
}

const markForm = /"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"/g;

/** @throws SyntaxError where they would be anything but one JSON value. */
function printArguments(args: unknown): string {
  const text = printPlain(args);
  JSON.parse(text);
  return text;
}
