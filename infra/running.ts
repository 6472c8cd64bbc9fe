import { bedrockPermissions } from './bedrock.ts';
import type { Queues } from './queues.ts';
import type { SecretEnvironment } from './secrets.ts';

/** What every function has that serves or works. */
export interface Running {
  readonly secrets: SecretEnvironment;
  readonly queues: Queues;
  /** Of the default space, from the migration: so none of them is deployed before it. */
  readonly defaultSlot: $util.Output<string>;
  /** As `npm start` takes it; without it the built-in one. */
  readonly embedder: string | undefined;
}

/** Where they order what goes on behind their answers and which models they ask, and that they may do no more there. */
export function ordering({ secrets, queues: { index, sync }, defaultSlot, embedder }: Running) {
  return {
    secrets,
    variables: { LAMINA_INDEX_QUEUE: index.url, LAMINA_SYNC_QUEUE: sync.url, LAMINA_DEFAULT_SLOT: defaultSlot },
    permissions: [{ actions: ['sqs:SendMessage'], resources: [index.arn, sync.arn] }, ...bedrockPermissions(embedder)],
  };
}
