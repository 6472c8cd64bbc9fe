import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import pg from 'pg';
import { migrationsFolder } from '../functions/runtime.ts';
import { settingsSchema } from '../lib/config/settings.ts';
import { type RequestContext, slotOf, systemRequest } from '../lib/contexts/request.ts';
import type { Database } from '../lib/postgres/database.ts';
import { migrate } from '../lib/postgres/migrate.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { createUnifiedContextManager, type UnifiedContextManager } from '../lib/unified-context-manager.ts';
import { findPostgres, startPostgres } from '../test/servers/postgres.ts';

/** A real PostgreSQL of the benchmark's own. */
export interface RealServer {
  /** A store in a database of its own, spoken to as in production: Neon's driver over HTTP. */
  open(name: string, options?: { retained?: number }): Promise<RealStore>;
  /** A new database with nothing in it but the schema, and how to speak to it. */
  place(name: string): Promise<{ readonly url: string; readonly endpoint: string; readonly timeoutMs: number }>;
  /** Runs SQL in a database as the superuser. */
  lay(name: string, text: string): Promise<void>;
  stop(): Promise<void>;
}

export interface RealStore {
  readonly manager: UnifiedContextManager;
  readonly database: Database;
  /** Requests in each of the spaces there are, by their names. */
  requests(): Promise<ReadonlyMap<string, RequestContext>>;
  /** Runs SQL as the superuser, past every policy: for laying out data, and for nothing that is measured. */
  lay(text: string): Promise<void>;
}

export async function startServer(): Promise<RealServer> {
  const programs = await findPostgres();
  if (programs === undefined) throw new Error('This benchmark needs PostgreSQL (Debian: apt-get install postgresql).');
  const server = await startPostgres(programs);
  const thread = new Worker(new URL('./endpoint.ts', import.meta.url));
  const [endpoint] = (await once(thread, 'message')) as [string];
  const sql = async (database: string, text: string) => {
    const client = new pg.Client({ connectionString: server.url(database) });
    await client.connect();
    await client.query(text).finally(() => client.end());
  };
  async function place(name: string) {
    await sql('postgres', `create database ${name}`);
    const address = { url: server.url(name), endpoint, timeoutMs: 60_000 };
    await migrate(createNeonDatabase(address), migrationsFolder);
    return address;
  }
  return {
    place,
    lay: sql,
    async open(name, { retained = 1_000_000 } = {}) {
      const database = createNeonDatabase(await place(name));
      const settings = settingsSchema.parse({ versions: { retained } });
      const manager = await createUnifiedContextManager({ database, settings });
      const requests = async () => {
        const spaces = await manager.access.listSpaces({ limit: 100 });
        return new Map(
          spaces.map(({ id, createdMs }) => [id, systemRequest({ space: id, slot: slotOf(id, createdMs) }, 'bench')]),
        );
      };
      return { manager, database, requests, lay: (text) => sql(name, text) };
    },
    async stop() {
      await thread.terminate();
      await server.stop();
    },
  };
}
