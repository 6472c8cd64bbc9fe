/** The queues of orders, each with where what failed again and again is kept. */
export interface Queues {
  readonly index: sst.aws.Queue;
  readonly indexDead: sst.aws.Queue;
  readonly sync: sst.aws.Queue;
  readonly syncDead: sst.aws.Queue;
  /** Where runs of the schedules go that could not be begun. */
  readonly scheduleDead: sst.aws.Queue;
}

/** How long an order may take; what is left of it then is ordered again. */
export const workerSeconds = 120;

// SQS asks for six times what the function may take: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
const visibility = `${6 * workerSeconds} seconds` as const;
const attempts = 5;
const twoWeeksInSeconds = 1_209_600;

export function createQueues(): Queues {
  const createDead = (name: string) =>
    new sst.aws.Queue(name, {
      transform: { queue: { messageRetentionSeconds: twoWeeksInSeconds } },
    });
  const create = (name: string, dead: sst.aws.Queue) =>
    new sst.aws.Queue(name, {
      dlq: { queue: dead.arn, retry: attempts },
      visibilityTimeout: visibility,
      // One message stands for the writes of a second (functions/lambda/queue.ts): it must not be taken before they are made.
      delay: '1 second',
    });
  const [indexDead, syncDead] = [createDead('IndexDead'), createDead('SyncDead')];
  return {
    index: create('IndexQueue', indexDead),
    indexDead,
    sync: create('SyncQueue', syncDead),
    syncDead,
    scheduleDead: createDead('ScheduleDead'),
  };
}
