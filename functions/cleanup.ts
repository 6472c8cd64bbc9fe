import { createConsoleTelemetry } from './console-telemetry.ts';
import { openRuntime, readEnvironment } from './runtime.ts';

try {
  const runtime = await openRuntime(readEnvironment(), { telemetry: createConsoleTelemetry() });
  const reports = await runtime.manager.cleanup({ budgetMs: 300_000 });
  console.table(reports);
  await runtime.close();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
