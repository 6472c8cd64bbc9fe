import type { Queues } from './queues.ts';
import type { SecretEnvironment } from './secrets.ts';

/** What every function has that serves or works. */
export interface Running {
  readonly secrets: SecretEnvironment;
  readonly queues: Queues;
  /** The schema that the deployment has migrated to. */
  readonly schema: $util.Output<string>;
}

/** Where they order what goes on behind their answers, and that they may do no more there. */
export function ordering({ secrets, queues: { index, sync }, schema }: Running) {
  return {
    secrets,
    variables: { LAMINA_INDEX_QUEUE: index.url, LAMINA_SYNC_QUEUE: sync.url, LAMINA_SCHEMA: schema },
    permissions: [{ actions: ['sqs:SendMessage'], resources: [index.arn, sync.arn] }],
  };
}
