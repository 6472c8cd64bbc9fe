import type { Handler } from 'aws-lambda';
import { openRuntime, readEnvironment } from '../runtime.ts';
import { createLambdaTelemetry, requireSecrets } from './start.ts';

// A migration may build an index.
const databaseMs = 600_000;

/** Brings the schema up to this release; a deployment calls it before anything else of it is there, and tells the rest. */
export const handler: Handler<unknown, { defaultSlot: string }> = async () => {
  const environment = readEnvironment();
  requireSecrets(environment);
  const runtime = await openRuntime(environment, { telemetry: createLambdaTelemetry(), databaseMs });
  const defaultSlot = await runtime.manager.access.prepare();
  await runtime.close();
  return { defaultSlot };
};
