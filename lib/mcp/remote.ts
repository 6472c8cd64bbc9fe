import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
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
  await client.connect(new StreamableHTTPClientTransport(new URL('/mcp', url), { requestInit }));
  const until = (signal: AbortSignal) => ({ signal, timeout: callMs });
  return {
    callTool: (name, args, signal) =>
      client.request(
        { method: 'tools/call', params: { name, arguments: args as Record<string, unknown> } },
        until(signal),
      ),
    listResources: (cursor, signal) => client.request({ method: 'resources/list', params: { cursor } }, until(signal)),
    readResource: (uri, signal) => client.request({ method: 'resources/read', params: { uri } }, until(signal)),
    close: () => client.close(),
  };
}
