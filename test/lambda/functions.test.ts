import { spawn } from 'node:child_process';
import { createCipheriv, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { layFiles } from '../../infra/files.ts';
import { loadSettings } from '../../lib/config/load.ts';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { type SqsEndpoint, startSqs } from '../servers/sqs.ts';
import { createDatabase, hasPostgres, realPostgres, redisProgram } from '../support/engines.ts';

const token = 'lam_default_owner_0123456789';
const key = randomBytes(32);
let folder: string;
let redis: RedisServer;
let rest: RedisEndpoint;
let sqs: SqsEndpoint;
let variables: Record<string, string>;

/** The links of a deployment, sealed as SST seals them. */
async function seal(links: unknown): Promise<void> {
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
  const sealed = [cipher.update(JSON.stringify(links)), cipher.final()];
  await writeFile(join(folder, 'resource.enc'), Buffer.concat([...sealed, cipher.getAuthTag()]));
}

interface Answer {
  readonly status?: number;
  readonly text?: string;
  readonly result?: unknown;
}

/** Starts an entry in a process of its own and hands it events, as Lambda's runtime does. */
async function invoke(entry: string, events: readonly unknown[], more: Record<string, string> = {}): Promise<Answer[]> {
  const runner = `
    import { Writable } from 'node:stream';
    globalThis.awslambda = {
      streamifyResponse: (handler) => Object.assign(handler, { isStreaming: true }),
      HttpResponseStream: { from: (stream, meta) => Object.assign(stream, { meta }) },
    };
    const { handler } = await import(${JSON.stringify(join(home, 'functions/lambda', `${entry}.ts`))});
    const context = { getRemainingTimeInMillis: () => 60_000 };
    const answers = [];
    for (const event of ${JSON.stringify(events)}) {
      const pieces = [];
      const stream = new Writable({ write(piece, _encoding, done) { pieces.push(Buffer.from(piece)); done(); } });
      const result = handler.isStreaming ? await handler(event, stream, context) : await handler(event, context);
      answers.push({ status: stream.meta?.statusCode, text: Buffer.concat(pieces).toString(), result });
    }
    process.stdout.write('answers ' + JSON.stringify(answers), () => process.exit(0));`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', runner], {
    cwd: home,
    env: { PATH: process.env['PATH'] ?? '', ...variables, ...more },
  });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (piece: Buffer) => {
    output += piece.toString();
  });
  child.stderr.on('data', (piece: Buffer) => {
    errors += piece.toString();
  });
  await new Promise((resolve) => child.once('close', resolve));
  const [, answers] = output.split('answers ');
  if (answers === undefined) throw new Error(errors);
  return JSON.parse(answers) as Answer[];
}

const http = (method: string, path: string, body?: unknown) => ({
  version: '2.0',
  rawPath: path,
  rawQueryString: '',
  headers: {
    host: 'made.lambda-url.eu-central-1.on.aws',
    'x-forwarded-host': 'lamina.example.com',
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
  },
  requestContext: { http: { method, path }, domainName: 'made.lambda-url.eu-central-1.on.aws' },
  ...(body === undefined ? {} : { body: JSON.stringify(body), isBase64Encoded: false }),
});

