import type { SQSHandler } from 'aws-lambda';
import type { LoadedPart } from '../../lib/unified-context-manager.ts';
import { takeBatch } from './batch.ts';
import { start } from './start.ts';
import { carryOut } from './work.ts';

/** @param parts what the orders of the queue are about: the function begins with it. */
export async function takeOrders(parts: readonly LoadedPart[]): Promise<SQSHandler> {
  const { manager, queue, telemetry } = await start();
  await manager.load(['database', ...parts]);
  return async (event, context) => {
    const answer = await takeBatch(event, {
      telemetry,
      carryOut: (order, budgetMs) => carryOut({ manager, orders: queue }, order, budgetMs),
      leftMs: () => context.getRemainingTimeInMillis(),
    });
    await queue.settled();
    return answer;
  };
}
