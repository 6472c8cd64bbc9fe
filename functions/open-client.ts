import { createApp } from '../lib/http/app.ts';
import { routes } from '../lib/http/routes.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { type Client, createClient } from './client.ts';
import { connectionTo, toServerUrl } from './connection.ts';
import { reachStore } from './reach.ts';
import type { Environment } from './runtime.ts';

// How long an answer may take; a merge of two long texts takes the longest.
const patienceMs = 30_000;

/**
 * The HTTP interface of the store of the environment, whichever process has it; see {@link reachStore}.
 *
 * @param deps.patienceMs how long an answer of another process may take.
 */
export async function openClient(
  environment: Environment,
  deps: { telemetry: Telemetry; patienceMs?: number },
): Promise<{ client: Client; close(): Promise<void> }> {
  const { telemetry } = deps;
  const reached = await reachStore(await withToken(environment), { telemetry, isHost: false });
  if (reached.runtime === undefined) {
    const { url, token } = reached;
    const reach = (request: Request) =>
      fetch(request, {
        redirect: 'error',
        signal: AbortSignal.timeout(deps.patienceMs ?? patienceMs),
      }).catch((error: Error) => {
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
  if (environment.serverUrl === undefined) return environment;
  const serverUrl = toServerUrl(environment.serverUrl);
  const ownerToken = environment.ownerToken ?? (await connectionTo(environment, serverUrl))?.token;
  return { ...environment, serverUrl, ownerToken };
}
