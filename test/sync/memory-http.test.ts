import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Server as McpServer } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { callTool, connectLegacy } from '../support/mcp.ts';

const servers: Server[] = [];
async function listen(handler: Parameters<typeof createServer>[1]): Promise<string> {
  const server = createServer(handler);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('memory servers over Streamable HTTP', () => {
  let here: TestStore;
  let there: TestStore;
  beforeAll(async () => {
    [here, there] = [await openStore(pgliteEngine), await openStore(pgliteEngine)];
  });
  afterAll(async () => {
    await here.manager.sync.close();
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  });
  const putPeer = (name: string, url: string, headers: Record<string, string> = {}) =>
    here.send('PUT', `/v1/peers/${name}`, { body: { type: 'mcp-memory', transport: { url, headers } } });
  const sync = (name: string) => here.send('POST', `/v1/peers/${name}/sync`);

  test('a server with the same tools is a peer like the reference: here the memory of another Lamina', async () => {
    const origin = await listen(getRequestListener(there.fetch));
    const name = newId('peer');
    await putPeer(name, `${origin}/mcp`, { Authorization: `Bearer ${there.token}` });
    const [ours, theirs] = [await connectLegacy(here), await connectLegacy(there)];
    await callTool(ours, 'create_entities', { entities: [{ name: 'a', entityType: 't', observations: ['1'] }] });
    await callTool(theirs, 'create_entities', { entities: [{ name: 'b', entityType: 't', observations: ['2'] }] });
    await callTool(theirs, 'create_relations', { relations: [{ from: 'b', to: 'b', relationType: 'self' }] });
    expect((await sync(name)).json).toMatchObject({ pulled: 2, pushed: 1, skipped: 0 });
    expect((await sync(name)).json).toMatchObject({ pulled: 0, pushed: 0, merged: 0, skipped: 0 });
    const graphs = await Promise.all([ours, theirs].map((one) => callTool(one, 'read_graph', {})));
    const [left, right] = graphs.map(({ structuredContent }) => structuredContent as { entities: { name: string }[] });
    expect(left?.entities.map((one) => one.name).sort()).toEqual(right?.entities.map((one) => one.name).sort());
  });

  test('a wrong token is told as such', async () => {
    const origin = await listen(getRequestListener(there.fetch));
    const name = newId('peer');
    await putPeer(name, `${origin}/mcp`, { Authorization: 'Bearer wrong-and-secret' });
    const reply = await sync(name);
    expect([reply.status, reply.text.includes('wrong-and-secret')]).toEqual([422, false]);
  });

  test('a server whose tools have the same names and take something else is no memory server', async () => {
    const url = await serveMcp([{ name: 'read_graph', inputSchema: { type: 'object' } }]);
    const name = newId('peer');
    await putPeer(name, url);
    const reply = await sync(name);
    expect([reply.status, reply.json.detail]).toEqual([
      422,
      expect.stringContaining('no memory server of the reference'),
    ]);
  });

  test('a graph of another shape fails the run and touches nothing', async () => {
    const list = (name: string, members: string[]) => ({
      type: 'object' as const,
      properties: { [name]: { items: { properties: Object.fromEntries(members.map((one) => [one, {}])) } } },
    });
    const relation = ['from', 'to', 'relationType'];
    const tools = [
      { name: 'read_graph', inputSchema: { type: 'object' as const } },
      { name: 'create_entities', inputSchema: list('entities', ['name', 'entityType', 'observations']) },
      { name: 'create_relations', inputSchema: list('relations', relation) },
      { name: 'delete_relations', inputSchema: list('relations', relation) },
      { name: 'add_observations', inputSchema: list('observations', ['entityName', 'contents']) },
      { name: 'delete_observations', inputSchema: list('deletions', ['entityName', 'observations']) },
      { name: 'delete_entities', inputSchema: list('entityNames', []) },
    ];
    for (const told of [
      undefined,
      [],
      { entities: [] },
      { entities: [{ name: 1 }], relations: [] },
      { entities: {}, relations: [] },
    ]) {
      const url = await serveMcp(tools, () => ({ content: [], structuredContent: told as never }));
      const name = newId('peer');
      await putPeer(name, url);
      expect((await sync(name)).json.code).toBe('unprocessable');
    }
  });

  /** An MCP server of the SDK's first line with these tools, stateless. */
  function serveMcp(
    tools: readonly { name: string; inputSchema: { type: 'object' } }[],
    call: () => object = () => ({ content: [] }),
  ): Promise<string> {
    return listen(async (incoming, outgoing) => {
      const server = new McpServer({ name: 'other', version: '1' }, { capabilities: { tools: {} } });
      server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [...tools] }) as never);
      server.setRequestHandler(CallToolRequestSchema, call as never);
      const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined } as never);
      await server.connect(transport as never);
      await transport.handleRequest(incoming, outgoing);
    });
  }
});
