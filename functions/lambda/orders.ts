import type { SQSHandler } from 'aws-lambda';
import { takeBatch } from './batch.ts';
import { start } from './start.ts';
import { carryOut } from './work.ts';

const { manager, queue, telemetry } = await start();

/** Takes orders from a queue: what is to be indexed from the one, what peers and hook events need from the other. */
export const handler: SQSHandler = async (event, context) => {
  const answer = await takeBatch(event, {
    telemetry,
    carryOut: (order, budgetMs) => carryOut({ manager, orders: queue }, order, budgetMs),
    leftMs: () => context.getRemainingTimeInMillis(),
  });
  await queue.settled();
  return answer;
};
