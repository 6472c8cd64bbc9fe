import type { Graph, Inputs, Resource } from './resources.ts';

/** A mistake somebody could make, and the rule that has to find it. */
export interface Mistake {
  readonly rule: string;
  readonly name: string;
  /** Makes it in a copy of the graph of production. */
  make(graph: Changeable): void;
}

// A copy is anybody's.
type Changeable = { -readonly [Key in keyof Graph]: Graph[Key] extends readonly Resource[] ? Resource[] : Graph[Key] };
type Loose = Record<string, Inputs>;

const find = (graph: Changeable, name: string) => {
  const found = graph.resources.find((one) => one.name === name);
  if (found === undefined) throw new Error(`There is no ${name} to make a mistake with.`);
  return found;
};

/** What the arguments of a resource become. */
const change = (rule: string, name: string, resource: string, to: (inputs: Loose) => Inputs): Mistake => ({
  rule,
  name,
  make(graph) {
    const found = find(graph, resource);
    Object.assign(found.inputs, to(found.inputs as Loose));
  },
});

const drop = (rule: string, name: string, resource: string): Mistake => ({
  rule,
  name,
  make(graph) {
    find(graph, resource);
    graph.resources = graph.resources.filter((one) => one.name !== resource);
  },
});

const add = (rule: string, name: string, resource: Partial<Resource> & Pick<Resource, 'type' | 'name'>): Mistake => ({
  rule,
  name,
  make(graph) {
    graph.resources.push({ inputs: {}, after: [], isProtected: false, isRetained: false, ...resource });
  },
});

const policy = (statement: Inputs) => ({
  inlinePolicies: [{ name: 'inline', policy: JSON.stringify({ statements: [statement] }) }],
});
/** The policies of a role with something in them said otherwise. */
const reworded = (from: string, to: string) => (inputs: Loose) => ({
  inlinePolicies: JSON.parse(JSON.stringify(inputs['inlinePolicies']).replaceAll(from, to)) as Inputs[],
});
const retarget = (change: Inputs) => (inputs: Loose) => ({ target: { ...inputs['target'], ...change } });
const bundle = (name: string, make: (graph: Changeable) => void): Mistake => ({ rule: 'bundles', name, make });
const mapping = (graph: Changeable) =>
  graph.resources.find(({ type }) => type === 'aws:lambda/eventSourceMapping:EventSourceMapping')?.inputs ?? {};
const mapped = (name: string, to: Inputs): Mistake => ({
  rule: 'queues',
  name,
  make: (graph) => void Object.assign(mapping(graph), to),
});
const provisioned = (name: string, inputs: Inputs) =>
  add('door', name, {
    type: 'aws:lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig',
    name: 'ApiProvisioned',
    inputs,
  });

