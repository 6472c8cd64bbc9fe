import { spawn } from 'node:child_process';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from './body.ts';
import { freePort } from './postgres.ts';
import { connectResp, isRespError, type Resp, type RespClient } from './resp.ts';

/** A real Redis of this run's own, on loopback. */
export interface RedisServer {
  readonly port: number;
  /** Runs a command past the REST endpoint: to look, to flush, to evict. */
  command(...command: string[]): Promise<Resp>;
  stop(): Promise<void>;
}

/** The program `redis-server`; undefined where it is not installed. */
export async function findRedis(): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    const path = join(folder, 'redis-server');
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  return undefined;
}

export async function startRedis(program: string): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-redis-'));
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    let log = '';
    child.stdout.on('data', (piece: Buffer) => {
      log = (log + piece.toString()).slice(-4000);
      if (log.includes('Ready to accept connections')) resolve();
    });
    child.once('exit', (code) => reject(new Error(`redis-server ended with ${code}: ${log}`)));
  });
  const client = await connectResp(port);
  return {
    port,
    command: (...command) => client.send(command),
    async stop() {
      client.end();
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** How the endpoint goes wrong: as networks and overloaded or full servers do. */
export type RedisFailure = 'hang' | 'drop' | '500' | 'not json' | { readonly slowMs: number };

/** Upstash's REST in front of a real Redis, so that the unmodified `@upstash/redis` can be tested against it. */
export interface RedisEndpoint {
  readonly url: string;
  readonly token: string;
  /** Requests answered so far. */
  requests(): number;
  fail(how: RedisFailure | undefined): void;
  stop(): Promise<void>;
}

const bodyBytesMax = 10 * 1024 * 1024;

/** The wire of facts/engines.md §3.1: one command or a pipeline a request, errors as `{"error"}`. */
export async function startRedisEndpoint(port: number): Promise<RedisEndpoint> {
  const token = 'redis-token-of-this-run';
  const clients: RespClient[] = await Promise.all(Array.from({ length: 4 }, () => connectResp(port)));
  let requests = 0;
  let failure: RedisFailure | undefined;
  const server = createServer(async (request, response) => {
    requests++;
    const turn = requests;
    if (failure === 'drop') return void request.socket.destroy();
    if (failure === 'hang') return;
    if (typeof failure === 'object') await sleep(failure.slowMs);
    const reply = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(failure === 'not json' ? '<html>' : JSON.stringify(body));
    };
    if (failure === '500') return reply(500, { error: 'no capacity' });
    if (request.headers.authorization !== `Bearer ${token}`) {
      return reply(401, { error: 'WRONGPASS invalid or missing auth token' });
    }
    try {
      const body = JSON.parse(await readText(request, bodyBytesMax)) as (string | number)[] | (string | number)[][];
      const client = clients[turn % clients.length] as RespClient;
      const isPipeline = request.url === '/pipeline';
      const commands = (isPipeline ? body : [body]) as (string | number)[][];
      const answers = await Promise.all(commands.map((command) => client.send(command.map(String))));
      const results = answers.map((answer) => (isRespError(answer) ? answer : { result: answer }));
      const [first] = results;
      reply(!isPipeline && first && 'error' in first ? 400 : 200, isPipeline ? results : first);
    } catch (error) {
      reply(error instanceof RangeError ? 413 : 500, { error: error instanceof Error ? error.message : 'lost' });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    requests: () => requests,
    fail: (how) => {
      failure = how;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      for (const client of clients) client.end();
    },
  };
}
