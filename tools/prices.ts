/** What one provider asks for one thing, in US dollars. */
export interface Price {
  readonly of: string;
  readonly usd: number;
  /** For so many of them. */
  readonly per: number;
  readonly unit: string;
  /** So many a month cost nothing, in every month. */
  readonly free: number;
  readonly source: string;
  /** What was read there, when, and what is not certain of it. */
  readonly read: string;
}

const lambda = 'https://aws.amazon.com/lambda/pricing/';
const lambdaNotes = 'https://git.mcrn.ar/mariano/lambda_local_runner/src/branch/main/docs/lambdas-md/lambda-13-cost.md';
const cloudfront = 'https://aws.amazon.com/cloudfront/pricing/';
const cloudwatch = 'https://aws.amazon.com/cloudwatch/pricing/';
const neon = 'https://neon.com/docs/introduction/plans';
const upstash = 'https://upstash.com/docs/redis/overall/billing';

/** AWS as of US East (N. Virginia). */
export const prices = {
  edgeRequests: {
    of: 'CloudFront, HTTPS requests',
    usd: 0.01,
    per: 10_000,
    unit: 'request',
    free: 10_000_000,
    source: 'https://www.factualminds.com/blog/amazon-cloudfront-pricing-regional-tiers-requests-security/',
    read: `2026-06-13; the free part by [AWS](${cloudfront}). In Europe **unverified**`,
  },
  edgeFunctions: {
    of: 'CloudFront, functions',
    usd: 0.1,
    per: 1_000_000,
    unit: 'call',
    free: 2_000_000,
    source: 'https://cur.vantage.sh/aws/amazoncloudfront/',
    read: 'undated; the free part by AWS',
  },
  edgeKeys: {
    of: 'CloudFront, KeyValueStore',
    usd: 0.03,
    per: 1_000_000,
    unit: 'read',
    free: 2_000_000,
    source: cloudfront,
    read: '**unverified**: only the free part was read, undated',
  },
  edgeBytes: {
    of: 'CloudFront, to the internet',
    usd: 0.085,
    per: 1,
    unit: 'GB',
    free: 1024,
    source: cloudfront,
    read: 'undated; first 10 TB, US, Canada and Europe',
  },
  lambdaRequests: {
    of: 'Lambda, requests',
    usd: 0.2,
    per: 1_000_000,
    unit: 'request',
    free: 1_000_000,
    source: lambdaNotes,
    read: `2026-05-11, at second hand; the free part by [AWS](${lambda}), 2026-09-20`,
  },
  lambdaSeconds: {
    of: 'Lambda, arm64',
    usd: 0.0000133334,
    per: 1,
    unit: 'GB-s',
    free: 400_000,
    source: lambdaNotes,
    read: '2026-05-11, at second hand: AWS’s page fills its table in by script',
  },
  sqsRequests: {
    of: 'SQS, standard queues',
    usd: 0.4,
    per: 1_000_000,
    unit: 'request',
    free: 1_000_000,
    source: 'https://cloudburn.io/blog/amazon-sqs-pricing',
    read: '2026-03-14',
  },
  schedulerRuns: {
    of: 'EventBridge Scheduler',
    usd: 1,
    per: 1_000_000,
    unit: 'run',
    free: 14_000_000,
    source: 'https://cloudburn.io/blog/amazon-eventbridge-pricing',
    read: '2026-03-13',
  },
  logBytes: {
    of: 'CloudWatch Logs, taken in',
    usd: 0.5,
    per: 1,
    unit: 'GB',
    free: 5,
    source: 'https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/',
    read: `2026-06-13; the free part by [AWS](${cloudwatch})`,
  },
  alarms: {
    of: 'CloudWatch, alarms',
    usd: 0.1,
    per: 1,
    unit: 'alarm',
    free: 10,
    source: 'https://c3x.dev/resources/aws/aws_cloudwatch_metric_alarm',
    read: `undated; the free part by [AWS](${cloudwatch})`,
  },
  metrics: {
    of: 'CloudWatch, metrics of one’s own',
    usd: 0.3,
    per: 1,
    unit: 'metric',
    free: 10,
    source: 'https://signoz.io/guides/cloudwatch-pricing',
    read: `2026-02-15; the free part by [AWS](${cloudwatch})`,
  },
  redisCommands: {
    of: 'Upstash, pay as you go',
    usd: 0.2,
    per: 100_000,
    unit: 'command',
    free: 0,
    source: upstash,
    read: '2026-11-09. That a script is one command is **unverified**: the page says “billed per request”',
  },
  redisBytes: {
    of: 'Upstash, bandwidth',
    usd: 0.03,
    per: 1,
    unit: 'GB',
    free: 200,
    source: upstash,
    read: '2026-09-20',
  },
  computeHours: {
    of: 'Neon Launch, compute',
    usd: 0.106,
    per: 1,
    unit: 'CU-hour',
    free: 0,
    source: neon,
    read: '2026-11-12; Scale: $0.222',
  },
  storage: {
    of: 'Neon, storage',
    usd: 0.35,
    per: 1,
    unit: 'GB-month',
    free: 0,
    source: neon,
    read: '2026-11-12',
  },
  history: {
    of: 'Neon, history for restoring',
    usd: 0.2,
    per: 1,
    unit: 'GB-month',
    free: 0,
    source: neon,
    read: '2026-03-20',
  },
} as const satisfies Record<string, Price>;

export type Prices = Readonly<Record<keyof typeof prices, Price>>;