/** At least one of each kind that a rule is there for. */
export const mistakes: readonly Mistake[] = [
  change('functions', 'a function for another processor', 'ApiFunction', () => ({ architectures: ['x86_64'] })),
  change('functions', 'an older Node', 'ApiFunction', () => ({ runtime: 'nodejs22.x' })),
  change('functions', 'too little memory', 'SyncWorkerFunction', () => ({ memorySize: 512 })),
  change('functions', 'a time that is too short', 'ScheduleFunction', () => ({ timeout: 3 })),
  add('functions', 'a function nobody has written down', {
    type: 'aws:lambda/function:Function',
    name: 'SpareFunction',
  }),
  bundle('something heavy loaded at the start', (graph) => {
    Object.assign(graph.bundles['Api'] ?? {}, { eagerBytes: 460_000 });
  }),
  bundle('a start in many files', (graph) => {
    Object.assign(graph.bundles['Api'] ?? {}, { eagerFiles: 39 });
  }),
  bundle('a driver that some requests need loaded for all of them', (graph) => {
    const { eagerPackages = [] } = graph.bundles['Api'] ?? {};
    Object.assign(graph.bundles['Api'] ?? {}, { eagerPackages: [...eagerPackages, '@neondatabase/serverless'] });
  }),
  bundle('a client that is loaded although nobody may ask it', (graph) => {
    const { eagerPackages = [] } = graph.bundles['Api'] ?? {};
    Object.assign(graph.bundles['Api'] ?? {}, { eagerPackages: [...eagerPackages, 'weaviate-client'] });
  }),
  bundle('an archive that has grown', (graph) => {
    Object.assign(graph.bundles['Api'] ?? {}, { zipBytes: 20_000_000 });
  }),
  bundle('the settings left at home', (graph) => {
    const { files = [] } = graph.bundles['Api'] ?? {};
    Object.assign(graph.bundles['Api'] ?? {}, { files: files.filter((file) => file !== 'settings.json') });
  }),
  bundle('the migrations left at home', (graph) => {
    const { files = [] } = graph.bundles['Migrate'] ?? {};
    Object.assign(graph.bundles['Migrate'] ?? {}, { files: files.filter((file) => !file.startsWith('migrations')) });
  }),
  change('environment', 'a secret in the environment', 'ApiFunction', ({ environment }) => ({
    environment: { variables: { ...environment?.['variables'], LAMINA_DEFAULT_SLOT: 'made-token' } },
  })),
  change('environment', 'a queue nobody is told of', 'ApiFunction', ({ environment }) => {
    const { LAMINA_SYNC_QUEUE: _left, ...variables } = (environment?.['variables'] ?? {}) as Inputs;
    return { environment: { variables } };
  }),
  change('environment', 'a variable nobody has written down', 'SyncWorkerFunction', ({ environment }) => ({
    environment: { variables: { ...environment?.['variables'], LAMINA_ALLOW_COMMANDS: '1' } },
  })),
  change('links', 'a secret that nobody reads', 'EnvironmentLinkRef', ({ properties }) => ({
    properties: { ...properties, STRIPE_API_KEY: '' },
  })),
  change('links', 'a secret that is read and not there', 'EnvironmentLinkRef', ({ properties }) => {
    const { WEAVIATE_API_KEY: _left, ...rest } = properties ?? {};
    return { properties: rest };
  }),
  change('permissions', 'every action on a queue', 'ApiRole', () =>
    policy({ actions: ['sqs:*'], resources: ['arn:aws:sqs:eu-central-1:123456789012:SyncQueueQueue'] }),
  ),
  change('permissions', 'an action on everything', 'ScheduleRole', () =>
    policy({ actions: ['sqs:SendMessage'], resources: ['*'] }),
  ),
  change('permissions', 'a right nobody has written down', 'MigrateRole', () =>
    policy({ actions: ['sqs:SendMessage'], resources: ['arn:aws:sqs:eu-central-1:123456789012:SyncQueueQueue'] }),
  ),
  change('permissions', 'a model without its version', 'ApiRole', reworded('embed-text-v2:0', 'embed-text-v2')),
  change(
    'permissions',
    'a profile taken for a model',
    'IndexWorkerRole',
    reworded('inference-profile/eu.', 'foundation-model/eu.'),
  ),
  change(
    'permissions',
    'a model without its profile',
    'ScheduleRole',
    reworded('bedrock:InferenceProfileArn', 'other'),
  ),
  change(
    'permissions',
    'every model there is',
    'ApiRole',
    reworded('foundation-model/cohere.embed-v4:0', 'foundation-model/*'),
  ),
  change('permissions', 'a right nobody uses', 'SyncWorkerRole', reworded('ReceiveMessage', 'ChangeMessageVisibility')),
  change('permissions', "a policy of AWS's", 'SyncWorkerRole', () => ({
    managedPolicyArns: ['arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole'],
  })),
  change('permissions', 'a role the whole account may take', 'ApiRole', () => ({
    assumeRolePolicy: JSON.stringify({ Statement: [{ Principal: { AWS: 'arn:aws:iam::123456789012:root' } }] }),
  })),
  add('permissions', 'a worker anyone may invoke', {
    type: 'aws:lambda/permission:Permission',
    name: 'Open',
    inputs: { principal: '*', action: 'lambda:InvokeFunction', function: 'lamina-production-SyncWorkerFunction-x' },
  }),
  change('queues', 'a message that comes back while it is worked', 'IndexQueueQueue', () => ({
    visibilityTimeoutSeconds: 719,
  })),
  change('queues', 'a retry that raises an alarm', 'SyncQueueQueue', () => ({ visibilityTimeoutSeconds: 1440 })),
  change('queues', 'no dead-letter queue', 'SyncQueueQueue', () => ({ redrivePolicy: undefined })),
  change('queues', 'a message that is given up at once', 'SyncQueueQueue', ({ redrivePolicy }) => ({
    redrivePolicy: JSON.stringify({ ...JSON.parse(String(redrivePolicy)), maxReceiveCount: 1 }),
  })),
  change('queues', 'a message taken before its second is over', 'IndexQueueQueue', () => ({ delaySeconds: 0 })),
  change('queues', 'what was given up forgotten after four days', 'IndexDeadQueue', () => ({
    messageRetentionSeconds: 345_600,
  })),
  mapped('a batch that fails as a whole', { functionResponseTypes: [] }),
  mapped('a message a call', { batchSize: 1 }),
  mapped('as many workers as there are messages', { scalingConfig: undefined }),
  mapped('a queue that nobody takes from', { functionName: 'arn:aws:lambda:eu-central-1:123456789012:ApiFunction' }),
  drop('schedules', 'a schedule forgotten', 'CleanupSchedule'),
  change('schedules', 'a period of its own', 'WarmSchedule', () => ({ scheduleExpression: 'rate(1 day)' })),
  change('schedules', 'a schedule that is off', 'ReconcileSchedule', () => ({ state: 'DISABLED' })),
  change('schedules', 'a task nobody knows', 'WorkSchedule', retarget({ input: '{"task":"sweep","budgetMs":30000}' })),
  change(
    'schedules',
    'a budget above the period',
    'WorkSchedule',
    retarget({ input: '{"task":"work","budgetMs":90000}' }),
  ),
  change('schedules', 'a run that is lost', 'IndexSchedule', retarget({ deadLetterConfig: undefined })),
  change('schedules', 'a schedule that may invoke anything', 'SynchroniseRole', () =>
    policy({ actions: ['lambda:InvokeFunction'], resources: ['arn:aws:lambda:eu-central-1:123456789012:ApiFunction'] }),
  ),
  change('schedules', 'runs begun again and again', 'ScheduleEventInvokeConfig', () => ({ maximumRetryAttempts: 2 })),
  change('door', 'answers that are held back', 'ApiUrl', () => ({ invokeMode: 'BUFFERED' })),
  change('door', 'a door for every web page', 'ApiUrl', () => ({ cors: { allowOrigins: ['*'] } })),
  add('door', 'a second door', { type: 'aws:lambda/functionUrl:FunctionUrl', name: 'ScheduleUrl' }),
  provisioned('a provisioned version that the door does not invoke', {
    functionName: 'lamina-production-ApiFunction-x',
    qualifier: '7',
  }),
  provisioned('provisioned without a version', { functionName: 'lamina-production-ApiFunction-x' }),
  change('door', 'answers kept at the edge', 'RouterServerCachePolicy', () => ({ maxTtl: 31_536_000 })),
  change('door', 'answers encoded at the edge', 'RouterCdnDistribution', ({ defaultCacheBehavior }) => ({
    defaultCacheBehavior: { ...defaultCacheBehavior, compress: true },
  })),
  change('door', 'an edge that gives up before the function', 'ApiRouteKey.sst.aws.KvKeys', ({ entries }) => ({
    entries: { metadata: String(entries?.['metadata']).replace('60', '20') },
  })),
  drop('migration', 'no migration', 'Migration'),
  change('migration', 'a new schema that nobody applies', 'Migration', () => ({ triggers: {} })),
  change('migration', 'a restored database that nobody migrates', 'Migration', () => ({
    triggers: { schema: '5f'.repeat(32), database: 'ep-given.eu-central-1.aws.neon.tech' },
  })),
  {
    rule: 'migration',
    name: 'code before its schema',
    make(graph) {
      graph.resources = graph.resources.map((one) =>
        one.name === 'ApiFunction' ? { ...one, after: one.after.filter((name) => name !== 'Migration') } : one,
      );
    },
  },
  change('logs', 'logs for ever', 'ApiLogs', () => ({ retentionInDays: undefined })),
  change('logs', "another function's log", 'SyncWorkerFunction', ({ loggingConfig }) => ({
    loggingConfig: { ...loggingConfig, logGroup: '/aws/lambda/lamina-production-Api' },
  })),
  change('logs', 'lines nobody can search', 'ApiFunction', ({ loggingConfig }) => ({
    loggingConfig: { ...loggingConfig, logFormat: 'Text' },
  })),
  drop('alarms', 'a function nobody watches', 'ScheduleErrors'),
  drop('alarms', 'a dead-letter queue nobody watches', 'ScheduleDeadLetters'),
  drop('alarms', 'a queue nobody watches', 'IndexQueueAge'),
  drop('alarms', 'logged errors nobody counts', 'ApiLoggedErrors'),
  change('alarms', 'an alarm that tells nobody', 'ApiErrors', () => ({ alarmActions: [] })),
  change('alarms', 'a threshold of its own', 'SyncDeadLetters', () => ({ threshold: 100 })),
  change('alarms', 'an alarm at the wrong function', 'ApiThrottles', () => ({
    dimensions: { FunctionName: 'lamina-production-Other' },
  })),
  change('alarms', 'an average instead of the slowest', 'ApiLatency', () => ({
    extendedStatistic: undefined,
    statistic: 'Average',
  })),
  {
    rule: 'data',
    name: 'a production that may be removed',
    make(graph) {
      graph.app = { removal: 'remove', protect: false };
    },
  },
  {
    rule: 'data',
    name: 'a database that goes with its stage',
    make(graph) {
      graph.resources = graph.resources.map((one) => (one.name === 'Database' ? { ...one, isRetained: false } : one));
    },
  },
  {
    rule: 'data',
    name: 'a Redis that may be deleted',
    make(graph) {
      graph.resources = graph.resources.map((one) => (one.name === 'Cache' ? { ...one, isProtected: false } : one));
    },
  },
  add('kinds of resources', 'something nobody has thought of', { type: 'aws:s3/bucket:Bucket', name: 'Uploads' }),
];
