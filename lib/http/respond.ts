import { gzip, zstdCompress } from 'node:zlib';
import { awaitable } from '../base/codec.ts';
import { printPlain } from '../base/json.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { Problem } from '../base/problem.ts';
import { type CacheRead, type EngineCall, noTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import { type Coding, toCodedTag } from './preconditions.ts';
import type { Answer } from './route.ts';

const encoders: Readonly<Record<Coding, (body: string | Uint8Array) => Promise<Buffer>>> = {
  zstd: awaitable(zstdCompress),
  gzip: awaitable(gzip),
};
// Below this the headers weigh more than what is saved.
const compressedBytesMin = 1024;

/** What one request touched, for the headers that tell of it. */
export interface Timing extends Telemetry {
  readonly calls: readonly EngineCall[];
  /** What the caches answered; undefined where none was asked. */
  readonly read: CacheRead | undefined;
}

export function createTiming(): Timing {
  const calls: EngineCall[] = [];
  const timing = {
    ...noTelemetry,
    calls,
    read: undefined as CacheRead | undefined,
    engineCall: (call: EngineCall) => void calls.push(call),
    cacheRead(_kind: string, of: CacheRead) {
      timing.read = of;
    },
  };
  return timing;
}

/** `Server-Timing`: one entry an engine, in milliseconds. */
function serverTiming(calls: readonly EngineCall[]): string {
  if (calls.length === 0) return 'lamina;dur=0';
  const engines = [...new Set(calls.map((call) => call.engine))];
  return engines
    .map((engine) => {
      const own = calls.filter((call) => call.engine === engine);
      const sum = own.reduce((total, call) => total + call.durationMs, 0);
      return `${engine};dur=${sum.toFixed(1)};desc="${own.length} requests"`;
    })
    .join(', ');
}

/** `Cache-Status` (RFC 9211), the layer next to the origin first. */
function cacheStatus(read: CacheRead): string {
  if (read.detail === 'bypass') return 'l2; fwd=bypass, l1; fwd=bypass';
  const stored = read.isStored ? '; stored' : '';
  const detail = read.detail === undefined ? '' : `; detail=${read.detail}`;
  const missed = `l2; fwd=miss${stored}${detail}, l1; fwd=miss${stored}`;
  // Of several values the farthest tells.
  if (read.layers.includes('origin')) return missed;
  if (read.layers.includes('l3')) return `l3; hit, ${missed}`;
  const ttl = read.ttlMs === undefined ? '' : `; ttl=${Math.floor(read.ttlMs / 1000)}`;
  return read.layers.includes('l2') ? `l2; hit${ttl}${detail}, l1; fwd=miss${stored}` : `l1; hit${detail}`;
}

/** The request that is answered. */
export interface Asked {
  readonly requestId: string;
  readonly timing: Timing;
  readonly acceptEncoding: string | null;
  /** Hears why a body broke off that was being sent; whoever reads it sees no more than that it has. */
  readonly onBroken?: (error: unknown) => void;
}

/** Makes the one Response of an answer, compressed where the caller takes it and it pays. */
export function toResponse(answer: Answer, about: Asked): MaybePromise<Response> {
  const { status = 200, body, lengthBytes } = answer;
  const headers = toHeaders(answer, about);
  if (status === 304) headers['vary'] = 'accept-encoding';
  if (body === undefined) return new Response(null, { status, headers });
  headers['content-type'] = answer.contentType ?? 'application/json';
  const isStream = typeof body === 'object' && Symbol.asyncIterator in body;
  if (isStream) {
    if (lengthBytes !== undefined) headers['content-length'] = String(lengthBytes);
    return new Response(ReadableStream.from(breaking(body, about)), { status, headers });
  }
  const isReady = typeof body === 'object' && 'plain' in body;
  const plain = isReady ? body.plain : (body as string | Uint8Array<ArrayBuffer>);
  if (plain.length < compressedBytesMin || status === 206) return new Response(plain, { status, headers });
  headers['vary'] = 'accept-encoding';
  const encoding = acceptedEncoding(about.acceptEncoding);
  if (encoding === undefined) return new Response(plain, { status, headers });
  headers['content-encoding'] = encoding;
  if (headers['etag'] !== undefined) headers['etag'] = toCodedTag(headers['etag'], encoding);
  const encoded = (isReady ? body.encoded.get(encoding) : undefined) ?? encode(encoding, plain);
  if (isReady) {
    body.encoded.set(encoding, encoded);
    encoded.catch(() => body.encoded.delete(encoding));
  }
  return encoded.then((bytes) => new Response(bytes, { status, headers }));
}

async function* breaking(body: AsyncIterable<Uint8Array>, { requestId, onBroken }: Asked): AsyncIterable<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    onBroken?.(error);
    // Servers print what breaks a stream, and a driver's error may hold anything.
    throw new Error(`The answer to request ${requestId} broke off.`);
  }
}

function toHeaders({ seq, headers: own }: Answer, about: Asked) {
  const headers: Record<string, string> = {
    'x-request-id': about.requestId,
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  };
  if (seq !== undefined) headers['context-seq'] = String(seq);
  if (own !== undefined) Object.assign(headers, own);
  const { calls, read } = about.timing;
  if (read !== undefined) {
    headers['cache-status'] = cacheStatus(read);
    // What PostgreSQL's tables have told has no age.
    if (!read.layers.includes('origin')) headers['age'] = String(Math.floor(read.ageMs / 1000));
  }
  headers['server-timing'] = serverTiming(calls);
  return headers;
}

const encode = async (encoding: Coding, body: string | Uint8Array) =>
  (await encoders[encoding](body)) as Uint8Array<ArrayBuffer>;

function acceptedEncoding(header: string | null): Coding | undefined {
  if (header === null) return undefined;
  const taken = header
    .toLowerCase()
    .split(',')
    .map((one) => one.split(';').map((part) => part.trim()))
    .filter(([, quality]) => quality === undefined || !/^q=0(\.0*)?$/.test(quality))
    .map(([name]) => name);
  return (['zstd', 'gzip'] as const).find((one) => taken.includes(one));
}

/** A problem as RFC 9457 asks: https://www.rfc-editor.org/rfc/rfc9457 */
export function problemAnswer(problem: Problem, requestId: string): Answer {
  const { code, status, title, facts, retryAfterSeconds } = problem;
  const limit = facts['rangeOf'];
  const headers: Record<string, string> = {
    ...(code === 'unauthenticated' ? { 'www-authenticate': 'Bearer' } : {}),
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    ...(limit === undefined ? {} : { 'content-range': `bytes */${limit}` }),
    ...(typeof facts['allow'] === 'string' ? { allow: facts['allow'] } : {}),
  };
  return {
    status,
    contentType: 'application/problem+json',
    headers,
    body: printPlain({ ...problemBody(problem), requestId, title, status }),
  };
}

/** A problem as it stands inside a list of answers. */
export function problemBody(problem: Problem): Record<string, unknown> {
  const { code, message, facts, title, status } = problem;
  return { type: `https://lamina.dev/problems/${code}`, title, status, detail: message, code, ...facts };
}

/** What a caller is told of an error nobody foresaw: nothing but that it happened. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem('internal', 'Something went wrong here; the request id finds it in the logs.', {}, error);
}
