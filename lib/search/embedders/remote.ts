import ky, { HTTPError } from 'ky';
import pMap from 'p-map';
import { Problem } from '../../base/problem.ts';
import type { Telemetry } from '../../telemetry/telemetry.ts';
import { type Embedder, toUnit } from '../embedder.ts';

/** What an API of embeddings wants to be asked, and how it answers. */
export interface Provider {
  /** `provider:model:dimensions`. */
  readonly id: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly dimensions: number;
  /** Texts of one call at most. */
  readonly textsMax: number;
  /** Calls under way at once. */
  readonly callsMax: number;
  /** Cuts what the API would refuse as too long. */
  cut(text: string): string;
  /** In US dollars; null where it is not known. */
  readonly usdPerMillionTokens: number | null;
  readonly sign?: (url: string, init: { method: string; headers: Headers; body: string }) => Promise<Request>;
  toBody(texts: readonly string[], purpose: 'document' | 'query'): unknown;
  /**
   * The vectors in the order of the texts, as they came, and the tokens that are charged.
   *
   * @throws for an answer of another form.
   */
  readAnswer(answer: unknown, headers: Headers): { readonly vectors: readonly unknown[]; readonly tokens: number };
}

// With a sentence encoder .5 finds a little more than .3 (R@10 .652 of LoCoMo's turns).
const weight = 0.5;
// Of one call, so that its tokens stay below what each of the APIs takes.
const callBytesMax = 100_000;
const callMs = 20_000;
const documentsMs = 120_000;
const retriesMax = 4;

/**
 * An embedder behind an API. A text that the API does not answer as it does others has no vector; what fails together is asked
 * in halves.
 * Answers of 429 and 5xx are asked again, when `Retry-After` says so, else after a wait that doubles, until the deadline.
 */
export function createRemoteEmbedder({ provider, telemetry }: { provider: Provider; telemetry: Telemetry }): Embedder {
  const { id, textsMax, callsMax, usdPerMillionTokens } = provider;

  async function ask(texts: readonly string[], purpose: 'document' | 'query', signal: AbortSignal) {
    const started = performance.now();
    const body = JSON.stringify(provider.toBody(texts, purpose));
    let outcome: 'ok' | 'refused' | 'unavailable' = 'unavailable';
    let received = '';
    let tokens = 0;
    try {
      const response = await post(provider, body, signal);
      received = await response.text();
      const answer = provider.readAnswer(JSON.parse(received), response.headers);
      tokens = answer.tokens;
      if (answer.vectors.length !== texts.length) throw new Error(`${answer.vectors.length} vectors`);
      const vectors = answer.vectors.map((vector) => toUnit(readVector(vector, provider.dimensions)));
      outcome = 'ok';
      return vectors;
    } catch (error) {
      if (isRefusal(error)) outcome = 'refused';
      throw error;
    } finally {
      telemetry.engineCall({
        engine: 'embedder',
        durationMs: performance.now() - started,
        sentBytes: body.length,
        receivedBytes: received.length,
        outcome,
        tokens,
        usd: (tokens * (usdPerMillionTokens ?? 0)) / 1e6,
      });
    }
  }

  async function embedTogether(
    texts: readonly string[],
    purpose: 'document' | 'query',
    signal: AbortSignal,
  ): Promise<(Float32Array | null)[]> {
    try {
      return await ask(texts, purpose, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // Whether it is a text that is refused, or answered as none should be, or all of them are.
      await ask(['text'], purpose, signal);
      if (texts.length === 1) return [null];
      const half = texts.length >> 1;
      const first = await embedTogether(texts.slice(0, half), purpose, signal);
      return [...first, ...(await embedTogether(texts.slice(half), purpose, signal))];
    }
  }

  return {
    id,
    dimensions: provider.dimensions,
    weight,
    isRemote: true,
    batchMax: textsMax * callsMax,
    async embed(texts, { purpose, signal }) {
      const asked = texts.flatMap((text, at) => (text.trim() === '' ? [] : [{ at, text: provider.cut(text) }]));
      const deadline = AbortSignal.any([AbortSignal.timeout(documentsMs), ...(signal ? [signal] : [])]);
      const made = new Array<Float32Array | null>(texts.length).fill(null);
      try {
        await pMap(
          toCalls(asked, textsMax),
          async (call) => {
            const vectors = await embedTogether(
              call.map(({ text }) => text),
              purpose,
              deadline,
            );
            for (const [index, { at }] of call.entries()) made[at] = vectors[index] ?? null;
          },
          { concurrency: callsMax },
        );
      } catch (error) {
        throw new Problem('unavailable', `The embedder ${id} ${describe(error)}.`);
      }
      return made;
    },
  };
}

function post(provider: Provider, body: string, signal: AbortSignal): Promise<Response> {
  const { url, sign } = provider;
  const headers = new Headers({ 'content-type': 'application/json', accept: 'application/json', ...provider.headers });
  return ky.post(url, {
    body,
    headers,
    signal,
    timeout: callMs,
    retry: {
      limit: retriesMax,
      methods: ['post'],
      retryOnTimeout: true,
      jitter: true,
      // Beyond the deadline it ends there.
      maxRetryAfter: documentsMs,
    },
    // Signed anew each time, since a signature holds a time.
    ...(sign && {
      fetch: async (_: unknown, init?: RequestInit) =>
        fetch(await sign(url, { method: 'POST', headers, body }), { signal: init?.signal ?? signal }),
    }),
  });
}

function readVector(vector: unknown, dimensions: number): Float32Array {
  const values = Array.isArray(vector) ? Float32Array.from(vector as number[]) : fromBase64(vector);
  if (values.length !== dimensions) throw new Error(`a vector of ${values.length}`);
  if (!values.every(Number.isFinite)) throw new Error('a vector of what are no numbers');
  return values;
}

/** Floats of 32 bits, little-endian, as OpenAI and Voyage send them. */
function fromBase64(text: unknown): Float32Array {
  if (typeof text !== 'string') throw new Error('no vector');
  const bytes = Buffer.from(text, 'base64');
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4 * Math.floor(bytes.length / 4)));
}

const isRefusal = (error: unknown) => error instanceof HTTPError && [400, 413, 422].includes(error.response.status);

/** Says neither what was sent nor what came: either may hold texts or keys. */
function describe(error: unknown): string {
  if (error instanceof HTTPError) return `answers ${error.response.status}`;
  const name = error instanceof Error ? error.name : '';
  if (['TimeoutError', 'AbortError'].includes(name)) return 'does not answer in time';
  return name === 'NetworkError' || (error instanceof TypeError && /fetch/.test(error.message))
    ? 'cannot be reached'
    : 'answers what is no embedding of this model';
}

/** In order, as many at once as a call may hold. */
function toCalls<One extends { readonly text: string }>(asked: readonly One[], textsMax: number): One[][] {
  const calls: One[][] = [];
  let bytes = 0;
  for (const one of asked) {
    const own = Buffer.byteLength(one.text);
    const last = calls.at(-1);
    if (last === undefined || last.length >= textsMax || bytes + own > callBytesMax) {
      calls.push([one]);
      bytes = own;
    } else {
      last.push(one);
      bytes += own;
    }
  }
  return calls;
}
