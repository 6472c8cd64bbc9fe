import type { APIGatewayProxyEventV2, SQSEvent } from 'aws-lambda';

/** The owner's token of the functions under test. */
export const ownerToken = 'lam_default_owner_0123456789';

const host = 'abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws';

/**
 * A request as a Function URL hands it over.
 * https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
 */
export function urlEvent(
  method: string,
  target: string,
  of: { body?: unknown; headers?: Readonly<Record<string, string>> } = {},
): APIGatewayProxyEventV2 {
  const { pathname, search, searchParams } = new URL(target, `https://${host}`);
  const { body, headers = {} } = of;
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath: pathname,
    rawQueryString: search.slice(1),
    ...(search === '' ? {} : { queryStringParameters: Object.fromEntries(searchParams) }),
    headers: {
      accept: '*/*',
      authorization: `Bearer ${ownerToken}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      'x-amzn-trace-id': 'Root=1-5e1b4151-43a0913a12345678901234567',
      'x-forwarded-for': '203.0.113.7',
      'x-forwarded-host': 'lamina.example.com',
      'x-forwarded-port': '443',
      'x-forwarded-proto': 'https',
      host,
      ...headers,
    },
    requestContext: {
      accountId: 'anonymous',
      apiId: host.split('.')[0] as string,
      domainName: host,
      domainPrefix: host.split('.')[0] as string,
      http: { method, path: pathname, protocol: 'HTTP/1.1', sourceIp: '203.0.113.7', userAgent: 'test' },
      requestId: '8f2c1e4a-6f0b-4d0e-9a3d-1b7c5e9f0a2d',
      routeKey: '$default',
      stage: '$default',
      time: '31/Jan/2026:12:00:00 +0000',
      timeEpoch: 1_769_860_800_000,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    isBase64Encoded: false,
  };
}

/**
 * A batch as the event source mapping of a queue hands it over; a body that is no text is sent as JSON.
 * https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event
 */
export function batchEvent(bodies: readonly unknown[]): SQSEvent {
  return {
    Records: bodies.map((body, index) => ({
      messageId: `059f36b4-87a3-44ab-83d2-${String(index).padStart(12, '0')}`,
      receiptHandle: `AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a${index}`,
      body: typeof body === 'string' ? body : JSON.stringify(body),
      attributes: {
        ApproximateReceiveCount: '1',
        SentTimestamp: '1545082649183',
        SenderId: 'AIDAIENQZJOLO23YVJ4VO',
        ApproximateFirstReceiveTimestamp: '1545082649185',
      },
      messageAttributes: {},
      md5OfBody: 'e4e68fb7bd0e697a0ae8f1bb342846b3',
      eventSource: 'aws:sqs',
      eventSourceARN: 'arn:aws:sqs:eu-central-1:123456789012:IndexQueue',
      awsRegion: 'eu-central-1',
    })),
  };
}

/** The ids of those messages of a batch, by their place in it. */
export const messageIds = (event: SQSEvent, ...places: readonly number[]) =>
  places.map((place) => ({ itemIdentifier: event.Records[place]?.messageId }));
