import { createServer, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { RegExpRouter } from 'hono/router/reg-exp-router';
import { createApp } from '../lib/http/app.ts';
import { refusal } from '../lib/http/refusal.ts';
import { routesOf } from '../lib/http/routes.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { proofMount } from './address.ts';
import { mcpMounts } from './mcp-mounts.ts';
import { isLoopback, type Runtime } from './runtime.ts';

/** A server that answers over HTTP. */
export interface Listening {
  readonly origin: string;
  /** What is being answered is answered; who keeps a connection open longer than five seconds is cut off. */
  close(): Promise<void>;
}

// Above what the door itself allows, so that it can answer; beyond this Node answers 431.
const headerBytesMax = 32_768;
const closingMs = 5000;

/**
 * Serves a store over HTTP, MCP included.
 *
 * @param of.port 0 takes one that is free.
 * @throws Error of Node where it cannot listen there.
 */
export async function listen(
  { manager, settings }: Runtime,
  of: { host: string; port: number; publicUrl?: string | undefined; telemetry: Telemetry },
): Promise<Listening> {
  const { host, port, publicUrl, telemetry } = of;
  const app = createApp({
    // Looks a path up in one step, and takes milliseconds to begin with. It has no routes with a parameter beside a word.
    toRouter: () => new RegExpRouter(),
    manager,
    routes: routesOf(settings),
    telemetry,
    mounts: [...mcpMounts({ manager, telemetry, publicUrl, isLocal: isLoopback(host), host }), proofMount],
  });
  const errorHandler = () => refusal(manager.ids.sortable());
  const server = createServer({ maxHeaderSize: headerBytesMax }, getRequestListener(app.fetch, { errorHandler }));
  server.on('clientError', async (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable) return void socket.destroy();
    const isOverflow = error.code === 'HPE_HEADER_OVERFLOW';
    const answer = await refusal(manager.ids.sortable(), isOverflow ? 'The headers are too large.' : undefined);
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const body = await answer.text();
    const length = `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n`;
    socket.end(`HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}\r\n${headers}${length}\r\n${body}`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve());
  });
  const { port: taken } = server.address() as AddressInfo;
  return {
    origin: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`,
    async close() {
      const closed = new Promise((resolve) => server.once('close', resolve));
      server.close();
      server.closeIdleConnections();
      setTimeout(() => server.closeAllConnections(), closingMs).unref();
      await closed;
    },
  };
}
