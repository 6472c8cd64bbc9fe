import { createApp } from '../lib/http/app.ts';
import { routes } from '../lib/http/routes.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { type Client, createClient } from './client.ts';
import { readConnection } from './connection.ts';
import { reachStore } from './reach.ts';
import type { Environment } from './runtime.ts';

/** The HTTP interface of the store of the environment, whichever process has it; see {@link reachStore}. */
export async function openClient(
  environment: Environment,
  { telemetry }: { telemetry: Telemetry },
): Promise<{ client: Client; close(): Promise<void> }> {
  const reached = await reachStore(await withToken(environment), { telemetry, isHost: false });
  if (reached.runtime === undefined) {
    const { url, token } = reached;
    const reach = (request: Request) =>
      fetch(request).catch((error: Error) => {
        throw new Error(
          `${url} cannot be reached: ${error.cause instanceof Error ? error.cause.message : error.message}`,
        );
      });
    return { client: createClient({ url, token, fetch: reach }), close: reached.close };
  }
  const { manager, ownerToken } = reached.runtime;
  const app = createApp({ manager, routes, telemetry });
  const call = async (request: Request) => app.fetch(request);
  return {
    client: createClient({ url: 'http://lamina.invalid', token: ownerToken, fetch: call }),
    close: reached.close,
  };
}

/** A server that agents were connected to has its token there. */
async function withToken(environment: Environment): Promise<Environment> {
  const { serverUrl, ownerToken } = environment;
  if (serverUrl === undefined || ownerToken !== undefined) return environment;
  const connection = await readConnection(environment);
  const isSame = connection?.url === serverUrl.replace(/\/+$/, '');
  return isSame ? { ...environment, ownerToken: connection.token } : environment;
}
