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
 * Brings the schema up to date: the numbered files once each, in order; the files of `functions/` whenever they have
 * changed. Each file is one transaction. Two deployers at once are safe: the second waits for the first and finds its
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
  const done: string[] = [];
  for (const migration of migrations) {
    const checksum = applied.get(migration.name);
    if (checksum === migration.checksum) continue;
    if (checksum !== undefined && !isRepeatable(migration.name)) {
      throw new Error(`migrations/${migration.name} was changed after it was applied; write a new one instead.`);
    }
    if (await apply(database, migration, checksum)) done.push(migration.name);
  }
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

async function apply(database: Database, migration: Migration, before: string | undefined): Promise<boolean> {
  // The record goes first: of two deployers one waits here for the other, and then breaks on it before doing anything.
  const record: Statement =
    before === undefined
      ? { text: 'insert into migration (name, checksum) values ($1, $2)', params: [migration.name, migration.checksum] }
      : {
          text: 'update migration set checksum = $2, applied_at = clock_timestamp() where name = $1',
          params: [migration.name, migration.checksum],
        };
  try {
    await database.owner.run([record, ...migration.statements.map((text) => ({ text, params: [] }))]);
    return true;
  } catch (error) {
    const after = (await readApplied(database)).get(migration.name);
    if (after === migration.checksum) return false;
    throw error;
  }
}

// `if not exists` still collides when two sessions create the same table at once.
function ignoreRace(error: unknown): void {
  if (isDatabaseError(error) && ['23505', '42P07'].includes(error.sqlState)) return;
  throw error;
}
