import type { Clock } from '../../lib/base/clock.ts';
import { lazily } from '../../lib/base/lazily.ts';
import type { Order, Orders } from '../../lib/orders.ts';
import type { QueueAccess } from '../runtime.ts';

/** Orders by SQS. */
export interface OrderQueue extends Orders {
  /** Waits for what is on its way, before the function is frozen. */
  settled(): Promise<void>;
}

/**
 * For how long one message stands for all that is written to a space. The queues keep a message back for as long
 * (`infra/queues.ts`), so that whoever takes it sees the last of those writes.
 */
export const quietMs = 1000;
const answerMs = 1000;
// Spaces remembered before those are forgotten whose time is over.
const rememberedMax = 1000;

/** @param deps.access the queues, and who may send there. */
export function createOrderQueue(deps: { access: QueueAccess; clock: Clock }): OrderQueue {
  const { access, clock } = deps;
  const client = lazily(async () => {
    const { AwsClient } = await import('aws4fetch');
    return new AwsClient({ ...access, sessionToken: access.sessionToken ?? '', service: 'sqs', retries: 0 });
  });
  const sentAtMs = new Map<string, number>();
  const onTheirWay = new Set<Promise<void>>();

  async function post(order: Order): Promise<void> {
    const url = order.task === 'index' ? access.indexUrl : access.syncUrl;
    const signed = await client();
    const answer = await signed.fetch(new URL('/', url).href, {
      method: 'POST',
      headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': 'AmazonSQS.SendMessage' },
      body: JSON.stringify({ QueueUrl: url, MessageBody: JSON.stringify(order) }),
      signal: AbortSignal.timeout(answerMs),
    });
    // What SQS says quotes the message.
    if (!answer.ok) throw new Error(`SQS answered ${answer.status}.`);
  }

  function isToldAlready(name: string, nowMs: number): boolean {
    if (nowMs - (sentAtMs.get(name) ?? Number.NEGATIVE_INFINITY) < quietMs) return true;
    if (sentAtMs.size >= rememberedMax) {
      for (const [known, atMs] of sentAtMs) if (nowMs - atMs >= quietMs) sentAtMs.delete(known);
    }
    sentAtMs.set(name, nowMs);
    return false;
  }

  return {
    async send(order) {
      const name = `${order.task} ${order.slot}`;
      // A run that was asked for has an id of its own, and is sent whatever else was.
      if (order.task !== 'run' && isToldAlready(name, clock())) return;
      const sending = post(order).catch((error) => {
        sentAtMs.delete(name);
        throw error;
      });
      const done = sending.then(
        () => {},
        () => {},
      );
      onTheirWay.add(done);
      await sending.finally(() => onTheirWay.delete(done));
    },
    async settled() {
      await Promise.all(onTheirWay);
      // Whoever sent them hears of it first, and may log that it failed.
      await new Promise(setImmediate);
    },
  };
}
