import type { SQSEvent } from 'aws-lambda';
import { describe, expect, test } from 'vitest';
import { takeBatch } from '../../functions/lambda/batch.ts';
import type { Order } from '../../lib/orders.ts';
import { type LogEvent, noTelemetry } from '../../lib/telemetry/telemetry.ts';

const eventOf = (...bodies: readonly unknown[]) =>
  ({
    Records: bodies.map((body, index) => ({
      messageId: `m${index}`,
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })),
  }) as SQSEvent;

const order = (space: string, task = 'index') => ({ space, slot: `${space}@1`, task });

async function take(event: SQSEvent, carryOut: (order: Order, budgetMs: number) => Promise<void>, leftMs = 60_000) {
  const logged: LogEvent[] = [];
  const telemetry = { ...noTelemetry, log: (one: LogEvent) => void logged.push(one) };
  const { batchItemFailures } = await takeBatch(event, { telemetry, carryOut, leftMs: () => leftMs });
  return { failed: batchItemFailures.map(({ itemIdentifier }) => itemIdentifier), logged };
}

describe('a batch of orders', () => {
  test('equal orders are carried out once', async () => {
    const done: string[] = [];
    const { failed } = await take(eventOf(order('a'), order('b'), order('a')), async ({ space }) => {
      done.push(space);
    });
    expect({ done, failed }).toEqual({ done: ['a', 'b'], failed: [] });
  });

  test('those that fail are told by themselves, with all messages that ordered the same', async () => {
    const { failed, logged } = await take(eventOf(order('a'), order('b'), order('a')), async ({ space }) => {
      if (space === 'a') throw new Error('no');
    });
    expect(failed).toEqual(['m0', 'm2']);
    expect(logged).toMatchObject([{ event: 'order.failed', facts: { space: 'a', task: 'index', messages: 2 } }]);
  });

  test.each([
    ['no JSON', 'nonsense'],
    ['no order', { hello: 'world' }],
    ['a task nobody knows', order('a', 'drop')],
    ['a slot of another space', { space: 'a', slot: 'b@1', task: 'index' }],
    ['more than an order has', { ...order('a'), also: 'this' }],
    ['a run of no peer', order('a', 'run')],
  ])('%s fails at once, and its content is not logged', async (_name, body) => {
    const { failed, logged } = await take(eventOf(body, order('good')), async () => {});
    expect(failed).toEqual(['m0']);
    expect(logged).toEqual([{ level: 'error', event: 'order.unreadable', facts: { messageId: 'm0' } }]);
  });

  test('the time that is left is shared, and what there is none for comes again', async () => {
    const budgets: number[] = [];
    const carryOut = async (_order: Order, budgetMs: number) => void budgets.push(budgetMs);
    await take(eventOf(order('a'), order('b')), carryOut, 65_000);
    expect(budgets).toEqual([30_000, 60_000]);
    expect((await take(eventOf(order('a')), carryOut, 4000)).failed).toEqual(['m0']);
  });
});
