import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { createOrderQueue } from '../../functions/lambda/queue.ts';
import { startSqs } from '../servers/sqs.ts';

const sqs = await startSqs();
afterAll(() => sqs.stop());

const space = { space: 'team', slot: 'team@1' };
let nowMs = 0;
const open = () =>
  createOrderQueue({
    access: {
      indexUrl: sqs.urlOf('index'),
      syncUrl: sqs.urlOf('sync'),
      region: 'eu-central-1',
      accessKeyId: 'AKIAEXAMPLE',
      secretAccessKey: 'secret',
      sessionToken: 'session',
    },
    clock: () => nowMs,
  });

beforeEach(() => {
  nowMs = 1_000_000;
  sqs.fail(undefined);
  sqs.take();
});

describe('the queue of orders', () => {
  test('each task goes to its queue, signed, with its space', async () => {
    const queue = open();
    await queue.send({ ...space, task: 'index' });
    await queue.send({ ...space, task: 'work' });
    await queue.send({ ...space, task: 'synchronise' });
    expect(sqs.take()).toEqual([
      { queue: 'index', body: { ...space, task: 'index' } },
      { queue: 'sync', body: { ...space, task: 'work' } },
      { queue: 'sync', body: { ...space, task: 'synchronise' } },
    ]);
  });

  test('one message stands for the writes of a second, of a space and a task', async () => {
    const queue = open();
    for (let write = 0; write < 10; write++, nowMs += 100) await queue.send({ ...space, task: 'index' });
    expect(sqs.take()).toHaveLength(1);
    await queue.send({ ...space, task: 'index' });
    await queue.send({ space: 'other', slot: 'other@1', task: 'index' });
    expect(sqs.take()).toHaveLength(2);
  });

  test('a run that was asked for is sent whatever else was', async () => {
    const queue = open();
    const run = { ...space, task: 'run', peer: 'laptop', isForced: false } as const;
    await queue.send({ ...run, runId: 'one' });
    await queue.send({ ...run, runId: 'two' });
    expect(sqs.take()).toHaveLength(2);
  });

  test('what was refused is not taken for sent', async () => {
    const queue = open();
    sqs.fail('refuse');
    await expect(queue.send({ ...space, task: 'index' })).rejects.toThrow('SQS answered 403.');
    sqs.fail(undefined);
    await queue.send({ ...space, task: 'index' });
    expect(sqs.take()).toHaveLength(1);
  });

  test('nothing is on its way once it is settled, also where SQS hangs', async () => {
    const queue = open();
    sqs.fail('hang');
    let isOver = false;
    const sending = queue.send({ ...space, task: 'index' }).finally(() => {
      isOver = true;
    });
    sending.catch(() => {});
    const startedMs = performance.now();
    await queue.settled();
    expect(isOver).toBe(true);
    expect(performance.now() - startedMs).toBeLessThan(3000);
    await expect(sending).rejects.toThrow();
  });
});
