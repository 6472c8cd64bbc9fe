import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import type { Database } from '../lib/postgres/database.ts';
import { migrate, schemaChecksum } from '../lib/postgres/migrate.ts';
import { createPgliteDatabase } from '../lib/postgres/pglite.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';

/** PostgreSQL in the process, its schema up to date. */
export interface Embedded {
  readonly database: Database;
  readonly pglite: PGlite;
}

/**
 * Opens the embedded database in `folder`, or in memory where there is none. A new one is loaded from the snapshot of
 * this schema where `snapshots` holds one; one in memory leaves its snapshot there for the next.
 */
export async function openEmbedded(deps: {
  folder?: string | undefined;
  migrations: string;
  snapshots: string;
  telemetry: Telemetry;
  /** Hears what is being waited for. */
  progress?: (what: string) => void;
}): Promise<Embedded> {
  const { folder, migrations, snapshots, telemetry, progress = () => {} } = deps;
  const snapshot = join(snapshots, `schema-${(await schemaChecksum(migrations)).slice(0, 16)}.tar.gz`);
  const isNew = folder === undefined || !existsSync(join(folder, 'PG_VERSION'));
  const isLoaded = isNew && existsSync(snapshot);
  if (folder !== undefined) await mkdir(folder, { recursive: true, mode: 0o700 });
  progress(
    !isNew ? 'opening the database' : isLoaded ? 'laying out the database' : 'making the database (first start only)',
  );
  const pglite = await PGlite.create({
    ...(folder === undefined ? {} : { dataDir: folder }),
    ...(isLoaded ? { loadDataDir: new Blob([await readFile(snapshot)]) } : {}),
    extensions: { vector },
  });
  // A file grows by copies of itself: with its last byte written first, a log of 16 MB grows once instead of thirty times.
  await pglite.exec('set wal_init_zero = off');
  const database = createPgliteDatabase({ pglite, telemetry });
  progress('checking the schema');
  await migrate(database, migrations);
  if (folder === undefined && !isLoaded) await saveSnapshot(pglite, snapshots, snapshot);
  return { database, pglite };
}

async function saveSnapshot(pglite: PGlite, folder: string, path: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const dump = await pglite.dumpDataDir('gzip');
  const partial = `${path}.${process.pid}`;
  await writeFile(partial, Buffer.from(await dump.arrayBuffer()));
  await rename(partial, path);
}
