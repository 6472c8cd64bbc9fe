import { quietMs } from '../../functions/lambda/queue.ts';
import type { Settings } from '../../lib/config/settings.ts';
import { modelsOf } from '../../lib/search/embedders/choice.ts';
import {
  deadQueues,
  eagerFilesMax,
  expectedFunctions,
  expectedQueues,
  filesEverywhere,
  knownTypes,
  twoWeeksInSeconds,
  zipBytesMax,
} from './expected.ts';
import type { Graph, Inputs, Resource } from './resources.ts';

/** Something that holds of every stage. */
export interface Rule {
  readonly name: string;
  /** @returns what is wrong, one sentence each. */
  check(graph: Graph, settings: Settings): string[];
}

const rule = (name: string, find: (graph: Graph, settings: Settings) => Iterable<string>): Rule => ({
  name,
  check: (graph, settings) => [...find(graph, settings)],
});

const ofType = ({ resources }: Graph, type: string) => resources.filter((one) => one.type === type);
const functionsOf = (graph: Graph) =>
  ofType(graph, 'aws:lambda/function:Function').map((one) => ({ ...one, short: one.name.replace(/Function$/, '') }));
const nameOf = (arn: unknown) => String(arn).split(':').at(-1) ?? '';
const isSame = (left: readonly string[], right: readonly string[]) =>
  [...left].sort().join('\n') === [...right].sort().join('\n');

function* compare(what: string, found: Inputs | undefined, wanted: Inputs): Generator<string> {
  for (const [name, value] of Object.entries(wanted)) {
    const is = JSON.stringify(found?.[name]);
    if (is !== JSON.stringify(value)) yield `${what}: ${name} is ${is}, not ${JSON.stringify(value)}`;
  }
}

interface PolicyStatement {
  readonly actions: readonly string[];
  readonly resources: readonly string[];
  readonly conditions?: readonly {
    readonly test: string;
    readonly variable: string;
    readonly values: readonly string[];
  }[];
}

const statementsOf = ({ inputs }: Resource): PolicyStatement[] =>
  ((inputs['inlinePolicies'] ?? []) as { policy: string }[]).flatMap(
    ({ policy }) => (JSON.parse(policy) as { statements: PolicyStatement[] }).statements,
  );

/** What a role may do, each action and the name of what it is done to; of Bedrock's models, whose names hold colons, all of it. */
const rightsOf = (role: Resource) =>
  statementsOf(role).flatMap(({ actions, resources, conditions }) => {
    const only = conditions?.map(({ test, variable, values }) => ` where ${variable} ${test} ${values}`).join('') ?? '';
    const what = (resource: string) =>
      resource.startsWith('arn:aws:bedrock:') ? resource : nameOf(resource.replace(/:\*$/, ''));
    return actions.flatMap((action) => resources.map((resource) => `${action} ${what(resource)}${only}`));
  });

/** What has to be allowed for the models that a function is told to ask. */
function modelRights(embedder: string | undefined): string[] {
  return modelsOf(embedder, 'bedrock').flatMap((model) => {
    // A vendor stands before a model, and a part of the world before that where it is asked for through a profile.
    const [world, ...rest] = model.split('.');
    if (rest.length < 2 || /^(amazon|cohere)$/.test(world ?? ''))
      return [`bedrock:InvokeModel arn:aws:bedrock:eu-central-1::foundation-model/${model}`];
    const through = `arn:aws:bedrock:eu-central-1:123456789012:inference-profile/${model}`;
    return [
      `bedrock:InvokeModel ${through}`,
      `bedrock:InvokeModel arn:aws:bedrock:*::foundation-model/${rest.join('.')} where bedrock:InferenceProfileArn StringEquals ${through}`,
    ];
  });
}

const functionRule = rule('functions', function* (graph) {
  const found = functionsOf(graph);
  const names = found.map(({ short }) => short);
  if (!isSame(names, Object.keys(expectedFunctions))) yield `the functions are ${names.join(', ')}`;
  for (const { short, inputs } of found) {
    const { memory, seconds } = expectedFunctions[short] ?? {};
    yield* compare(short, inputs, {
      architectures: ['arm64'],
      runtime: 'nodejs24.x',
      memorySize: memory,
      timeout: seconds,
      handler: 'bundle.handler',
    });
  }
});

