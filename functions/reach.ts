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
      if (url !== undefined) return { url, token: await ownerTokenOf(environment), close: async () => {} };
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
  if (!isHost) return { runtime, close: () => runtime.close() };
  const stopSchedules = runSchedules(runtime.manager, telemetry);
  const isEmbedded = environment.databaseUrl === undefined && environment.dataFolder !== undefined;
  const listening = isEmbedded ? await listen(runtime, { host: '127.0.0.1', port: 0, telemetry }) : undefined;
  const withdraw = listening && (await publishAddress(environment, listening.origin));
  return {
    runtime,
    async close() {
      await withdraw?.();
      await listening?.close();
      await stopSchedules();
      await runtime.close();
    },
  };
}
