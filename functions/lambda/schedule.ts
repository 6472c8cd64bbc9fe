import type { Handler } from 'aws-lambda';
import { answerMs } from './batch.ts';
import { readTask } from './messages.ts';
import { start } from './start.ts';

const { manager, queue } = await start();
await manager.load(['database']);

/** Runs a task of the schedule in all spaces. */
export const handler: Handler<unknown, void> = async (event, context) => {
  const { task, budgetMs } = readTask(event);
  await manager[task]({ budgetMs, limitMs: context.getRemainingTimeInMillis() - answerMs });
  await queue.settled();
};