const bundleRule = rule('bundles', function* ({ bundles }) {
  for (const [name, { eagerKb, eagerPackages, files }] of Object.entries(expectedFunctions)) {
    const bundle = bundles[name];
    if (bundle === undefined) {
      yield `${name} has no bundle`;
      continue;
    }
    if (bundle.eagerBytes === 0 || bundle.eagerBytes > eagerKb * 1000)
      yield `${name} loads ${Math.round(bundle.eagerBytes / 1000)} KB at its start, ${eagerKb} are allowed`;
    if (bundle.eagerFiles > eagerFilesMax)
      yield `${name} loads ${bundle.eagerFiles} files at its start, ${eagerFilesMax} are allowed`;
    for (const one of bundle.eagerPackages)
      if (!eagerPackages.includes(one))
        yield `${name} loads ${one} at its start: it is for an import() where it is used`;
    for (const one of eagerPackages)
      if (!bundle.eagerPackages.includes(one)) yield `${name} is said to load ${one} at its start, and does not`;
    if (bundle.zipBytes === 0 || bundle.zipBytes > zipBytesMax)
      yield `${name} weighs ${bundle.zipBytes} bytes, ${zipBytesMax} are allowed`;
    for (const file of [...filesEverywhere, ...files]) if (!bundle.files.includes(file)) yield `${name} lacks ${file}`;
  }
});

const environmentRule = rule('environment', function* (graph) {
  const own = ['SST_KEY', 'SST_KEY_FILE', 'SST_RESOURCE_App', 'LAMINA_EMBEDDER'];
  for (const { short, inputs } of functionsOf(graph)) {
    const variables = (inputs['environment']?.variables ?? {}) as Readonly<Record<string, string>>;
    const others = Object.keys(variables).filter((name) => !own.includes(name));
    const { variables: wanted = [] } = expectedFunctions[short] ?? {};
    if (!isSame(others, wanted)) yield `${short} is given ${others.join(', ')}`;
    for (const [name, value] of Object.entries(variables))
      if (graph.secrets.some((secret) => value.includes(secret))) yield `${short}: ${name} holds a secret`;
  }
});

const linkRule = rule('links', function* (graph) {
  const [link] = ofType(graph, 'sst:sst:LinkRef').filter(({ name }) => name === 'EnvironmentLinkRef');
  const linked = Object.keys(link?.inputs['properties'] ?? {});
  for (const name of linked) if (!graph.variablesRead.includes(name)) yield `${name} is linked, and nobody reads it`;
  const isSecret = (name: string) => /^(DATABASE_URL|LAMINA_TOKEN|UPSTASH_\w+|WEAVIATE_\w+|\w+_API_KEY)$/.test(name);
  // Of two names for one key the first.
  const wanted = graph.variablesRead.filter((name) => isSecret(name) && name !== 'CO_API_KEY');
  for (const name of wanted) if (!linked.includes(name)) yield `${name} is read, and nobody links it`;
});

const permissionRule = rule('permissions', function* (graph) {
  const roles = ofType(graph, 'aws:iam/role:Role');
  for (const role of roles) {
    for (const { actions, resources, conditions } of statementsOf(role)) {
      for (const action of actions) if (action.includes('*')) yield `${role.name} may do ${action}`;
      for (const resource of resources) {
        const isOwnLog = actions.every((action) => action.startsWith('logs:')) && /:\w+:\*$/.test(resource);
        const isOfProfile = conditions !== undefined && /^arn:aws:bedrock:\*::foundation-model\/[^*]+$/.test(resource);
        if (resource.includes('*') && !isOwnLog && !isOfProfile)
          yield `${role.name} may do ${actions.join(', ')} to ${resource}`;
      }
    }
    const managed = (role.inputs['managedPolicyArns'] ?? []) as string[];
    if (managed.length > 0) yield `${role.name} has policies of AWS's: ${managed.join(', ')}`;
    const trusted = JSON.stringify(role.inputs['assumeRolePolicy']);
    if (!/"Principal":{"Service":"(lambda|scheduler)\.amazonaws\.com"}/.test(trusted) || trusted.includes('"AWS"'))
      yield `${role.name} may be taken by others than a service: ${trusted}`;
  }
  for (const { short, inputs } of functionsOf(graph)) {
    const [role] = roles.filter(({ name }) => name === `${short}Role`);
    if (role === undefined) {
      yield `${short} has no role of its own`;
      continue;
    }
    const logs = ['logs:CreateLogStream', 'logs:PutLogEvents'].map((action) => `${action} ${short}Logs`);
    const rights = rightsOf(role);
    const models = short === 'Migrate' ? [] : modelRights(inputs['environment']?.variables?.LAMINA_EMBEDDER);
    const wanted = [...logs, ...(expectedFunctions[short]?.may ?? []), ...models];
    if (!isSame(rights, wanted)) yield `${role.name} may do ${rights.join(', ')}`;
  }
  for (const { name, inputs } of ofType(graph, 'aws:lambda/permission:Permission')) {
    const isDoor = inputs['invokedViaFunctionUrl'] === true || inputs['functionUrlAuthType'] === 'NONE';
    if (!isDoor || !String(inputs['function']).includes('-ApiFunction-')) yield `${name} lets others in`;
  }
});

