import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { publishAddress, readAddress } from './address.ts';
import { FolderHeld } from './folder-lock.ts';
import { listen } from './listening.ts';
import { type Environment, openRuntime, ownerTokenOf, type Runtime } from './runtime.ts';
import { runSchedules } from './schedules.ts';

/** A store that is open: in this process, or in another that answers over HTTP. */
export type Reached = { close(): Promise<void> } & (
  | { readonly runtime: Runtime }
  | { readonly runtime?: undefined; readonly url: string; readonly token: string }
);

// How long a process that is just opening the folder is waited for until it can be reached.
const reachableMs = 15_000;
const lookAgainMs = 50;

/**
 * Reaches the store of the environment: the server of `LAMINA_URL`; PostgreSQL by its URL; or the embedded store, which
 * one process alone can open, and so through that process where there is one.
 *
 * @param deps.isHost whether to let other processes of this machine in, and run the schedules, where this one opens the
 *   embedded store.
 * @throws Error in a sentence or two where there is no way to it.
 */
export async function reachStore(
  environment: Environment,
  deps: { telemetry: Telemetry; isHost: boolean },
): Promise<Reached> {
  const { serverUrl, ownerToken } = environment;
  if (serverUrl !== undefined) {
    if (ownerToken === undefined) throw new Error('LAMINA_URL needs LAMINA_TOKEN, a token of that server.');
    return { url: serverUrl, token: ownerToken, close: async () => {} };
  }
  const deadline = performance.now() + reachableMs;
  for (;;) {
    try {
      return await openOwn(environment, deps);
    } catch (error) {
      if (!(error instanceof FolderHeld)) throw error;
      const url = await readAddress(environment, error.pid);
      if (url !== undefined) return { url, token: await tokenOf(environment, error.pid), close: async () => {} };
      if (performance.now() > deadline) throw error;
      await sleep(lookAgainMs);
    }
  }
}

async function openOwn(
  environment: Environment,
  { telemetry, isHost }: { telemetry: Telemetry; isHost: boolean },
): Promise<Reached> {
  const runtime = await openRuntime(environment, { telemetry });
  const steps: (() => Promise<unknown>)[] = [() => runtime.close()];
  const close = async () => {
    for (const step of steps.splice(0).reverse()) await step();
  };
  if (!isHost) return { runtime, close };
  try {
    steps.push(runSchedules(runtime.manager, telemetry));
    if (environment.databaseUrl === undefined && environment.dataFolder !== undefined) {
      const listening = await listen(runtime, { host: '127.0.0.1', port: 0, telemetry });
      steps.push(listening.close);
      steps.push(await publishAddress(environment, listening.origin));
    }
    return { runtime, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The token of the process that holds the folder; none is made here, since that one would not know it. */
async function tokenOf(environment: Environment, pid: number): Promise<string> {
  const { ownerToken, dataFolder = '' } = environment;
  if (ownerToken === undefined && !existsSync(join(dataFolder, 'token'))) {
    throw new Error(
      `Process ${pid}, which has ${dataFolder} open, runs with a LAMINA_TOKEN of its own: set it here, too.`,
    );
  }
  return ownerTokenOf(environment);
}
