import type { Entry } from './files.ts';
import { createFunction, type Made } from './functions.ts';
import { workerSeconds } from './queues.ts';
import { ordering, type Running } from './running.ts';
import type { Stage } from './stage.ts';

// Of one queue at once. More of them would only race for the same spaces.
const concurrency = 10;

/** Those who take orders from the queues. */
export function createWorkers(stage: Stage, running: Running): { index: Made; sync: Made } {
  const create = (name: string, queue: sst.aws.Queue, { entry, takes }: { entry: Entry; takes: string }) => {
    const { permissions, ...rest } = ordering(running);
    const made = createFunction(stage, name, {
      ...rest,
      entry,
      description: `Takes orders from the queue of ${takes}`,
      // What joins two contents of 10 MiB holds some 800 MB for a moment.
      memory: '1024 MB',
      seconds: workerSeconds,
      permissions: [
        ...permissions,
        {
          // As Lambda takes for itself: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
          actions: ['sqs:ReceiveMessage', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes'],
          resources: [queue.arn],
        },
      ],
    });
    queue.subscribe(made.fn.arn, {
      batch: { size: 10, window: '1 second', partialResponses: true },
      transform: { eventSourceMapping: { scalingConfig: { maximumConcurrency: concurrency } } },
    });
    return made;
  };
  const { index, sync } = running.queues;
  return {
    index: create('IndexWorker', index, { entry: 'index-orders', takes: 'the search index' }),
    sync: create('SyncWorker', sync, { entry: 'sync-orders', takes: 'peers and hook events' }),
  };
}
