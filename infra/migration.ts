import { schemaChecksum } from '../lib/postgres/migrate.ts';
import { createFunction, type Made } from './functions.ts';
import type { SecretEnvironment } from './secrets.ts';
import type { Stage } from './stage.ts';

/**
 * Migrates while a stage is deployed. What is given something of its answer is deployed after it, and not at all where it fails.
 *
 * @returns the slot of the default space, which no function has to ask for at its start then.
 */
export async function runMigration(
  stage: Stage,
  secrets: SecretEnvironment,
): Promise<{ made: Made; defaultSlot: $util.Output<string> }> {
  const made = createFunction(stage, 'Migrate', {
    entry: 'migrate',
    description: 'Brings the schema up to date, once a deployment',
    memory: '1024 MB',
    seconds: 900,
    secrets,
  });
  // A schema that has changed, or another database, is migrated again.
  const database = $util.output(secrets.properties['DATABASE_URL'] ?? '').apply((url) => new URL(url).host);
  const migration = new aws.lambda.Invocation('Migration', {
    functionName: made.fn.name,
    input: '{}',
    triggers: { schema: await schemaChecksum('migrations'), database },
  });
  const defaultSlot = migration.result.apply((answer) => (JSON.parse(answer) as { defaultSlot: string }).defaultSlot);
  return { made, defaultSlot };
}
