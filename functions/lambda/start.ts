import type { UnifiedContextManager } from '../../lib/unified-context-manager.ts';
import { createConsoleTelemetry } from '../console-telemetry.ts';
import { type Environment, openRuntime, type Runtime, readEnvironment } from '../runtime.ts';
import { createOrderQueue, type OrderQueue } from './queue.ts';

/** What a function has once it has started, for all of its requests. */
export interface Started extends Runtime {
  readonly manager: UnifiedContextManager;
  readonly environment: Environment;
  readonly telemetry: ReturnType<typeof createConsoleTelemetry>;
  /** Where it asks for what goes on behind its answer. */
  readonly queue: OrderQueue;
}

/**
 * Opens the store for a function on Lambda, in its init phase: no request is sent for it.
 *
 * @throws Error that names what the environment and the secrets of the stage lack.
 */
export async function start(): Promise<Started> {
  const environment = readEnvironment();
  const { queues } = environment;
  requireSecrets(environment);
  if (queues === undefined)
    throw new Error(
      'LAMINA_INDEX_QUEUE and LAMINA_SYNC_QUEUE are not set: this function was not deployed by sst.config.ts.',
    );
  const telemetry = createLambdaTelemetry();
  const queue = createOrderQueue({ access: queues, clock: Date.now });
  const runtime = await openRuntime(environment, { telemetry, orders: queue, isDeployed: true });
  return { ...runtime, environment, telemetry, queue };
}

/** Lambda's own JSON lines take the level from the method and the event as an object. */
export const createLambdaTelemetry = () => createConsoleTelemetry((line) => console[line.level](line));

/** @throws Error that names each secret that is missing, and says how to set it. */
export function requireSecrets({ databaseUrl, redis, ownerToken }: Environment): void {
  const missing = [
    ...(databaseUrl === undefined ? ['DatabaseUrl'] : []),
    ...(redis === undefined ? ['UpstashRedisRestUrl', 'UpstashRedisRestToken'] : []),
    ...(ownerToken === undefined ? ['LaminaToken'] : []),
  ];
  if (missing.length === 0) return;
  throw new Error(
    `Secrets of this stage are missing: ${missing.join(', ')}. Set each with \`sst secret set <name> <value>\` and deploy again.`,
  );
}
