import { once } from 'node:events';
import type { APIGatewayProxyEventV2, StreamifyHandler } from 'aws-lambda';
import { refusal } from '../../lib/http/refusal.ts';
import { readRequest } from './request.ts';

/** What answers a request; `leftMs` is how long the function may still work on it. */
export interface App {
  fetch(request: Request, host: { readonly leftMs: number }): Response | Promise<Response>;
}

/**
 * Answers requests of the Function URL, each in pieces behind its status and headers: without those Lambda would make a 200 of
 * whatever is written.
 *
 * A body that breaks off rejects: Lambda's client tells whoever reads on behind what was sent, and goes on to the next event.
 * To destroy the stream instead would end the process.
 */
export function createAnswer({
  app,
  newId,
}: {
  app: App;
  newId: () => string;
}): StreamifyHandler<APIGatewayProxyEventV2> {
  return async (event, stream, context) => {
    const request = readRequest(event);
    const { status, headers, body } =
      request === undefined
        ? await refusal(newId())
        : await app.fetch(request, { leftMs: context.getRemainingTimeInMillis() });
    const answer = awslambda.HttpResponseStream.from(stream, {
      statusCode: status,
      headers: Object.fromEntries(headers),
    });
    // The first piece brings status and headers, where there is no other as well.
    answer.write('');
    for await (const piece of body ?? []) if (!answer.write(piece)) await once(answer, 'drain');
    answer.end();
  };
}
