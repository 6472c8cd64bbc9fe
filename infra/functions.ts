import { join } from 'node:path';
import { bundleFunction } from './bundle.ts';
import { type Entry, layFiles } from './files.ts';
import type { SecretEnvironment } from './secrets.ts';
import type { Stage } from './stage.ts';

/** A function, and where it logs. */
export interface Made {
  readonly name: string;
  readonly fn: sst.aws.Function;
  readonly logs: aws.cloudwatch.LogGroup;
}

/** What a function may do, and to what. */
export type Permission = Parameters<typeof sst.aws.permission>[0];

type Wanted = Pick<sst.aws.FunctionArgs, 'description' | 'url' | 'streaming' | 'retries'> & {
  readonly entry: Entry;
  readonly memory: `${number} MB`;
  readonly seconds: number;
  readonly secrets: SecretEnvironment;
  readonly variables?: Record<string, $util.Input<string>>;
  readonly permissions?: Permission[];
};

/** One function, as all of them are made: of our own bundle, on arm64, with a log of its own and no more rights than it needs. */
export function createFunction({ settings, embedder }: Stage, name: string, wanted: Wanted): Made {
  const { entry, memory, seconds, secrets, variables = {}, permissions = [], ...rest } = wanted;
  const logs = new aws.cloudwatch.LogGroup(`${name}Logs`, {
    name: `/aws/lambda/${$app.name}-${$app.stage}-${name}`,
    retentionInDays: settings.alarms.logDays,
  });
  const { root, work } = $cli.paths;
  const out = join(work, 'functions', name);
  const built = bundleFunction({ root, entry: `functions/lambda/${entry}.ts`, out });
  const fn = new sst.aws.Function(name, {
    ...rest,
    // Bundled by ourselves, so that a start reads few files and what is deployed is what is measured.
    bundle: built.then(() => out),
    handler: 'bundle.handler',
    runtime: 'nodejs24.x',
    architecture: 'arm64',
    memory,
    timeout: `${seconds} seconds`,
    link: [secrets],
    environment: { ...variables, ...(embedder === undefined ? {} : { LAMINA_EMBEDDER: embedder }) },
    permissions: [
      // The log group is there already, and the streams are those of this one alone.
      { actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: [$interpolate`${logs.arn}:*`] },
      ...permissions,
    ],
    hook: {
      // `copyFiles` would put a file into the archive twice.
      postbuild: (folder) => layFiles({ root, folder, entry, settings }),
    },
    logging: { logGroup: logs.name, format: 'json' },
    transform: {
      role(args) {
        // AWS's own policy for logs is one for all log groups, and SST lets the whole account take the role.
        args.managedPolicyArns = [];
        args.assumeRolePolicy = aws.iam.assumeRolePolicyForPrincipal({ Service: 'lambda.amazonaws.com' });
      },
    },
  });
  return { name, fn, logs };
}
