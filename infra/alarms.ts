import type { Made } from './functions.ts';
import type { Queues } from './queues.ts';
import type { Stage } from './stage.ts';

interface Watched {
  readonly metric: string;
  readonly namespace: string;
  readonly dimensions?: Record<string, $util.Input<string>>;
  /** From which number on. */
  readonly threshold: number;
  readonly statistic: 'Sum' | 'Maximum' | 'p95';
  readonly says: string;
}

/** Tells by mail what somebody has to look at; how much of it is too much stands in config/context.yaml. */
export function raiseAlarms(stage: Stage, of: { functions: readonly Made[]; api: Made; queues: Queues }): void {
  const { alarms } = stage.settings;
  const topic = new aws.sns.Topic('Alarms', {});
  for (const [index, endpoint] of alarms.emails.entries()) {
    new aws.sns.TopicSubscription(`AlarmMail${index}`, { topic: topic.arn, protocol: 'email', endpoint });
  }

  function watch(name: string, { metric, namespace, dimensions, threshold, statistic, says }: Watched): void {
    new aws.cloudwatch.MetricAlarm(name, {
      alarmDescription: `${$app.name} ${$app.stage}: ${says}`,
      namespace,
      metricName: metric,
      ...(dimensions === undefined ? {} : { dimensions }),
      ...(statistic === 'p95' ? { extendedStatistic: 'p95' } : { statistic }),
      period: alarms.minutes * 60,
      evaluationPeriods: 1,
      comparisonOperator: 'GreaterThanOrEqualToThreshold',
      threshold,
      treatMissingData: 'notBreaching',
      alarmActions: [topic.arn],
      okActions: [topic.arn],
    });
  }

  for (const { name, fn, logs } of of.functions) {
    const lambda = { namespace: 'AWS/Lambda', dimensions: { FunctionName: fn.name }, statistic: 'Sum' } as const;
    watch(`${name}Errors`, {
      ...lambda,
      metric: 'Errors',
      threshold: alarms.functionErrors,
      says: `${name} failed.`,
    });
    const logged = `${$app.name}-${$app.stage}-${name}`;
    new aws.cloudwatch.LogMetricFilter(`${name}LoggedErrors`, {
      logGroupName: logs.name,
      pattern: '{ $.level = "ERROR" }',
      metricTransformation: { name: logged, namespace: 'Lamina', value: '1', defaultValue: '0' },
    });
    watch(`${name}Logged`, {
      namespace: 'Lamina',
      metric: logged,
      statistic: 'Sum',
      threshold: alarms.loggedErrors,
      says: `${name} has logged errors and gone on.`,
    });
  }

  const api = { namespace: 'AWS/Lambda', dimensions: { FunctionName: of.api.fn.name } };
  watch('ApiThrottles', {
    ...api,
    metric: 'Throttles',
    statistic: 'Sum',
    threshold: alarms.throttles,
    says: 'Requests found no function free.',
  });
  watch('ApiFailures', {
    ...api,
    metric: 'Url5xxCount',
    statistic: 'Sum',
    threshold: alarms.apiFailures,
    says: 'The API answers with 5xx.',
  });
  watch('ApiLatency', {
    ...api,
    metric: 'UrlRequestLatency',
    statistic: 'p95',
    threshold: alarms.apiMs,
    says: 'The API is slow.',
  });

  const { index, sync, indexDead, syncDead, scheduleDead } = of.queues;
  const queueOf = (queue: sst.aws.Queue) => ({
    namespace: 'AWS/SQS',
    dimensions: { QueueName: queue.nodes.queue.name },
    statistic: 'Maximum' as const,
  });
  for (const [name, queue] of Object.entries({ IndexQueue: index, SyncQueue: sync })) {
    watch(`${name}Age`, {
      ...queueOf(queue),
      metric: 'ApproximateAgeOfOldestMessage',
      threshold: alarms.queueSeconds,
      says: `${name} is behind.`,
    });
  }
  for (const [name, queue] of Object.entries({
    IndexDead: indexDead,
    SyncDead: syncDead,
    ScheduleDead: scheduleDead,
  })) {
    watch(`${name}Letters`, {
      ...queueOf(queue),
      metric: 'ApproximateNumberOfMessagesVisible',
      threshold: alarms.deadLetters,
      says: `Something was given up and lies in ${name}.`,
    });
  }
}
