import type { Handler } from 'aws-lambda';
import { schemaChecksum } from '../../lib/postgres/migrate.ts';
import { migrationsFolder, openRuntime, readEnvironment } from '../runtime.ts';
import { createLambdaTelemetry, requireSecrets } from './start.ts';

// A migration may build an index.
const databaseMs = 600_000;

/** Brings the schema up to this release; a deployment calls it before anything else of it runs. */
export const handler: Handler<unknown, { schema: string }> = async () => {
  const environment = readEnvironment();
  requireSecrets(environment);
  const runtime = await openRuntime(environment, { telemetry: createLambdaTelemetry(), databaseMs });
  await runtime.close();
  return { schema: await schemaChecksum(migrationsFolder) };
};
