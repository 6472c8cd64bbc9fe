import { createHash } from 'node:crypto';
import { Redis as UpstashClient } from '@upstash/redis';
import { Problem } from '../base/problem.ts';
import { noTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import type { Bounds, CallOptions, Redis } from './redis.ts';
import {
  type Call,
  entryKey,
  entryKeys,
  everyKey,
  getScript,
  readGetReply,
  readStoreReply,
  storeScript,
  toGetCall,
  toStoreCall,
} from './scripts.ts';

const sha1 = (text: string) => createHash('sha1').update(text).digest('hex');

// Upstash runs a script that declares all its keys without locking the database; plain Redis refuses the flag.
const withFlag = (script: string) => `#!lua flags=allow-key-locking${script}`;

/**
 * Layer 2 on Upstash by REST. The client's own retries, pipelining, decoding and telemetry are off: a call is one
 * request, ends at its deadline, and its errors carry neither keys nor values.
 *
 * @throws Problem `unavailable` from either verb where there is no answer.
 */
export function createUpstashRedis(deps: { url: string; token: string; bounds: Bounds; telemetry?: Telemetry }): Redis {
  const { url, token, bounds, telemetry = noTelemetry } = deps;
  const client = (signal: () => AbortSignal) =>
    new UpstashClient({
      url,
      token,
      retry: { retries: 0 },
      automaticDeserialization: false,
      responseEncoding: false,
      enableTelemetry: false,
      enableAutoPipelining: false,
      // The object form of a signal turns an abort into an empty answer; the function form throws.
      signal,
    });
  let isFlagged = true;

  const run = (script: string, call: Call, options?: CallOptions): Promise<unknown> => {
    const sentBytes = call.args.reduce((sum, arg) => sum + arg.length, 0);
    return ask((redis) => evaluate(redis, script, call), { ...options, sentBytes });
  };

  async function ask<Value>(
    work: (redis: UpstashClient) => Promise<Value>,
    options: Partial<CallOptions> & { readonly sentBytes: number },
  ): Promise<Value> {
    const started = performance.now();
    const { sentBytes, deadlineMs = 1000 } = options;
    const deadline = AbortSignal.timeout(deadlineMs);
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
    const redis = client(() => signal);
    let outcome: 'ok' | 'unavailable' = 'unavailable';
    try {
      const answer = await work(redis);
      outcome = 'ok';
      return answer;
    } catch (error) {
      // The client's message quotes the whole command.
      throw new Problem('unavailable', 'Redis does not answer.', {}, new Error(describe(error)));
    } finally {
      telemetry.engineCall({
        engine: 'redis',
        durationMs: performance.now() - started,
        sentBytes,
        receivedBytes: 0,
        outcome,
      });
    }
  }

  async function evaluate(redis: UpstashClient, script: string, { keys, args }: Call): Promise<unknown> {
    const text = isFlagged ? withFlag(script) : script;
    const mutable = { keys: [...keys], args: [...args] };
    try {
      return await redis.evalsha(sha1(text), mutable.keys, mutable.args);
    } catch (error) {
      if (!isAbout(error, 'NOSCRIPT')) throw error;
    }
    try {
      return await redis.eval(text, mutable.keys, mutable.args);
    } catch (error) {
      if (!isFlagged || !isAbout(error, 'Unexpected flag')) throw error;
      isFlagged = false;
      return evaluate(redis, script, { keys, args });
    }
  }

  return {
    async get(space, request, options) {
      return readGetReply(await run(getScript, toGetCall(space, request, bounds), options));
    },
    async store(space, request, options) {
      return readStoreReply(await run(storeScript, toStoreCall(space, request, bounds), options));
    },
    async purge(space, prefixes, options) {
      const match = prefixes === 'all' ? everyKey(space) : entryKeys(space);
      const named = prefixes === 'all' ? [''] : prefixes.map((prefix) => entryKey(space, prefix));
      let gone = 0;
      const until = performance.now() + (options?.deadlineMs ?? 10_000);
      const left = () => ({ ...options, sentBytes: 0, deadlineMs: Math.max(Math.ceil(until - performance.now()), 1) });
      for (let cursor = '0'; ; ) {
        const [next, keys] = await ask((redis) => redis.scan(cursor, { match, count: 1000 }), left());
        const going = keys.filter((key) => named.some((prefix) => key.startsWith(prefix)));
        if (going.length > 0) gone += await ask((redis) => redis.unlink(...going), left());
        if (next === '0') return gone;
        cursor = next;
      }
    },
    async ping(options) {
      await ask((redis) => redis.ping(), { ...options, sentBytes: 0 });
    },
  };
}

const isAbout = (error: unknown, text: string) => error instanceof Error && error.message.includes(text);

/** The kind of an error and its first words, which are Redis's own and hold no command. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  const words = /\b(NOAUTH|WRONGPASS|OOM|READONLY|LOADING|ERR [a-zA-Z ]{1,60})/.exec(error.message)?.[0] ?? '';
  return `${error.name} ${words}`.trim();
}
