import { join } from 'node:path';
import { readIfThere } from './replace-file.ts';
import type { Environment } from './runtime.ts';

/** Which server the hooks of this user's agents tell of their sessions. */
export interface Connection {
  readonly url: string;
  readonly token: string;
  /** The configurations that were written for it; when none is left, it goes too. */
  readonly users: readonly string[];
}

/** @throws Error where there is no home. */
export function connectionPath({ stateFolder }: Environment): string {
  if (stateFolder === undefined) throw new Error('HOME is not set, so there is no place for the connection.');
  return join(stateFolder, 'connection');
}

/** One line each: the address, the token, and the users; `sh` reads the first two. */
export const printConnection = ({ url, token, users }: Connection) => `${[url, token, ...users].join('\n')}\n`;

export async function readConnection(environment: Environment): Promise<Connection | undefined> {
  if (environment.stateFolder === undefined) return undefined;
  const text = (await readIfThere(connectionPath(environment)))?.toString();
  const [url, token, ...users] = text?.split('\n').filter((line) => line !== '') ?? [];
  return url === undefined || token === undefined ? undefined : { url, token, users };
}
