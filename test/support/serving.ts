import { type ChildProcess, spawn } from 'node:child_process';
import { home } from '../../functions/runtime.ts';
import { freePort } from '../servers/postgres.ts';

/** A server in a process of its own, started as `npm start` does. */
export interface Served {
  readonly origin: string;
  readonly child: ChildProcess;
  readonly output: () => string;
  send(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<{ status: number; headers: Headers; json: Record<string, unknown> }>;
}

const children: ChildProcess[] = [];

/** Starts the server and waits for its line. */
export async function startServing(variables: Record<string, string>): Promise<Served> {
  const port = Number(variables['PORT'] ?? (await freePort()));
  const token = 'lam_test_owner_0123456789';
  const child = spawn(process.execPath, ['functions/launch.js', 'functions/serve.ts'], {
    cwd: home,
    env: { ...process.env, PORT: String(port), LAMINA_TOKEN: token, ...variables },
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      output += piece.toString();
    });
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${output}`)));
    child.stdout.on('data', () => output.includes('lamina listening on') && resolve());
  });
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    child,
    output: () => output,
    async send(method, path, body, headers = {}) {
      const response = await fetch(origin + path, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const json = (await response.json()) as Record<string, unknown>;
      return { status: response.status, headers: response.headers, json };
    },
  };
}

/** Kills every server that is still running. */
export async function stopServing(): Promise<void> {
  for (const child of children.splice(0)) await kill(child);
}

/** Ends a process at once, as a crash does. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}
