import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { home } from '../../functions/runtime.ts';
import type { TestStore } from './client.ts';

const info = { name: 'lamina-test', version: '1.0.0' };

/** What the SDK's clients need to talk to a store in this process. */
export function carrierOf(store: TestStore, token = store.token, host?: { readonly leftMs: number }) {
  return {
    url: new URL('http://lamina.test/mcp'),
    requestInit: { headers: token === '' ? {} : { authorization: `Bearer ${token}` } },
    fetch: async (input: string | URL | Request, init?: RequestInit) => store.fetch(new Request(input, init), host),
  };
}

/** A client of the SDK's first line, which speaks the revisions of 2025. */
export async function connectLegacy(store: TestStore, token?: string): Promise<Client> {
  const { url, ...carrier } = carrierOf(store, token);
  const client = new Client(info);
  await client.connect(new StreamableHTTPClientTransport(url, carrier) as never);
  return client;
}

/** The released reference memory server, in a process of its own on a file of its own. */
export async function connectReference(file: string): Promise<Client> {
  const script = join(home, 'node_modules', '@modelcontextprotocol', 'server-memory', 'dist', 'index.js');
  const client = new Client(info);
  const env = { ...(process.env as Record<string, string>), MEMORY_FILE_PATH: file };
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [script], env, stderr: 'ignore' }));
  return client;
}

/** A client of `npm run mcp`, in a process of its own. */
export async function connectStdio(variables: Record<string, string>): Promise<{ client: Client; pid: number }> {
  const client = new Client(info);
  const env = { ...(process.env as Record<string, string>), ...variables };
  const args = ['functions/launch.js', 'functions/mcp.ts'];
  const transport = new StdioClientTransport({ command: process.execPath, args, env, cwd: home, stderr: 'ignore' });
  await client.connect(transport);
  return { client, pid: transport.pid as number };
}

/** Calls a tool; a refusal is an answer. */
export async function callTool(client: Client, name: string, args?: unknown): Promise<CallToolResult> {
  const call = { name, ...(args === undefined ? {} : { arguments: args as Record<string, unknown> }) };
  return (await client.callTool(call)) as CallToolResult;
}
