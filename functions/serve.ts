import { createServer, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { createApp } from '../lib/http/app.ts';
import { documentRoutes } from '../lib/http/documents.ts';
import { refusal } from '../lib/http/refusal.ts';
import { routes } from '../lib/http/routes.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { mcpMounts } from './mcp-mounts.ts';
import { isLoopback, openRuntime, readEnvironment } from './runtime.ts';
import { runSchedules } from './schedules.ts';

// Above what the door itself allows, so that it can answer; beyond this Node answers 431.
const headerBytesMax = 32_768;

try {
  const environment = readEnvironment();
  const telemetry = createConsoleTelemetry();
  const isTerminal = process.stderr.isTTY;
  const progress = (what: string) => console.error(isTerminal ? `\u001b[2m… ${what}\u001b[0m` : `… ${what}`);
  const runtime = await openRuntime(environment, { telemetry, progress });
  const isLocal = isLoopback(environment.host);
  const app = createApp({
    manager: runtime.manager,
    routes: [...routes, ...documentRoutes(runtime.settings)],
    telemetry,
    mounts: mcpMounts({ manager: runtime.manager, telemetry, publicUrl: environment.publicUrl, isLocal }),
  });
  const stopSchedules = runSchedules(runtime.manager, telemetry);
  const { ids } = runtime.manager;
  const errorHandler = () => refusal(ids.sortable());
  const server = createServer({ maxHeaderSize: headerBytesMax }, getRequestListener(app.fetch, { errorHandler }));
  server.on('clientError', async (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable) return void socket.destroy();
    const answer = await refusal(
      ids.sortable(),
      error.code === 'HPE_HEADER_OVERFLOW' ? 'The headers are too large.' : undefined,
    );
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const body = await answer.text();
    const length = `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n`;
    socket.end(`HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}\r\n${headers}${length}\r\n${body}`);
  });
  server.listen(environment.port, environment.host, () => {
    const { port } = server.address() as AddressInfo;
    const origin = `http://${environment.host.includes(':') ? `[${environment.host}]` : environment.host}:${port}`;
    console.log(`
  Lamina        ${origin}
  console       ${origin}/#token=${runtime.ownerToken}
  API           ${origin}/docs
  MCP           ${origin}/mcp
  token         ${runtime.ownerToken}
  data          ${runtime.engine}
`);
    console.log(`lamina listening on ${origin}`);
  });
  server.on('error', (error) => {
    console.error(`Lamina cannot listen on ${environment.host}:${environment.port}: ${error.message}`);
    process.exit(1);
  });

  let isStopping = false;
  const stop = async () => {
    if (isStopping) return;
    isStopping = true;
    const schedules = stopSchedules();
    server.close();
    server.closeIdleConnections();
    // What is being answered is answered; who keeps a connection open longer than this is cut off.
    setTimeout(() => server.closeAllConnections(), 5000).unref();
    await new Promise((resolve) => server.once('close', resolve));
    await schedules;
    await runtime.close();
    process.exit(0);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
