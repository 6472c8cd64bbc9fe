import { Writable } from 'node:stream';
import type { Context, StreamifyHandler } from 'aws-lambda';

/**
 * Has a first request answered before there is one, while a function that starts has a whole processor to itself: Node loads
 * what requests are made of with the first, and so do routes and schemas. The id is none, so it is checked, refused, and
 * nobody is asked.
 */
export async function primeAnswer(answer: StreamifyHandler, token: string): Promise<void> {
  const path = '/v1/contexts/-';
  const event = {
    rawPath: path,
    rawQueryString: '',
    headers: { host: 'localhost', authorization: `Bearer ${token}` },
    requestContext: { http: { method: 'GET', path }, domainName: 'localhost' },
  };
  const nowhere = new Writable({ write: (_piece, _encoding, done) => done() });
  await answer(event, Object.assign(nowhere, { setContentType() {} }), {} as Context);
}
