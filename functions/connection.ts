import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere } from './replace-file.ts';
import type { Environment } from './runtime.ts';

/** Which server the hooks of one configuration tell of its sessions. */
export interface Connection {
  readonly url: string;
  readonly token: string;
  /** The file whose hooks name it; without that file nobody does. */
  readonly hooks: string;
  /** The files that were made for it, and go with it where nothing else was put in. */
  readonly made: readonly string[];
}

/** @throws Error where there is no home. */
export function connectionsFolder({ stateFolder }: Environment): string {
  if (stateFolder === undefined) throw new Error('HOME is not set, so there is no place for the connection.');
  return join(stateFolder, 'connections');
}

/** One line each: the address, the token, the file of the hooks, and those that were made; `sh` reads the first two. */
export const printConnection = ({ url, token, hooks, made }: Connection) =>
  `${[url, token, hooks, ...made].join('\n')}\n`;

async function readConnection(path: string): Promise<Connection | undefined> {
  const text = (await readIfThere(path))?.toString();
  const [url, token, hooks, ...made] = text?.split('\n').filter((line) => line !== '') ?? [];
  return url === undefined || token === undefined || hooks === undefined ? undefined : { url, token, hooks, made };
}

/** All connections of this user, by the paths of their files. */
export async function readConnections(environment: Environment): Promise<Map<string, Connection>> {
  const found = new Map<string, Connection>();
  if (environment.stateFolder === undefined) return found;
  const folder = connectionsFolder(environment);
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((one) => !one.endsWith('.part')).sort()) {
    const connection = await readConnection(join(folder, name));
    if (connection !== undefined) found.set(join(folder, name), connection);
  }
  return found;
}

/** One of this user's connections to a server. */
export async function connectionTo(environment: Environment, url: string): Promise<Connection | undefined> {
  return [...(await readConnections(environment)).values()].find((one) => one.url === url);
}

/** The address of a server as connections have it. @throws Error in a sentence where it is none. */
export function toServerUrl(given: string): string {
  const parsed = URL.canParse(given) ? new URL(given) : undefined;
  const isServer = parsed !== undefined && /^https?:$/.test(parsed.protocol);
  if (!isServer || parsed.username + parsed.password + parsed.search + parsed.hash !== '') {
    throw new Error(`${given} is no address of a server, such as http://127.0.0.1:8787.`);
  }
  return parsed.href.replace(/\/+$/, '').replace(/\/mcp$/, '');
}
