import type { Handler } from 'aws-lambda';
import * as z from 'zod/mini';
import { start } from './start.ts';

const eventSchema = z.strictObject({
  task: z.enum(['warm', 'cleanup', 'reconcile', 'index', 'synchronise', 'work']),
  budgetMs: z.int().check(z.minimum(1)),
});

const { manager, queue } = await start();

/** Runs a task of the schedule in all spaces. */
export const handler: Handler<unknown, void> = async (event) => {
  const { task, budgetMs } = eventSchema.parse(event);
  await manager[task]({ budgetMs });
  await queue.settled();
};
