import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../base/hash.ts';
import { type Database, isDatabaseError, runOne, type Statement } from './database.ts';

interface Migration {
  /** Path below `migrations/`, such as `0001-store.sql` or `functions/write-contexts.sql`. */
  readonly name: string;
  readonly checksum: string;
  readonly statements: readonly string[];
}

/**
 * Brings the schema up to date: the numbered files once each, in order, each in a transaction of its own; the files of
 * `functions/` whenever they have changed, together. Where a newer release has migrated, nothing is done. Two deployers at once are safe: the second waits for the first and finds its
 * work done.
 *
 * @returns the names of what was applied now.
 * @throws Error where a numbered file was changed after it was applied.
 */
export async function migrate(database: Database, folder: string): Promise<string[]> {
  const migrations = await readMigrations(folder);
  await runOne(database.owner, {
    text: 'create table if not exists migration (name text primary key, checksum text not null, applied_at timestamptz not null default clock_timestamp())',
    params: [],
  }).catch(ignoreRace);
  const applied = await readApplied(database);
  const known = new Set(migrations.map(({ name }) => name));
  // A newer release has been here: its functions are not to be put back to ours.
  if ([...applied.keys()].some((name) => !isRepeatable(name) && !known.has(name))) return [];
  const done: string[] = [];
  for (const migration of migrations.filter(({ name }) => !isRepeatable(name))) {
    const checksum = applied.get(migration.name);
    if (checksum !== undefined && checksum !== migration.checksum) {
      throw new Error(`migrations/${migration.name} was changed after it was applied; write a new one instead.`);
    }
    if (checksum === undefined && (await apply(database, [migration], applied))) done.push(migration.name);
  }
  // Functions call one another, so all that have changed come in together.
  const changed = migrations.filter(({ name, checksum }) => isRepeatable(name) && applied.get(name) !== checksum);
  if (changed.length > 0 && (await apply(database, changed, applied))) done.push(...changed.map(({ name }) => name));
  return done;
}

/** The checksum of all migrations together: names the schema a snapshot was made of. */
export async function schemaChecksum(folder: string): Promise<string> {
  const migrations = await readMigrations(folder);
  return sha256(migrations.map((migration) => `${migration.name} ${migration.checksum}`).join('\n'));
}

export async function readMigrations(folder: string): Promise<Migration[]> {
  const numbered = (await readdir(folder)).filter((name) => /^\d{4}-.*\.sql$/.test(name)).sort();
  const functions = (await readdir(join(folder, 'functions'))).sort().map((name) => `functions/${name}`);
  return Promise.all(
    [...numbered, ...functions].map(async (name) => {
      const text = await readFile(join(folder, name), 'utf8');
      return { name, checksum: sha256(text), statements: splitStatements(text) };
    }),
  );
}

/** Cuts a file at each `;` that ends a line outside `$$ … $$`, since the wire takes one statement at a time. */
export function splitStatements(text: string): string[] {
  const statements: string[] = [];
  let current = '';
  let isQuoted = false;
  for (const line of text.split('\n')) {
    current += `${line}\n`;
    if ((line.match(/\$\$/g) ?? []).length % 2 === 1) isQuoted = !isQuoted;
    if (isQuoted || !/;\s*(--.*)?$/.test(line)) continue;
    statements.push(current.trim());
    current = '';
  }
  if (current.replace(/--.*$/gm, '').trim() !== '') statements.push(current.trim());
  return statements;
}

const isRepeatable = (name: string) => name.startsWith('functions/');

async function readApplied(database: Database): Promise<Map<string, string>> {
  const rows = await runOne(database.owner, { text: 'select name, checksum from migration', params: [] });
  return new Map(rows.map((row) => [String(row['name']), String(row['checksum'])]));
}

async function apply(
  database: Database,
  migrations: readonly Migration[],
  applied: ReadonlyMap<string, string>,
): Promise<boolean> {
  // The records go first: of two deployers one waits here for the other, and then breaks on it before doing anything.
  const records = migrations.map(
    ({ name, checksum }): Statement => ({
      text: applied.has(name)
        ? 'update migration set checksum = $2, applied_at = clock_timestamp() where name = $1'
        : 'insert into migration (name, checksum) values ($1, $2)',
      params: [name, checksum],
    }),
  );
  const statements = migrations.flatMap((one) => one.statements.map((text): Statement => ({ text, params: [] })));
  try {
    await database.owner.run([...records, ...statements]);
    return true;
  } catch (error) {
    const after = await readApplied(database);
    if (migrations.every(({ name, checksum }) => after.get(name) === checksum)) return false;
    throw error;
  }
}

// `if not exists` still collides when two sessions create the same table, and the type of its rows, at once.
function ignoreRace(error: unknown): void {
  if (isDatabaseError(error) && ['23505', '42P07', '42710'].includes(error.sqlState)) return;
  throw error;
}
