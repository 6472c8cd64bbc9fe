import type { Graph, Inputs, Resource } from './resources.ts';

/** What there is to say of a resource in one line. */
const describers: Readonly<Record<string, (inputs: Inputs, resource: Resource, graph: Graph) => string>> = {
  'aws:lambda/function:Function': (inputs, { name }, graph) => {
    const { eagerBytes = 0, zipBytes = 0 } = graph.bundles[name.replace(/Function$/, '')] ?? {};
    const [eager, zip] = [Math.round(eagerBytes / 1000), (zipBytes / 1e6).toFixed(1)];
    return `${inputs['architectures']}, ${inputs['runtime']}, ${inputs['memorySize']} MB, ${inputs['timeout']} s, loads ${eager} KB of a zip of ${zip} MB`;
  },
  'aws:lambda/functionUrl:FunctionUrl': (inputs) => `${inputs['invokeMode']}, ${inputs['authorizationType']}`,
  'aws:lambda/eventSourceMapping:EventSourceMapping': (inputs) =>
    `batches of ${inputs['batchSize']} in ${inputs['maximumBatchingWindowInSeconds']} s, ${inputs['functionResponseTypes']}, ${inputs['scalingConfig']?.maximumConcurrency} at once`,
  'aws:lambda/invocation:Invocation': () => 'with every deployment',
  'aws:sqs/queue:Queue': (inputs) =>
    inputs['redrivePolicy'] === undefined
      ? `keeps ${Number(inputs['messageRetentionSeconds']) / 86_400} days`
      : `visible again after ${inputs['visibilityTimeoutSeconds']} s, delay ${inputs['delaySeconds']} s, dead after ${JSON.parse(inputs['redrivePolicy']).maxReceiveCount}`,
  'aws:scheduler/schedule:Schedule': (inputs) =>
    `${inputs['scheduleExpression']}, ${String(inputs['state']).toLowerCase()}, ${inputs['target']?.input}`,
  'aws:cloudwatch/metricAlarm:MetricAlarm': (inputs) =>
    `${inputs['metricName']} ≥ ${inputs['threshold']} in ${inputs['period']} s`,
  'aws:cloudwatch/logGroup:LogGroup': (inputs) => `${inputs['retentionInDays']} days`,
  'aws:cloudfront/distribution:Distribution': (inputs) => `${inputs['aliases'] ?? 'without a name of its own'}`,
  'aws:iam/role:Role': (inputs) => {
    const policies = (inputs['inlinePolicies'] ?? []) as { policy: string }[];
    return policies
      .flatMap(({ policy }) => (JSON.parse(policy) as { statements: { actions: string[] }[] }).statements)
      .flatMap(({ actions }) => actions)
      .join(' ');
  },
  'neon:index/project:Project': (inputs, { isProtected }) =>
    `PostgreSQL ${inputs['pgVersion']} in ${inputs['regionId']}${isProtected ? ', protected' : ''}`,
  'upstash:index/redisDatabase:RedisDatabase': (inputs, { isProtected }) =>
    `Redis in ${inputs['primaryRegion']}${isProtected ? ', protected' : ''}`,
};

/** The resources of a stage that exist at a provider, one a line. */
export function printTable(graph: Graph): string {
  const shown = graph.resources.filter(({ type }) => /^(aws|neon|upstash):/.test(type));
  const lines = shown.map((resource) => {
    const kind = resource.type.replace(/^aws:(.*?)\/.*:/, '$1 ').replace(/^(neon|upstash):.*:/, '$1 ');
    const facts = describers[resource.type]?.(resource.inputs, resource, graph) ?? '';
    return `  ${kind.padEnd(36)}${resource.name.replace(/\.sst\..*/, '').padEnd(48)}${facts}`.trimEnd();
  });
  return `${graph.stage}: ${graph.resources.length} resources, ${shown.length} of them at a provider\n${lines.join('\n')}\n`;
}
