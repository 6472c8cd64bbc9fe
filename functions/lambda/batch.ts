import type { SQSBatchResponse, SQSEvent } from 'aws-lambda';
import type { Order } from '../../lib/orders.ts';
import type { Telemetry } from '../../lib/telemetry/telemetry.ts';
import { readOrder } from './messages.ts';

/** What is left for the answer, and for a step that was begun before the budget was over. */
export const answerMs = 5000;

/**
 * Carries out the orders of a batch one after another, equal ones once, and tells SQS of those messages alone that failed: they
 * come again, and in the end lie in the dead-letter queue. One that is no order fails at once.
 *
 * @param deps.carryOut no new step of it begins after the budget.
 * @param deps.leftMs how long the function may still run.
 * @throws Error for an event that no queue sends.
 */
export async function takeBatch(
  { Records: records }: SQSEvent,
  deps: {
    telemetry: Telemetry;
    carryOut: (order: Order, budgetMs: number) => Promise<void>;
    leftMs: () => number;
  },
): Promise<SQSBatchResponse> {
  const { telemetry, carryOut, leftMs } = deps;
  if (!Array.isArray(records)) throw new Error('The event is no batch of a queue.');
  const failed: string[] = [];
  const messages = new Map<string, { readonly order: Order; readonly ids: string[] }>();
  for (const { messageId, body } of records) {
    const order = readOrder(body);
    if (order === undefined) {
      failed.push(messageId);
      telemetry.log({ level: 'error', event: 'order.unreadable', facts: { messageId } });
      continue;
    }
    const name = JSON.stringify(order);
    const known = messages.get(name) ?? { order, ids: [] };
    known.ids.push(messageId);
    messages.set(name, known);
  }
  let rest = messages.size;
  for (const { order, ids } of messages.values()) {
    const budgetMs = (leftMs() - answerMs) / rest--;
    const { space, task } = order;
    try {
      if (budgetMs <= 0) throw new Error('There is no time left for it.');
      await carryOut(order, budgetMs);
    } catch (error) {
      failed.push(...ids);
      telemetry.log({ level: 'warn', event: 'order.failed', facts: { space, task, messages: ids.length }, error });
    }
  }
  return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
}
