import { type Embedded, openEmbedded } from '../../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../../functions/runtime.ts';
import type { Database } from '../../lib/postgres/database.ts';
import { migrate } from '../../lib/postgres/migrate.ts';
import { createNeonDatabase } from '../../lib/postgres/neon.ts';
import { createPgliteDatabase } from '../../lib/postgres/pglite.ts';
import { noTelemetry, type Telemetry } from '../../lib/telemetry/telemetry.ts';
import { type NeonEndpoint, startNeonEndpoint } from '../servers/neon-endpoint.ts';
import { findPostgres, type PostgresServer, startPostgres } from '../servers/postgres.ts';
import { findRedis } from '../servers/redis.ts';

/** An engine the suites run on. */
export interface TestEngine {
  readonly name: string;
  /** Opens it for one suite: the one PGlite of the run, or a database of its own on the real server. */
  open(telemetry?: Telemetry): Promise<Database>;
}

let embedded: Promise<Embedded> | undefined;
let real: Promise<{ server: PostgresServer; endpoint: NeonEndpoint }> | undefined;
let databases = 0;

const programs = await findPostgres();
const isRequired = process.env['LAMINA_REQUIRE_SERVERS'] === '1';
if (programs === undefined && isRequired) throw new Error('LAMINA_REQUIRE_SERVERS=1, and there is no PostgreSQL here.');
if (programs === undefined) console.warn('No PostgreSQL found: the suites that need a real server are skipped.');

/** Where `redis-server` is; undefined where suites that need it cannot run. */
export const redisProgram = await findRedis();
if (redisProgram === undefined && isRequired)
  throw new Error('LAMINA_REQUIRE_SERVERS=1, and there is no redis-server here.');
if (redisProgram === undefined) console.warn('No redis-server found: the suites that need a real Redis are skipped.');

/** Whether suites that need a real server can run. */
export const hasPostgres = programs !== undefined;

export const pgliteEngine: TestEngine = {
  name: 'PGlite',
  async open(telemetry = noTelemetry) {
    embedded ??= openEmbedded({ migrations: migrationsFolder, snapshots: snapshotsFolder, telemetry: noTelemetry });
    const { session } = await embedded;
    // The run's one PGlite stays open for the next suite.
    return { ...createPgliteDatabase({ session, telemetry }), close: async () => {} };
  },
};

export const neonEngine: TestEngine = {
  name: "PostgreSQL through Neon's driver",
  async open(telemetry = noTelemetry) {
    const { server, endpoint } = await realPostgres();
    const name = await createDatabase();
    return createNeonDatabase({ url: server.url(name), endpoint: endpoint.url, telemetry });
  },
};

export const engines: readonly TestEngine[] = hasPostgres ? [pgliteEngine, neonEngine] : [pgliteEngine];

/** The real server of this run and the endpoint in front of it. */
export function realPostgres(): Promise<{ server: PostgresServer; endpoint: NeonEndpoint }> {
  real ??= startReal();
  return real;
}

/** A new database on the real server, migrated unless it is asked to be `empty`. */
export async function createDatabase(kind: 'migrated' | 'empty' = 'migrated'): Promise<string> {
  const { server } = await realPostgres();
  const name = `test_${++databases}`;
  const template = kind === 'migrated' ? 'lamina_template' : 'template0';
  await runOutside(server, `create database ${name} template ${template}`);
  return name;
}

async function startReal() {
  if (programs === undefined) throw new Error('There is no PostgreSQL here.');
  const server = await startPostgres(programs);
  const endpoint = await startNeonEndpoint();
  process.once('exit', () => void server.stop());
  await runOutside(server, 'create database lamina_template');
  const database = createNeonDatabase({ url: server.url('lamina_template'), endpoint: endpoint.url });
  await migrate(database, migrationsFolder);
  await runOutside(
    server,
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = $$lamina_template$$',
  );
  return { server, endpoint };
}

// `create database` refuses to run inside a transaction.
async function runOutside(server: PostgresServer, text: string): Promise<void> {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: server.url('postgres') });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
