import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Environment } from './runtime.ts';

/** Where the process that has an embedded store open can be reached. */
interface Address {
  readonly url: string;
  readonly pid: number;
}

const fileOf = ({ dataFolder, databaseUrl }: Environment) =>
  dataFolder === undefined || databaseUrl !== undefined ? undefined : join(dataFolder, 'address');

/**
 * Tells other processes of this user where the embedded store can be reached, since they cannot open it. The token they
 * need is in the same folder, or in their environment.
 *
 * @returns what takes the address away again.
 */
export async function publishAddress(environment: Environment, origin: string): Promise<() => Promise<void>> {
  const path = fileOf(environment);
  if (path === undefined) return async () => {};
  // Whoever listens on all addresses is reached on this one.
  const url = origin.replace(/^http:\/\/(0\.0\.0\.0|\[::\])/, 'http://127.0.0.1');
  const candidate = `${path}.${process.pid}`;
  await writeFile(candidate, JSON.stringify({ url, pid: process.pid } satisfies Address), { mode: 0o600 });
  await rename(candidate, path);
  return async () => {
    if ((await readFrom(path))?.pid === process.pid) await rm(path, { force: true });
  };
}

/** The address that this process has published; undefined where another holds the store, or nobody. */
export async function readAddress(environment: Environment, pid: number): Promise<string | undefined> {
  const path = fileOf(environment);
  const address = path === undefined ? undefined : await readFrom(path);
  return address?.pid === pid ? address.url : undefined;
}

async function readFrom(path: string): Promise<Address | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Address;
  } catch {
    return undefined;
  }
}
