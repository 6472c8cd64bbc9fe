import { schemaChecksum } from '../lib/postgres/migrate.ts';
import { createFunction, type Made } from './functions.ts';
import type { SecretEnvironment } from './secrets.ts';
import type { Stage } from './stage.ts';

/**
 * Migrates while a stage is deployed. Whatever is given the schema it answers with is deployed after it, and not at all where
 * it fails.
 */
export async function runMigration(
  stage: Stage,
  secrets: SecretEnvironment,
): Promise<{ made: Made; schema: $util.Output<string> }> {
  const made = createFunction(stage, 'Migrate', {
    entry: 'migrate',
    description: 'Brings the schema up to date, once a deployment',
    memory: '1024 MB',
    seconds: 900,
    secrets,
    files: { migrations: 'migrations' },
  });
  // A schema that has changed, or another database, is migrated again.
  const database = $util.output(secrets.properties['DATABASE_URL'] ?? '').apply((url) => new URL(url).host);
  const migration = new aws.lambda.Invocation('Migration', {
    functionName: made.fn.name,
    input: '{}',
    triggers: { schema: await schemaChecksum('migrations'), database },
  });
  return { made, schema: migration.result.apply((answer) => (JSON.parse(answer) as { schema: string }).schema) };
}
