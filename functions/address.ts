import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mount } from '../lib/http/mount.ts';
import { type Environment, isLoopback } from './runtime.ts';

/** Where the process that has an embedded store open can be reached. */
interface Address {
  readonly url: string;
  readonly pid: number;
  /** What the process alone knows, beside whoever reads this; it proves that it is the one that answers there. */
  readonly secret: string;
}

/** Whether a server at this address is one of this machine. */
export const isLoopbackUrl = (url: string) => isLoopback(new URL(url).hostname.replace(/^\[(.*)\]$/, '$1'));

const ownSecret = randomBytes(32).toString('hex');
const proofPath = '/.well-known/lamina';
const proofMs = 2000;

const prove = (secret: string, challenge: string) => createHmac('sha256', secret).update(challenge).digest('hex');

/** Answers a challenge with what only the process that has published its address can make of it. */
export const proofMount: Mount = {
  path: proofPath,
  fetch: ({ url }) => new Response(prove(ownSecret, new URL(url).searchParams.get('challenge') ?? '')),
};

/** Whether it is that process that listens there, and not another that has got its port since. */
async function isProven({ url, secret }: Address): Promise<boolean> {
  const challenge = randomUUID();
  try {
    const answer = await fetch(new URL(`${proofPath}?challenge=${challenge}`, url), {
      redirect: 'error',
      signal: AbortSignal.timeout(proofMs),
    });
    return (await answer.text()) === prove(secret, challenge);
  } catch {
    return false;
  }
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
  await writeFile(candidate, JSON.stringify({ url, pid: process.pid, secret: ownSecret } satisfies Address), {
    mode: 0o600,
  });
  await rename(candidate, path);
  return async () => {
    if ((await readFrom(path))?.pid === process.pid) await rm(path, { force: true });
  };
}

/** The address that this process has published; undefined where another holds the store, or nobody answers there. */
export async function readAddress(environment: Environment, pid: number): Promise<string | undefined> {
  const path = fileOf(environment);
  const address = path === undefined ? undefined : await readFrom(path);
  return address?.pid === pid && (await isProven(address)) ? address.url : undefined;
}

async function readFrom(path: string): Promise<Address | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Address;
  } catch {
    return undefined;
  }
}
