import { Problem } from '../base/problem.ts';
import { jsonType } from '../merge/document.ts';

/** How a call is made: by GET where there is no body, by POST with one, unless `method` says otherwise. */
export interface AskOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON as text, or bytes. */
  readonly body?: string | Uint8Array | undefined;
}

/** Calls of the interface of another Lamina. What is thrown is a Problem: `unavailable` where it does not answer. */
export interface LaminaCalls {
  ask(path: string, how?: AskOptions): Promise<Response>;
  /** An answer whole. @param body asks by POST with it. @throws Problem as its status tells. */
  askText(path: string, body?: string): Promise<string>;
  /** @throws Problem `unprocessable` where it is no JSON, too. */
  askJson<Answer>(path: string): Promise<Answer>;
  /** No answer is to be older than this tick from now on; undefined asks for none. */
  present(seq: string | undefined): void;
  /** What is being asked is given up. */
  close(): void;
}

// More than any answer of its interface takes: 200 contexts of a list with their metadata, or what is inline in a batch.
const answerBytesMax = 67_108_864;

/**
 * @param of.url where the other side's interface is; what it has as its path stands in front of each path.
 * @param of.answerMs how long one answer may take.
 */
export function createLaminaCalls(of: {
  url: string;
  headers: Readonly<Record<string, string>>;
  answerMs: number;
}): LaminaCalls {
  const { origin, pathname } = new URL(of.url);
  const base = origin + pathname.replace(/\/+$/, '');
  const closing = new AbortController();
  let seq: string | undefined;

  async function ask(path: string, how: AskOptions = {}): Promise<Response> {
    const { body, method = body === undefined ? 'GET' : 'POST' } = how;
    const headers = {
      ...of.headers,
      ...(seq ? { 'context-seq': seq } : {}),
      ...(body === undefined
        ? {}
        : { 'content-type': typeof body === 'string' ? jsonType : 'application/octet-stream' }),
      ...how.headers,
    };
    const signal = AbortSignal.any([AbortSignal.timeout(of.answerMs), closing.signal]);
    // The token goes to the peer that was named, and to no other it may send us to.
    const sent = body === undefined ? {} : { body: body as string };
    return fetch(base + path, { method, headers, signal, redirect: 'error', ...sent }).catch((error) => {
      throw new Problem('unavailable', 'The peer does not answer.', {}, error);
    });
  }

  async function askText(path: string, body?: string): Promise<string> {
    const response = await ask(path, { body });
    const bytes = await readBody(response, answerBytesMax);
    if (bytes === undefined)
      throw new Problem('unprocessable', 'The peer answers with more than there can be: is it a Lamina?');
    if (!response.ok) throw toProblem(response.status);
    return bytes.toString();
  }

  return {
    ask,
    askText,
    async askJson<Answer>(path: string) {
      const text = await askText(path);
      try {
        return JSON.parse(text) as Answer;
      } catch (error) {
        throw new Problem('unprocessable', 'The peer answers with no JSON: is it a Lamina?', {}, error);
      }
    },
    present(tick) {
      seq = tick;
    },
    close: () => closing.abort(),
  };
}

/**
 * The body of an answer; undefined where it is larger than `bytesMax`, of which no more is read.
 *
 * @throws Problem `unavailable` where it breaks off.
 */
export async function readBody({ body }: Response, bytesMax: number): Promise<Buffer | undefined> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of body ?? []) {
      bytes += piece.length;
      if (bytes > bytesMax) return undefined;
      pieces.push(piece);
    }
  } catch (error) {
    throw new Problem('unavailable', 'The peer breaks off its answer.', {}, error);
  }
  return Buffer.concat(pieces);
}

/** What an answer that is none amounts to. */
export function toProblem(status: number): Problem {
  if (status === 410) return new Problem('cursor_expired', 'The feed of the peer no longer reaches back that far.');
  if (status === 404) return new Problem('not_found', 'The peer has no such thing: is it a Lamina?');
  if (status === 400) return new Problem('invalid_request', 'The peer answers with status 400: is it a Lamina?');
  if (status === 401 || status === 403)
    return new Problem('unprocessable', 'The peer does not take the token, or not for this.');
  if (status >= 500 || status === 429) return new Problem('unavailable', `The peer answers with status ${status}.`);
  return new Problem('unprocessable', `The peer answers with status ${status}: is it a Lamina?`);
}
