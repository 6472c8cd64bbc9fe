import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { home } from '../../functions/runtime.ts';

/** What an invocation came to. */
export interface Invoked {
  /** What a function that does not stream has answered, as JSON. */
  readonly payload: unknown;
  /** What stands before the body of a streamed answer: its status and headers. */
  readonly prelude: Prelude | undefined;
  /** Pieces of a streamed body, with when they came after the event was handed over. */
  readonly pieces: readonly { readonly atMs: number; readonly bytes: Buffer }[];
  /** Why there is no answer, as whoever invoked the function is told; the answer may have begun. */
  readonly error: { readonly errorType: string; readonly errorMessage: string } | undefined;
  /** Until the runtime asked for the next event, or was ended. */
  readonly tookMs: number;
}

export interface Prelude {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly cookies?: readonly string[];
}

/** One execution environment of a function. */
export interface Instance {
  /** From the start of the process until it asked for its first event. */
  readonly initMs: number;
  /** What of it processors have worked, all threads together: less in doubt where others keep them busy. */
  readonly initCpuMs: number;
  /**
   * Thaws it, hands it an event, and freezes it again once it asks for the next; a function that runs out of time is killed.
   *
   * @param how.seconds the time-out of the function; default 60.
   * @throws RangeError for an event that is larger than Lambda takes.
   */
  invoke(event: unknown, how?: { readonly seconds?: number }): Promise<Invoked>;
  /** Lets that much time pass for it while it is frozen: for both of its clocks, or as after a restored machine for the wall's alone. */
  pass(ms: number, clocks?: 'both' | 'wall'): void;
  /** Lets it run on although nothing was asked, which Lambda does not. */
  thaw(): void;
  /** What kept it awake when it asked for the next event: timers and such, of which there should be none. */
  awake(): readonly string[];
  /** What it has printed. */
  output(): string;
  isAlive(): boolean;
  stop(): Promise<void>;
}

/** https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: of an event and of an answer that is not streamed. */
export const payloadBytesMax = 6_291_456;
const streamBytesMax = 200 * 1024 * 1024;
/** https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html: what starting may take. */
const initMsMax = 10_000;

// How long an answer may be on its way behind the next poll.
const tellingMs = 1000;

const clientFile = join(home, 'infra', 'node_modules', 'aws-lambda-ric', 'index.mjs');
const standIn = fileURLToPath(new URL('lambda-client.cjs', import.meta.url));

/** Whether AWS's runtime client is here: `npm run graph` installs it among what deploys. */
export const hasRuntimeClient = existsSync(clientFile);
if (!hasRuntimeClient && process.env['LAMINA_REQUIRE_SERVERS'] === '1')
  throw new Error("LAMINA_REQUIRE_SERVERS=1, and AWS's runtime client is not installed: npm ci --prefix infra.");
if (!hasRuntimeClient)
  console.warn("AWS's runtime client is not installed: the suites that run built functions are skipped.");

interface Turn {
  readonly id: string;
  readonly startedMs: number;
  readonly pieces: { atMs: number; bytes: Buffer }[];
  prelude?: Prelude;
  payload?: unknown;
  error?: { errorType: string; errorMessage: string };
  isAnswered: boolean;
  /** Hears that the answer is there, or was refused. */
  readonly told: PromiseWithResolvers<void>;
  readonly end: () => void;
}

/**
 * Starts a function as Lambda does: AWS's own runtime client in a process of its own, against a Runtime API with Lambda's limits.
 * https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 *
 * @param of.folder the bundle, with what lies beside it.
 * @throws Error with what the function said where it does not come to its first event.
 */
