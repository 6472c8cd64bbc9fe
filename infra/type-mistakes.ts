// Never run. The compiler has to find each of these, or says that what it was to find is not there.

// @ts-expect-error: there is no such setting of a door
new sst.aws.Function('A', { handler: 'a.b', url: { corss: false } });
// @ts-expect-error: a dead-letter queue is named by its ARN
new sst.aws.Queue('B', { dlq: 5 });
// @ts-expect-error: it is a number that is tried
new sst.aws.Queue('C', { dlq: { queue: 'arn', retry: '5' } });
// @ts-expect-error: periods are numbers
new aws.cloudwatch.MetricAlarm('D', { comparisonOperator: 'GreaterThanThreshold', evaluationPeriods: '1' });
// @ts-expect-error: Neon has no such setting
new neon.Project('E', { name: 'e', region: 'eu-central-1' });
// @ts-expect-error: Upstash wants a name
new upstash.RedisDatabase('F', { region: 'global' });
// @ts-expect-error: a function has no such output
new sst.aws.Function('G', { handler: 'a.b' }).ull;
