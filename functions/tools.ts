import { type Backend, createLocalBackend, isProtocolError, refuseCall } from '../lib/mcp/backend.ts';
import { connectRemote } from '../lib/mcp/remote.ts';
import { toSession } from '../lib/mcp/session.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { reachStore } from './reach.ts';
import type { Environment } from './runtime.ts';

/** A store as the tools of MCP reach it. */
export interface ToolStore {
  readonly backend: Backend;
  /** Whether another process has the store open, which may end. */
  readonly isElsewhere: boolean;
  close(): Promise<void>;
}

/** Opens the tools of the store of the environment, whichever process has it; see {@link reachStore}. */
export async function openTools(
  environment: Environment,
  deps: { telemetry: Telemetry; isHost: boolean; version: string },
): Promise<ToolStore> {
  const { telemetry, version } = deps;
  const reached = await reachStore(environment, deps);
  if (reached.runtime === undefined) {
    const remote = await connectRemote({ url: reached.url, token: reached.token, version });
    return { backend: remote, isElsewhere: true, close: () => remote.close() };
  }
  const { manager, ownerToken } = reached.runtime;
  const session = toSession(manager, await manager.access.credentials.authenticate(ownerToken));
  return { backend: createLocalBackend(session, telemetry), isElsewhere: false, close: reached.close };
}

/**
 * The tools of a store for one MCP client, for as long as it stays. Of several such processes on one embedded store the
 * first opens it and lets the others in; when it ends, the next takes its place, and a call that found nobody goes there.
 */
export function keepTools(
  environment: Environment,
  deps: { telemetry: Telemetry; version: string },
): Omit<ToolStore, 'isElsewhere'> {
  const { telemetry } = deps;
  let opening: Promise<ToolStore> | undefined;
  const running = new Set<Promise<unknown>>();

  function opened(): Promise<ToolStore> {
    opening ??= openTools(environment, { ...deps, isHost: true }).catch((error) => {
      // The next call tries anew.
      opening = undefined;
      throw error;
    });
    return opening;
  }

  async function callOn<Value>(own: Promise<ToolStore>, call: (backend: Backend) => Promise<Value>): Promise<Value> {
    const { backend, isElsewhere } = await own;
    return call(backend).catch((error) => {
      // Unless that was an answer, another may have the store, or the address, by now.
      if (isElsewhere && !isProtocolError(error) && opening === own) opening = undefined;
      throw error;
    });
  }

  async function through<Value>(call: (backend: Backend) => Promise<Value>): Promise<Value> {
    for (let tries = 0; ; tries++) {
      try {
        return await callOn(opened(), call);
      } catch (error) {
        // Whatever else went wrong, the call may have been carried out.
        if (tries === 2 || !isUnreachable(error)) throw error;
      }
    }
  }

  function counted<Value>(run: Promise<Value>): Promise<Value> {
    const settled = run.finally(() => running.delete(settled));
    running.add(settled);
    return settled;
  }

  // After what the client has sent already, and before its first call.
  setImmediate(() => opened().catch((error) => telemetry.log({ level: 'error', event: 'mcp.store', error })));

  return {
    backend: {
      callTool: (name, args, signal) => counted(through((to) => to.callTool(name, args, signal)).catch(refuseCall)),
      listResources: (cursor, signal) => counted(through((to) => to.listResources(cursor, signal))),
      readResource: (uri, signal) => counted(through((to) => to.readResource(uri, signal))),
    },
    async close() {
      await Promise.allSettled(running);
      await opening?.then((store) => store.close()).catch(() => {});
    },
  };
}

/** Whether a request has reached nobody. */
function isUnreachable(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ECONNREFUSED') return true;
  }
  return false;
}