export async function startInstance(of: {
  folder: string;
  variables?: Readonly<Record<string, string>>;
  memory?: number;
}): Promise<Instance> {
  const { folder, variables = {}, memory = 1024 } = of;
  let polling: ServerResponse | undefined;
  let onPoll = () => {};
  let turn: Turn | undefined;
  let invocations = 0;
  let initError: string | undefined;
  let awake: string[] = [];
  let initCpuMs = 0;
  const shift = { wallMs: 0, runningMs: 0 };

  const server = createServer(async (request, response) => {
    const [, , , kind, id, verb] = (request.url ?? '').split('/');
    if (kind === 'invocation' && id === 'next') {
      awake = String(request.headers['lamina-awake'] ?? '')
        .split(',')
        .filter(Boolean);
      if (invocations === 0) initCpuMs = Number(request.headers['lamina-cpu']);
      polling = response;
      return onPoll();
    }
    if (kind === 'init') {
      initError = (await readAll(request)).toString();
      return void response.writeHead(202).end('{}');
    }
    if (turn === undefined || turn.id !== id || turn.isAnswered) return void response.writeHead(400).end('{}');
    const answered = turn;
    const isTaken = await (verb === 'error' ? takeError(request, turn) : takeAnswer(request, turn));
    response.writeHead(isTaken ? 202 : 413).end('{}');
    answered.told.resolve();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  const started = performance.now();
  const child = spawn(process.execPath, ['--require', standIn, clientFile], {
    cwd: folder,
    env: {
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${(server.address() as AddressInfo).port}`,
      LAMBDA_TASK_ROOT: folder,
      _HANDLER: 'bundle.handler',
      AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
      AWS_LAMBDA_FUNCTION_NAME: 'lamina-test',
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memory),
      AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/lamina-test',
      AWS_LAMBDA_LOG_STREAM_NAME: 'test',
      AWS_LAMBDA_LOG_FORMAT: 'JSON',
      TZ: ':UTC',
      ...variables,
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (piece: Buffer) => {
      output += piece.toString();
    });
  }
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const isAlive = () => child.exitCode === null && child.signalCode === null;
  const stop = async () => {
    if (isAlive()) child.kill('SIGKILL');
    await ended;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };

  const polled = () =>
    new Promise<void>((resolve) => {
      onPoll = resolve;
      if (polling !== undefined) resolve();
    });
  await Promise.race([polled(), ended, within(initMsMax)]);
  if (polling === undefined) {
    const why = initError ?? (isAlive() ? `it did not start within ${initMsMax} ms` : 'it ended');
    await stop();
    throw new Error(`${why}\n${output}`);
  }
  const initMs = performance.now() - started;
  freeze(child);

  return {
    initMs,
    initCpuMs,
    async invoke(event, { seconds = 60 } = {}) {
      const body = JSON.stringify(event);
      if (Buffer.byteLength(body) > payloadBytesMax) throw new RangeError('413 RequestEntityTooLargeException');
      if (!isAlive() || polling === undefined) throw new Error(`It does not run any more.\n${output}`);
      const id = `00000000-0000-4000-8000-${String(++invocations).padStart(12, '0')}`;
      const response = polling;
      polling = undefined;
      const own: Turn = {
        id,
        startedMs: performance.now(),
        pieces: [],
        isAnswered: false,
        told: Promise.withResolvers(),
        end: () => child.kill('SIGKILL'),
      };
      turn = own;
      child.kill('SIGCONT');
      response.writeHead(200, {
        'content-type': 'application/json',
        'lambda-runtime-aws-request-id': id,
        'lambda-runtime-deadline-ms': String(Math.round(Date.now() + shift.wallMs + seconds * 1000)),
        'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:eu-central-1:123456789012:function:lamina-test',
        'lambda-runtime-trace-id': 'Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0',
        'lamina-shift': JSON.stringify(shift),
      });
      response.end(body);
      await Promise.race([polled(), ended, within(seconds * 1000)]);
      // The client may ask for the next event while the end of a streamed answer is still on its way.
      if (polling !== undefined) await Promise.race([own.told.promise, within(tellingMs)]);
      if (polling === undefined) {
        own.error = isAlive()
          ? { errorType: 'Sandbox.Timedout', errorMessage: `Task timed out after ${seconds.toFixed(2)} seconds` }
          : { errorType: 'Runtime.ExitError', errorMessage: 'Runtime exited' };
        child.kill('SIGKILL');
        await ended;
      } else freeze(child);
      turn = undefined;
      const { payload, prelude, pieces, error, startedMs } = own;
      return { payload, prelude, pieces, error, tookMs: performance.now() - startedMs };
    },
    pass(ms, clocks = 'both') {
      shift.wallMs += ms;
      if (clocks === 'both') shift.runningMs += ms;
    },
    thaw: () => void child.kill('SIGCONT'),
    awake: () => awake,
    output: () => output,
    isAlive,
    stop,
  };
}

// Between two events nothing runs.
const freeze = (child: ChildProcess) => void child.kill('SIGSTOP');

const within = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref());

async function takeError(request: IncomingMessage, turn: Turn): Promise<boolean> {
  turn.error = JSON.parse((await readAll(request)).toString()) as NonNullable<Turn['error']>;
  turn.isAnswered = true;
  return true;
}

async function takeAnswer(request: IncomingMessage, turn: Turn): Promise<boolean> {
  const isStreamed = request.headers['lambda-runtime-function-response-mode'] === 'streaming';
  const hasPrelude = request.headers['content-type'] === 'application/vnd.awslambda.http-integration-response';
  const bytesMax = isStreamed ? streamBytesMax : payloadBytesMax;
  const refuse = (errorMessage: string) => {
    turn.error = { errorType: 'Function.ResponseSizeTooLarge', errorMessage };
    return false;
  };
  let [head, bytes] = [Buffer.alloc(0), 0];
  try {
    for await (const piece of request as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > bytesMax)
        return refuse(`Response payload size exceeded maximum allowed payload size (${bytesMax} bytes).`);
      const atMs = performance.now() - turn.startedMs;
      if (!isStreamed || !hasPrelude || turn.prelude !== undefined) {
        turn.pieces.push({ atMs, bytes: piece });
        continue;
      }
      // The status and the headers as JSON, eight zeros, the body.
      head = Buffer.concat([head, piece]);
      const end = head.indexOf(Buffer.alloc(8));
      if (end < 0) continue;
      turn.prelude = JSON.parse(head.subarray(0, end).toString()) as Prelude;
      if (head.length > end + 8) turn.pieces.push({ atMs, bytes: head.subarray(end + 8) });
    }
  } catch {
    turn.error ??= { errorType: 'Runtime.TruncatedResponse', errorMessage: 'The answer ended before its end' };
  }
  turn.isAnswered = true;
  // An error in the middle of a stream comes behind it.
  const { 'lambda-runtime-function-error-type': errorType, 'lambda-runtime-function-error-body': errorBody } =
    request.trailers as Record<string, string | undefined>;
  if (errorType !== undefined)
    turn.error = { errorType, errorMessage: Buffer.from(errorBody ?? '', 'base64').toString() };
  if (!isStreamed)
    turn.payload = JSON.parse(Buffer.concat(turn.pieces.splice(0).map(({ bytes: all }) => all)).toString() || 'null');
  return true;
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
  return Buffer.concat(pieces);
}