const queueRule = rule('queues', function* (graph, { alarms }) {
  const queues = new Map(ofType(graph, 'aws:sqs/queue:Queue').map((one) => [one.name, one.inputs]));
  const mappings = ofType(graph, 'aws:lambda/eventSourceMapping:EventSourceMapping');
  const names = [...expectedQueues.map(({ queue }) => queue), ...deadQueues];
  if (!isSame([...queues.keys()], names)) yield `the queues are ${[...queues.keys()].join(', ')}`;
  if (mappings.length !== expectedQueues.length) yield `${mappings.length} queues are taken from`;
  for (const { queue, consumer, dead } of expectedQueues) {
    const inputs = queues.get(queue);
    const [taking] = mappings.filter((one) => nameOf(one.inputs['eventSourceArn']) === queue);
    const [by] = functionsOf(graph).filter(({ name }) => name === nameOf(taking?.inputs['functionName']));
    if (by?.name !== consumer) yield `${queue} is taken from by ${by?.name}`;
    const least = 6 * Number(by?.inputs['timeout']);
    if (!(Number(inputs?.['visibilityTimeoutSeconds']) >= least))
      yield `${queue}: what is taken comes back after ${inputs?.['visibilityTimeoutSeconds']} s, ${least} are the least`;
    const onceMore = Number(inputs?.['visibilityTimeoutSeconds']) + Number(by?.inputs['timeout']);
    if (!(alarms.queueSeconds > onceMore))
      yield `${queue} raises an alarm after ${alarms.queueSeconds} s; what failed once is through after ${onceMore}`;
    const { deadLetterTargetArn, maxReceiveCount } = JSON.parse(inputs?.['redrivePolicy'] ?? '{}') as Inputs;
    if (nameOf(deadLetterTargetArn) !== dead) yield `${queue} has no dead-letter queue`;
    if (!(maxReceiveCount >= 3 && maxReceiveCount <= 10)) yield `${queue} is tried ${maxReceiveCount} times`;
    if (!(Number(inputs?.['delaySeconds']) * 1000 >= quietMs))
      yield `${queue} may be taken from before all is written that a message stands for`;
    yield* compare(`taking from ${queue}`, taking?.inputs, {
      batchSize: 10,
      maximumBatchingWindowInSeconds: 1,
      functionResponseTypes: ['ReportBatchItemFailures'],
      scalingConfig: { maximumConcurrency: 10 },
    });
  }
  for (const name of deadQueues) yield* compare(name, queues.get(name), { messageRetentionSeconds: twoWeeksInSeconds });
});

const scheduleRule = rule('schedules', function* (graph, { schedules: of }) {
  const minutes = {
    cleanup: of.cleanupMinutes,
    warm: of.warmMinutes,
    reconcile: of.reconcileMinutes,
    index: of.indexMinutes,
    synchronise: of.syncMinutes,
    work: of.factoryMinutes,
  };
  const found = new Map(
    ofType(graph, 'aws:scheduler/schedule:Schedule').map(({ name, inputs }) => {
      const { task, budgetMs } = JSON.parse(inputs['target'].input) as { task: string; budgetMs: number };
      return [task, { name, budgetMs, inputs, target: inputs['target'] as Inputs }];
    }),
  );
  for (const task of found.keys()) if (!(task in minutes)) yield `nobody knows the task ${task}`;
  const seconds = Number(functionsOf(graph).find(({ short }) => short === 'Schedule')?.inputs['timeout']);
  for (const [task, every] of Object.entries(minutes)) {
    const schedule = found.get(task);
    if (every === 0 && schedule === undefined) continue;
    if (every === 0 || schedule === undefined) {
      yield `${task} is ${every === 0 ? 'run, and is not to be' : 'not run'}`;
      continue;
    }
    const { name, inputs, target, budgetMs } = schedule;
    yield* compare(name, inputs, {
      scheduleExpression: every === 1 ? 'rate(1 minute)' : `rate(${every} minutes)`,
      flexibleTimeWindow: { mode: 'OFF' },
      state: graph.stage === 'production' || task === 'cleanup' ? 'ENABLED' : 'DISABLED',
    });
    if (nameOf(target['arn']) !== 'ScheduleFunction') yield `${name} calls ${target['arn']}`;
    if (nameOf(target['deadLetterConfig']?.arn) !== 'ScheduleDeadQueue') yield `${name} has no dead-letter queue`;
    if (target['retryPolicy']?.maximumRetryAttempts !== 2) yield `${name} is not tried again`;
    if (!(budgetMs > 0 && budgetMs <= (every * 60_000) / 2 && budgetMs * 2 <= seconds * 1000))
      yield `${name}: a budget of ${budgetMs} ms does not fit`;
    const [role] = ofType(graph, 'aws:iam/role:Role').filter((one) => one.name === nameOf(target['roleArn']));
    const rights = role === undefined ? [] : rightsOf(role);
    const wanted = ['lambda:InvokeFunction ScheduleFunction', 'sqs:SendMessage ScheduleDeadQueue'];
    if (!isSame(rights, wanted)) yield `${name} may do ${rights.join(', ')}`;
  }
  const [invoking] = ofType(graph, 'aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig');
  if (invoking?.inputs['maximumRetryAttempts'] !== 0) yield 'a run that failed is begun again before its time';
});

