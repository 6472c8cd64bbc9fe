import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { createMcpServer } from '../lib/mcp/server.ts';
import { createLineTransport } from '../lib/mcp/stdio.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { release } from './mcp-mounts.ts';
import { readEnvironment } from './runtime.ts';
import { keepTools } from './tools.ts';

// MCP over standard input and output. Standard output is the wire: whatever is told to people goes to standard error.
try {
  const environment = readEnvironment();
  const telemetry = createConsoleTelemetry();
  const store = keepTools(environment, { telemetry, version: release });
  const transport = createLineTransport(process.stdin, process.stdout);
  const serve = () => createMcpServer({ backend: () => store.backend, isSubscribable: false, version: release });
  serveStdio(serve, { transport, onerror: (error) => telemetry.log({ level: 'warn', event: 'mcp.stdio', error }) });

  let isStopping = false;
  const stop = async () => {
    if (isStopping) return;
    isStopping = true;
    await store.close();
    process.exit(0);
  };
  void transport.finished.then(stop);
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
