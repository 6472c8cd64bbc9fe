import type { Handler } from 'aws-lambda';
import { readTask } from './messages.ts';
import { start } from './start.ts';

const { manager, queue } = await start();
await manager.load(['database']);

/** Runs a task of the schedule in all spaces. */
export const handler: Handler<unknown, void> = async (event) => {
  const { task, budgetMs } = readTask(event);
  await manager[task]({ budgetMs });
  await queue.settled();
};