const doorRule = rule('door', function* (graph) {
  const doors = ofType(graph, 'aws:lambda/functionUrl:FunctionUrl');
  if (doors.length !== 1) yield `there are ${doors.length} doors`;
  const inputs = doors[0]?.inputs ?? {};
  yield* compare('the door', inputs, { invokeMode: 'RESPONSE_STREAM', authorizationType: 'NONE' });
  if (inputs['cors'] !== undefined) yield 'the door lets pages of other origins in';
  const [api] = functionsOf(graph).filter(({ short }) => short === 'Api');
  if (inputs['functionName'] !== api?.inputs['name']) yield `the door leads to ${inputs['functionName']}`;
  // A function URL without a qualifier invokes the newest code, never the version that was provisioned.
  for (const { name, inputs: of } of ofType(
    graph,
    'aws:lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig',
  )) {
    const isInvoked = of['functionName'] === inputs['functionName'] && of['qualifier'] === inputs['qualifier'];
    if (of['qualifier'] === undefined || !isInvoked) yield `${name} is paid for, and the door invokes something else`;
  }
  const [policy] = ofType(graph, 'aws:cloudfront/cachePolicy:CachePolicy');
  yield* compare('the edge', policy?.inputs, { minTtl: 0, defaultTtl: 0, maxTtl: 0 });
  const [distribution] = ofType(graph, 'aws:cloudfront/distribution:Distribution');
  const behaviour = distribution?.inputs['defaultCacheBehavior'] as Inputs | undefined;
  yield* compare('the edge', behaviour, { compress: false, cachePolicyId: `${policy?.name}-id` });
  if ((distribution?.inputs['orderedCacheBehaviors'] ?? []).length > 0) yield 'the edge has other behaviours';
  const [route] = graph.resources.filter(({ name }) => name.startsWith('ApiRouteKey'));
  const { host, origin } = JSON.parse(route?.inputs['entries']?.metadata ?? '{}') as Inputs;
  if (!String(host).startsWith('apiurl.')) yield `the edge leads to ${host}`;
  if (!(origin?.timeouts?.readTimeout >= Number(api?.inputs['timeout'])))
    yield 'the edge waits shorter than the function';
});

const migrationRule = rule('migration', function* (graph) {
  const [migration, ...more] = ofType(graph, 'aws:lambda/invocation:Invocation');
  if (migration === undefined || more.length > 0) yield 'a deployment does not migrate once';
  if (!migration?.after.includes('MigrateFunction')) yield 'it migrates before the code that does is there';
  const deployedMs = Date.parse(Object.values((migration?.inputs['triggers'] ?? {}) as Inputs).join(' '));
  if (!(Math.abs(Date.now() - deployedMs) < 3_600_000)) yield 'not every deployment triggers it';
  for (const { short, after } of functionsOf(graph))
    if (short !== 'Migrate' && !after.includes('Migration')) yield `${short} is deployed before the schema is there`;
});

const logRule = rule('logs', function* (graph, { alarms }) {
  const groups = ofType(graph, 'aws:cloudwatch/logGroup:LogGroup');
  for (const { name, inputs } of groups) yield* compare(name, inputs, { retentionInDays: alarms.logDays });
  for (const { short, inputs } of functionsOf(graph)) {
    const [group] = groups.filter(({ name }) => name === `${short}Logs`);
    yield* compare(short, inputs, { loggingConfig: { logFormat: 'JSON', logGroup: group?.inputs['name'] } });
  }
});

