/** What a function is to be. */
export interface Expected {
  readonly memory: number;
  readonly seconds: number;
  /** What is loaded before the first request, in KB, at most. */
  readonly eagerKb: number;
  /** The packages that are loaded then: what every instance uses, each with what a start pays for it. Everything else is for an `import()`. */
  readonly eagerPackages: readonly string[];
  /** Variables beside SST's own. */
  readonly variables: readonly string[];
  /** What it may do beside writing its own log: the action and the name of the resource. */
  readonly may: readonly string[];
  /** What it reads at run time, beside what every function does. */
  readonly files: readonly string[];
}

// Layers 1 and 2, what they count, and words as the index has them. The driver of PostgreSQL is loaded by the first question.
const storePackages = ['@orama/stemmers', '@upstash/redis', 'lru-cache', 'prom-client', 'uncrypto'];
const ordering = ['LAMINA_DEFAULT_SLOT', 'LAMINA_INDEX_QUEUE', 'LAMINA_SYNC_QUEUE'];
const mayOrder = ['sqs:SendMessage IndexQueueQueue', 'sqs:SendMessage SyncQueueQueue'];
const mayTake = (queue: string) =>
  ['DeleteMessage', 'GetQueueAttributes', 'ReceiveMessage'].map((action) => `sqs:${action} ${queue}`);

/** Every function there is; a new one, or a new right, is written down here before it passes. */
export const expectedFunctions: Readonly<Record<string, Expected>> = {
  Api: {
    memory: 1024,
    seconds: 60,
    eagerKb: 450,
    eagerPackages: [...storePackages, 'hono', 'zod'],
    variables: ordering,
    may: mayOrder,
    files: ['docs.html', 'openapi.json'],
  },
  IndexWorker: {
    memory: 1024,
    seconds: 120,
    eagerKb: 250,
    eagerPackages: storePackages,
    variables: ordering,
    may: [...mayOrder, ...mayTake('IndexQueueQueue')],
    files: [],
  },
  SyncWorker: {
    memory: 1024,
    seconds: 120,
    eagerKb: 250,
    eagerPackages: storePackages,
    variables: ordering,
    may: [...mayOrder, ...mayTake('SyncQueueQueue')],
    files: [],
  },
  Schedule: {
    memory: 1024,
    seconds: 300,
    eagerKb: 250,
    eagerPackages: storePackages,
    variables: ordering,
    may: mayOrder,
    files: [],
  },
  Migrate: {
    memory: 1024,
    seconds: 900,
    eagerKb: 250,
    eagerPackages: storePackages,
    variables: [],
    may: [],
    files: ['migrations/functions'],
  },
};

/** The entry, what a start loads, and what esbuild has for packages in CommonJS: Node takes a millisecond for each file. */
export const eagerFilesMax = 3;
export const filesEverywhere = ['bundle.mjs', 'resource.enc', 'settings.json', 'words.bin'];
export const zipBytesMax = 6_000_000;
export const twoWeeksInSeconds = 1_209_600;

/** Each queue of orders, who takes from it, and where what is given up goes. */
export const expectedQueues = [
  { queue: 'IndexQueueQueue', consumer: 'IndexWorkerFunction', dead: 'IndexDeadQueue' },
  { queue: 'SyncQueueQueue', consumer: 'SyncWorkerFunction', dead: 'SyncDeadQueue' },
];
export const deadQueues = ['IndexDeadQueue', 'ScheduleDeadQueue', 'SyncDeadQueue'];

/** Kinds of resources that the rules look at, or that have nothing of ours to be looked at. */
export const knownTypes = [
  'aws:acm/certificate:Certificate',
  'aws:acm/certificateValidation:CertificateValidation',
  'aws:cloudfront/cachePolicy:CachePolicy',
  'aws:cloudfront/distribution:Distribution',
  'aws:cloudfront/function:Function',
  'aws:cloudfront/keyValueStore:KeyValueStore',
  'aws:cloudwatch/logGroup:LogGroup',
  'aws:cloudwatch/logMetricFilter:LogMetricFilter',
  'aws:cloudwatch/metricAlarm:MetricAlarm',
  'aws:iam/role:Role',
  'aws:lambda/eventSourceMapping:EventSourceMapping',
  'aws:lambda/function:Function',
  'aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig',
  'aws:lambda/functionUrl:FunctionUrl',
  'aws:lambda/invocation:Invocation',
  'aws:lambda/permission:Permission',
  'aws:route53/record:Record',
  'aws:s3/bucketObjectv2:BucketObjectv2',
  'aws:scheduler/schedule:Schedule',
  'aws:sns/topic:Topic',
  'aws:sns/topicSubscription:TopicSubscription',
  'aws:sqs/queue:Queue',
  'neon:index/project:Project',
  'pulumi:providers:aws',
  'pulumi:pulumi:Stack',
  'random:index/randomBytes:RandomBytes',
  'upstash:index/redisDatabase:RedisDatabase',
];
