import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import type { Row, Statement } from '../lib/postgres/database.ts';
import { migrate, schemaChecksum } from '../lib/postgres/migrate.ts';
import { createPgliteDatabase, type PgliteSession } from '../lib/postgres/pglite.ts';
import { createPgliteSession } from '../lib/postgres/pglite-session.ts';

/** What the thread is begun with. */
export interface Opening {
  readonly folder: string | undefined;
  readonly migrations: string;
  readonly snapshots: string;
}

/** What the thread is asked: to carry out a transaction, or to close. */
export type Asked = { readonly id: number; readonly statements: readonly Statement[] } | 'close';

/** What the thread tells. */
export type Told =
  | { readonly progress: string }
  /** It is open, or cannot be. */
  | { readonly opened: Failure | null }
  | { readonly id: number; readonly answers: Row[][] }
  | { readonly id: number; readonly failure: Failure };

/** What is worth telling of an error in another thread. */
export interface Failure {
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: string | undefined;
  readonly detail: string | undefined;
  readonly constraint: string | undefined;
}

const tell = (told: Told) => parentPort?.postMessage(told);

try {
  const session = await open(workerData as Opening);
  parentPort?.on('message', (asked: Asked) => (asked === 'close' ? close(session) : answer(session, asked)));
  tell({ opened: null });
} catch (error) {
  tell({ opened: toFailure(error) });
}

async function answer(session: PgliteSession, { id, statements }: Exclude<Asked, 'close'>): Promise<void> {
  await session.run(statements).then(
    (answers) => tell({ id, answers }),
    (error) => tell({ id, failure: toFailure(error) }),
  );
}

async function close(session: PgliteSession): Promise<void> {
  await session.close();
  parentPort?.close();
}

/**
 * Opens the database in `folder`, or in memory where there is none. A new one is loaded from the snapshot of this schema
 * where `snapshots` holds one; one in memory leaves its snapshot there for the next.
 */
async function open({ folder, migrations, snapshots }: Opening): Promise<PgliteSession> {
  const snapshot = join(snapshots, `schema-${(await schemaChecksum(migrations)).slice(0, 16)}.tar.gz`);
  const isNew = folder === undefined || !existsSync(join(folder, 'PG_VERSION'));
  const isLoaded = isNew && existsSync(snapshot);
  if (folder !== undefined) await mkdir(folder, { recursive: true, mode: 0o700 });
  const progress = isNew ? (isLoaded ? 'laying out' : 'making') : 'opening';
  tell({ progress: `${progress} the database${progress === 'making' ? ' (first start only)' : ''}` });
  const pglite = await PGlite.create({
    ...(folder === undefined ? {} : { dataDir: folder }),
    ...(isLoaded ? { loadDataDir: new Blob([await readFile(snapshot)]) } : {}),
    extensions: { vector },
  });
  // A file grows by copies of itself: with its last byte written first, a log of 16 MB grows once instead of thirty times.
  await pglite.exec('set wal_init_zero = off');
  const session = createPgliteSession(pglite);
  tell({ progress: 'checking the schema' });
  await migrate(createPgliteDatabase({ session }), migrations);
  if (folder === undefined && !isLoaded) await saveSnapshot(pglite, snapshots, snapshot);
  return session;
}

async function saveSnapshot(pglite: PGlite, folder: string, path: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const dump = await pglite.dumpDataDir('gzip');
  const partial = `${path}.${process.pid}`;
  await writeFile(partial, Buffer.from(await dump.arrayBuffer()));
  await rename(partial, path);
}

function toFailure(error: unknown): Failure {
  const { message = String(error), stack, code, sqlState, detail, constraint } = Object(error);
  return { message, stack, code: code ?? sqlState, detail, constraint };
}
