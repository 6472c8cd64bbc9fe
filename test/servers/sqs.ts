import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readText } from './body.ts';

/** A message as a queue got it. */
export interface Sent {
  /** The last part of the queue's URL. */
  readonly queue: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** SQS, as far as messages are sent to it by its JSON protocol. */
export interface SqsEndpoint {
  urlOf(queue: string): string;
  /** What has arrived since it was asked last. */
  take(): Sent[];
  /** What the next messages meet. */
  fail(how: 'hang' | 'refuse' | undefined): void;
  stop(): Promise<void>;
}

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html */
export async function startSqs(): Promise<SqsEndpoint> {
  const sent: Sent[] = [];
  let failure: 'hang' | 'refuse' | undefined;
  const server = createServer(async (request, response) => {
    const { QueueUrl: url, MessageBody: body } = JSON.parse(await readText(request, 262_144)) as Record<string, string>;
    const { authorization = '', 'x-amz-target': target } = request.headers;
    const isSigned = /^AWS4-HMAC-SHA256 Credential=\w+\/\d{8}\/[\w-]+\/sqs\/aws4_request/.test(authorization);
    if (failure === 'hang') return;
    if (failure === 'refuse' || !isSigned || target !== 'AmazonSQS.SendMessage') {
      response.writeHead(403).end('{}');
      return;
    }
    sent.push({ queue: url?.split('/').at(-1) ?? '', body: JSON.parse(body ?? '{}') as Sent['body'] });
    response.end(JSON.stringify({ MessageId: String(sent.length) }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    urlOf: (queue) => `${origin}/123456789012/${queue}`,
    take: () => sent.splice(0),
    fail: (how) => {
      failure = how;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
