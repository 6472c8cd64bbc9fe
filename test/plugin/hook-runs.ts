import { spawn, spawnSync } from 'node:child_process';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { home } from '../../functions/runtime.ts';

export const hookPath = join(home, 'plugin/lamina/hooks/lamina-hook.sh');

// Shells that the hook has to work in; every machine has the first.
const wanted = [
  ['sh', []],
  ['dash', []],
  ['bash', []],
  ['busybox', ['sh']],
  ['mksh', []],
] as const;

/** Those of them that are here; the others are told. */
export const shells = wanted.flatMap(([name, args]) => {
  const isFound = spawnSync(name, [...args, '-c', 'exit 0']).status === 0;
  if (name === 'sh' && !isFound) throw new Error('There is no sh here.');
  if (!isFound) console.warn(`No ${name} found: the hook is not tried in it.`);
  return isFound ? [{ name, args }] : [];
});

export interface HookRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

/**
 * Runs the hook as an agent does.
 *
 * @param of.connection the file of `npm run connect` that its command names.
 * @param of.isOpen whether standard input stays open after the event.
 */
export async function runHook(of: {
  shell: (typeof shells)[number];
  event: unknown;
  environment: Record<string, string>;
  connection?: string | undefined;
  isOpen?: boolean;
  script?: string;
}): Promise<HookRun> {
  const { shell, event, environment, connection, isOpen = false, script } = of;
  const own = [hookPath, 'droid', ...(connection === undefined ? [] : [connection])];
  const args = script === undefined ? own : ['-c', script];
  const started = performance.now();
  const child = spawn(shell.name, [...shell.args, ...args], { env: environment, cwd: environment['HOME'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (piece: Buffer) => {
      output[name] += piece.toString();
    });
  }
  child.stdin.on('error', () => {});
  // Droid sends one line without a line break.
  if (event !== undefined) child.stdin.write(typeof event === 'string' ? event : JSON.stringify(event));
  if (!isOpen) child.stdin.end();
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, ...output, ms: performance.now() - started };
}

/** A request that the stub was sent. */
export interface Told {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The first line. */
  readonly event: string;
  /** What comes after it. */
  readonly transcript: string;
}

export interface Stub {
  readonly origin: string;
  readonly told: Told[];
  /** What answers from now on. */
  answer: (response: ServerResponse, told: Told) => void;
  close(): void;
}

const context = (event: string) =>
  JSON.stringify({ hookSpecificOutput: { hookEventName: event, additionalContext: 'retries are 5' } });

/** Answers as Lamina does: takes whole lines, and tells how far. */
export function answerAsLamina(response: ServerResponse, { url, event, transcript }: Told): void {
  const offset = Number(new URL(url, 'http://stub').searchParams.get('offset'));
  const whole = Buffer.from(transcript.slice(0, transcript.lastIndexOf('\n') + 1)).length;
  const headers = { 'content-type': 'application/json; charset=UTF-8', 'transcript-offset': String(offset + whole) };
  const { hook_event_name: name } = JSON.parse(event) as { hook_event_name: string };
  response.writeHead(200, headers).end(context(name));
}

/** A server that answers whatever a test wants. */
export async function startStub(): Promise<Stub> {
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    const end = body.indexOf('\n');
    const told = {
      url: request.url ?? '',
      headers: request.headers,
      body,
      event: body.subarray(0, end).toString(),
      transcript: body.subarray(end + 1).toString(),
    };
    stub.told.push(told);
    response.on('error', () => {});
    stub.answer(response, told);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stub: Stub = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    told: [],
    answer: answerAsLamina,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
  return stub;
}