describe.skipIf(!hasPostgres || redisProgram === undefined)('the functions on Lambda', () => {
  let slot: string;
  const links = () => ({ type: 'sst.sst.Linkable', ...secrets });
  let secrets: Record<string, string>;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-lambda-'));
    const { server, endpoint } = await realPostgres();
    const settings = await loadSettings(join(home, 'config', 'context.yaml'));
    await layFiles({ root: home, folder, entry: 'migrate', settings });
    redis = await startRedis(redisProgram as string);
    rest = await startRedisEndpoint(redis.port);
    sqs = await startSqs();
    secrets = {
      DATABASE_URL: server.url(await createDatabase('empty')),
      LAMINA_NEON_ENDPOINT: endpoint.url,
      UPSTASH_REDIS_REST_URL: rest.url,
      UPSTASH_REDIS_REST_TOKEN: rest.token,
      LAMINA_TOKEN: token,
      WEAVIATE_URL: '',
    };
    variables = {
      LAMBDA_TASK_ROOT: folder,
      AWS_LAMBDA_FUNCTION_NAME: 'lamina-test',
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
      LAMINA_INDEX_QUEUE: sqs.urlOf('index'),
      LAMINA_SYNC_QUEUE: sqs.urlOf('sync'),
      SST_KEY: key.toString('base64'),
      SST_KEY_FILE: join(folder, 'resource.enc'),
    };
    await seal({ Environment: links() });
    const [{ result } = {}] = await invoke('migrate', [{}]);
    ({ defaultSlot: slot } = result as { defaultSlot: string });
    variables['LAMINA_DEFAULT_SLOT'] = slot;
  });
  afterAll(async () => {
    await Promise.all([rest.stop(), sqs.stop(), redis.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  test('migrating again changes nothing, and tells the same space', async () => {
    expect(await invoke('migrate', [{}])).toMatchObject([{ result: { defaultSlot: slot } }]);
  });

  test('an API starts without a request to the database, serves, and orders what goes on behind its answers', async () => {
    const { endpoint } = await realPostgres();
    const before = endpoint.requests();
    expect(await invoke('api', [http('GET', '/healthz')])).toMatchObject([{ status: 200, text: '{"status":"ok"}' }]);
    expect(endpoint.requests()).toBe(before);
    const [put, , got, missing] = await invoke('api', [
      http('PUT', '/v1/contexts/deploy', { content: 'Blue and green.' }),
      http('PUT', '/v1/contexts/roll-back', { content: 'Deploy what was there before.' }),
      http('GET', '/v1/contexts/deploy/content'),
      http('GET', '/v1/contexts/none'),
    ]);
    expect(put?.status).toBe(201);
    expect(got).toMatchObject({ status: 200, text: '"Blue and green."' });
    expect(missing?.status).toBe(404);
    expect(sqs.take()).toEqual([{ queue: 'index', body: { space: 'default', slot, task: 'index' } }]);
  });

  test('MCP is served under the name that was asked for', async () => {
    const path = '/.well-known/oauth-protected-resource';
    const [metadata] = await invoke('api', [http('GET', path)]);
    expect(JSON.parse(metadata?.text ?? '')).toMatchObject({ resource: 'https://lamina.example.com/mcp' });
  });

  test('an order to index has what was written found', async () => {
    const record = (messageId: string, body: unknown) => ({ messageId, body: JSON.stringify(body) });
    const events = [{ Records: [record('good', { space: 'default', slot, task: 'index' }), record('bad', {})] }];
    expect(await invoke('index-orders', events)).toMatchObject([
      { result: { batchItemFailures: [{ itemIdentifier: 'bad' }] } },
    ]);
    const [found] = await invoke('api', [http('POST', '/v1/search', { query: 'green', mode: 'keyword' })]);
    expect(JSON.parse(found?.text ?? '').hits).toMatchObject([{ id: 'deploy' }]);
  });

  test('a run that is asked for is ordered and answered with 202', async () => {
    const peer = { type: 'lamina', transport: { url: 'http://127.0.0.1:1' }, strategy: 'three-way', direction: 'both' };
    const [made, asked, unknown] = await invoke('api', [
      http('PUT', '/v1/peers/laptop', peer),
      http('POST', '/v1/peers/laptop/sync'),
      http('POST', '/v1/peers/nobody/sync'),
    ]);
    expect([made?.status, asked?.status, unknown?.status]).toEqual([201, 202, 404]);
    const { runId } = JSON.parse(asked?.text ?? '') as { runId: string };
    const order = { space: 'default', slot, task: 'run', peer: 'laptop', runId, isForced: false };
    expect(sqs.take().filter(({ queue }) => queue === 'sync')).toEqual([{ queue: 'sync', body: order }]);
    // Twice, as SQS may deliver it: the run is there once, and how it ended is told by it.
    const event = { Records: [{ messageId: 'one', body: JSON.stringify(order) }] };
    await invoke('sync-orders', [event, event]);
    const [runs] = await invoke('api', [http('GET', '/v1/peers/laptop/runs')]);
    expect(JSON.parse(runs?.text ?? '').items).toMatchObject([{ id: runId, trigger: 'request', outcome: 'failed' }]);
  });

  test('a peer that is a command is refused, whatever the environment says', async () => {
    const peer = { type: 'mcp-memory', transport: { command: 'sh' }, strategy: 'union', direction: 'pull' };
    const events = [http('PUT', '/v1/peers/shell', peer)];
    expect(await invoke('api', events, { LAMINA_ALLOW_COMMANDS: '1' })).toMatchObject([{ status: 403 }]);
  });

  test('an order of a space that is gone is done with', async () => {
    const body = JSON.stringify({ space: 'gone', slot: 'gone@1', task: 'work' });
    expect(await invoke('sync-orders', [{ Records: [{ messageId: 'one', body }] }])).toMatchObject([
      { result: { batchItemFailures: [] } },
    ]);
  });

  test('each task of the schedule runs, and another is refused', async () => {
    const tasks = ['warm', 'cleanup', 'reconcile', 'index', 'synchronise', 'work'];
    const answers = await invoke(
      'schedule',
      tasks.map((task) => ({ task, budgetMs: 1000 })),
    );
    expect(answers).toHaveLength(tasks.length);
    await expect(invoke('schedule', [{ task: 'reindex', budgetMs: 1000 }])).rejects.toThrow('task');
  });

  test('secrets that are missing are named at the start, and how to set them', async () => {
    const { DATABASE_URL: _database, LAMINA_TOKEN: _token, ...rest } = secrets;
    await seal({ Environment: rest });
    await expect(invoke('api', [])).rejects.toThrow(
      'Secrets of this stage are missing: DatabaseUrl, LaminaToken. Set each with `sst secret set',
    );
    await seal({ Environment: links() });
  });

  test('a file of links that is another stage’s does not open', async () => {
    await expect(invoke('api', [], { SST_KEY: randomBytes(32).toString('base64') })).rejects.toThrow();
  });
});