const alarmRule = rule('alarms', function* (graph, { alarms: of }) {
  const topics = ofType(graph, 'aws:sns/topic:Topic').map(({ name }) => name);
  const alarms = ofType(graph, 'aws:cloudwatch/metricAlarm:MetricAlarm');
  const subscribed = ofType(graph, 'aws:sns/topicSubscription:TopicSubscription').map(
    ({ inputs }) => inputs['endpoint'],
  );
  if (!isSame(subscribed, of.emails)) yield `mail goes to ${subscribed.join(', ')}`;
  for (const { name, inputs } of alarms) {
    const actions = (inputs['alarmActions'] ?? []) as string[];
    if (actions.length === 0 || !actions.every((arn) => topics.includes(nameOf(arn)))) yield `${name} tells nobody`;
    yield* compare(name, inputs, {
      period: of.minutes * 60,
      comparisonOperator: 'GreaterThanOrEqualToThreshold',
      treatMissingData: 'notBreaching',
    });
  }
  const wanted = new Map<string, { metric: string; of: unknown; threshold: number }>();
  for (const { short, inputs } of functionsOf(graph)) {
    const logged = `lamina-${graph.stage}-${short}`;
    wanted.set(`${short}Errors`, { metric: 'Errors', of: inputs['name'], threshold: of.functionErrors });
    wanted.set(`${short}Logged`, { metric: logged, of: undefined, threshold: of.loggedErrors });
    const [filter] = ofType(graph, 'aws:cloudwatch/logMetricFilter:LogMetricFilter').filter(
      ({ name }) => name === `${short}LoggedErrors`,
    );
    yield* compare(`${short}LoggedErrors`, filter?.inputs, {
      logGroupName: inputs['loggingConfig']?.logGroup,
      pattern: '{ $.level = "ERROR" }',
    });
    if (filter?.inputs['metricTransformation']?.name !== logged) yield `nobody counts what ${short} logs`;
  }
  const api = functionsOf(graph).find(({ short }) => short === 'Api')?.inputs['name'];
  wanted.set('ApiThrottles', { metric: 'Throttles', of: api, threshold: of.throttles });
  wanted.set('ApiFailures', { metric: 'Url5xxCount', of: api, threshold: of.apiFailures });
  wanted.set('ApiLatency', { metric: 'UrlRequestLatency', of: api, threshold: of.apiMs });
  for (const { name, inputs } of ofType(graph, 'aws:sqs/queue:Queue')) {
    const short = name.replace(/Queue$/, '');
    const isDead = deadQueues.includes(name);
    wanted.set(`${short}${isDead ? 'Letters' : 'Age'}`, {
      metric: isDead ? 'ApproximateNumberOfMessagesVisible' : 'ApproximateAgeOfOldestMessage',
      of: inputs['name'] ?? name,
      threshold: isDead ? of.deadLetters : of.queueSeconds,
    });
  }
  const known = alarms.map(({ name }) => name);
  if (!isSame(known, [...wanted.keys()])) yield `the alarms are ${known.join(', ')}`;
  for (const [name, { metric, of: watched, threshold }] of wanted) {
    const [alarm] = alarms.filter((one) => one.name === name);
    yield* compare(name, alarm?.inputs, { metricName: metric, threshold });
    const [dimension] = Object.values(alarm?.inputs['dimensions'] ?? {});
    if (dimension !== watched) yield `${name} watches ${dimension}`;
  }
  yield* compare('ApiLatency', alarms.find(({ name }) => name === 'ApiLatency')?.inputs, { extendedStatistic: 'p95' });
});

const dataRule = rule('data', function* ({ stage, app, resources }) {
  const isProduction = stage === 'production';
  yield* compare('the stage', app, { protect: isProduction, removal: isProduction ? 'retain' : 'remove' });
  const stores = resources.filter(({ type }) => /^(neon|upstash):/.test(type));
  for (const { name, isProtected, isRetained } of stores)
    yield* compare(name, { isProtected, isRetained }, { isProtected: isProduction, isRetained: isProduction });
});

const typeRule = rule('kinds of resources', function* ({ resources }) {
  const isKnown = (type: string) => knownTypes.includes(type) || /^(sst:|pulumi-nodejs:dynamic:)/.test(type);
  for (const { type, name } of resources) if (!isKnown(type)) yield `no rule knows ${type} (${name})`;
});

export const rules: readonly Rule[] = [
  functionRule,
  bundleRule,
  environmentRule,
  linkRule,
  permissionRule,
  queueRule,
  scheduleRule,
  doorRule,
  migrationRule,
  logRule,
  alarmRule,
  dataRule,
  typeRule,
];
