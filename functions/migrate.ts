import { migrate } from '../lib/postgres/migrate.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { migrationsFolder, readEnvironment } from './runtime.ts';

try {
  const { databaseUrl, neonEndpoint } = readEnvironment();
  if (databaseUrl === undefined)
    throw new Error('Set DATABASE_URL; the embedded database migrates itself at its start.');
  const database = createNeonDatabase({ url: databaseUrl, endpoint: neonEndpoint });
  const applied = await migrate(database, migrationsFolder);
  console.log(applied.length === 0 ? 'The schema is up to date.' : applied.map((name) => `applied ${name}`).join('\n'));
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
