import { createFunction, type Made } from './functions.ts';
import type { SecretEnvironment } from './secrets.ts';
import type { Stage } from './stage.ts';

/**
 * Migrates while a stage is deployed. What is given something of its answer is deployed after it, and not at all where it fails.
 *
 * @returns the slot of the default space, which no function has to ask for at its start then.
 */
export function runMigration(
  stage: Stage,
  secrets: SecretEnvironment,
): { made: Made; defaultSlot: $util.Output<string> } {
  const made = createFunction(stage, 'Migrate', {
    entry: 'migrate',
    description: 'Brings the schema up to date, once a deployment',
    memory: '1024 MB',
    seconds: 900,
    secrets,
  });
  const migration = new aws.lambda.Invocation('Migration', {
    functionName: made.fn.name,
    input: '{}',
    // Whatever a deployment finds: a database may have been changed, restored or emptied at the same address.
    triggers: { deployedAt: new Date().toISOString() },
  });
  const defaultSlot = migration.result.apply((answer) => (JSON.parse(answer) as { defaultSlot: string }).defaultSlot);
  return { made, defaultSlot };
}
