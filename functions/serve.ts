import { publishAddress } from './address.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { listen } from './listening.ts';
import { openRuntime, readEnvironment } from './runtime.ts';
import { runSchedules } from './schedules.ts';

// Signals that come within so long are one.
const passedOnMs = 1000;

try {
  const environment = readEnvironment();
  const telemetry = createConsoleTelemetry();
  const isTerminal = process.stderr.isTTY;
  const progress = (what: string) => console.error(isTerminal ? `\u001b[2m… ${what}\u001b[0m` : `… ${what}`);
  const runtime = await openRuntime(environment, { telemetry, progress });
  const stopSchedules = runSchedules(runtime.manager, telemetry);
  const listening = await listen(runtime, { ...environment, telemetry }).catch((error) => {
    throw new Error(`Lamina cannot listen on ${environment.host}:${environment.port}: ${error.message}`);
  });
  const { origin } = listening;
  const withdraw = await publishAddress(environment, origin);
  console.log(`
  Lamina        ${origin}
  console       ${origin}/#token=${runtime.ownerToken}
  API           ${origin}/docs
  MCP           ${origin}/mcp
  token         ${runtime.ownerToken}
  data          ${runtime.engine}
`);
  console.log(`lamina listening on ${origin}`);

  let stoppingSinceMs: number | undefined;
  const stop = async () => {
    if (stoppingSinceMs !== undefined) {
      // Who asks twice does not want to wait; but npm passes on what its whole group has heard already.
      if (performance.now() - stoppingSinceMs > passedOnMs) process.exit(1);
      return;
    }
    stoppingSinceMs = performance.now();
    const schedules = stopSchedules();
    await listening.close();
    await schedules;
    await withdraw();
    await runtime.close();
    process.exit(0);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
