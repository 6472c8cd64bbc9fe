import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { lockFolder } from '../functions/folder-lock.ts';
import { home } from '../functions/runtime.ts';
import { createDatabase, hasPostgres, realPostgres } from './support/engines.ts';
import { startServing, stopServing } from './support/serving.ts';

const run = promisify(execFile);
afterEach(stopServing);

describe('the server on embedded engines', () => {
  test('keeps what it acknowledged when it is killed, and takes the folder over from the dead', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lamina-data-'));
    const first = await startServing({ LAMINA_DATA: folder });
    expect(first.output()).toContain(`lamina listening on ${first.origin}\n`);
    for (let at = 1; at <= 20; at++)
      expect((await first.send('PUT', '/v1/contexts/kept', { content: at })).status).toBeLessThan(300);
    const writing = Array.from({ length: 30 }, (_, at) =>
      first.send('PUT', `/v1/contexts/late-${at}`, { content: at }).then(
        () => at,
        () => -1,
      ),
    );
    await Promise.race(writing.slice(3));
    const gone = new Promise((resolve) => first.child.once('exit', resolve));
    first.child.kill('SIGKILL');
    await gone;
    const acknowledged = (await Promise.all(writing)).filter((at) => at >= 0);
    expect(existsSync(join(folder, 'lock'))).toBe(true);

    const second = await startServing({ LAMINA_DATA: folder });
    expect((await second.send('GET', '/v1/contexts/kept')).json).toMatchObject({ version: 20, content: 20 });
    for (const at of acknowledged)
      expect((await second.send('GET', `/v1/contexts/late-${at}`)).json).toMatchObject({ content: at });
    const feed = (await second.send('GET', '/v1/changes?limit=200')).json['changes'] as { cursor: string }[];
    expect(feed.map(({ cursor }) => Number(cursor))).toEqual(feed.map((_, at) => at + 1));

    const third = await run(process.execPath, ['functions/launch.js', 'functions/serve.ts'], {
      cwd: home,
      env: { ...process.env, PORT: '0', LAMINA_DATA: folder },
    }).catch((error) => error);
    expect([third.code, third.stderr]).toEqual([1, expect.stringContaining(`open in process ${second.child.pid}`)]);

    const ended = new Promise((resolve) => second.child.once('exit', resolve));
    // As a supervisor's signal to all of a group comes: from itself, and passed on by npm.
    second.child.kill('SIGTERM');
    second.child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(join(folder, 'lock'))).toBe(false);
    await rm(folder, { recursive: true });
  });

  test('ends at once where a peer is being run that never answers', async () => {
    const served = await startServing({ LAMINA_DATA: 'memory' });
    let heard = () => {};
    const isHeard = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const silent = createServer(() => heard());
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    expect((await served.send('PUT', '/v1/peers/silent', { type: 'lamina', transport: { url } })).status).toBe(201);
    const running = served.send('POST', '/v1/peers/silent/sync', {}).catch((error) => error);
    await isHeard;
    const ended = new Promise((resolve) => served.child.once('exit', resolve));
    served.child.kill('SIGTERM');
    // Its answers would be waited for half a minute.
    expect(await Promise.race([ended, sleep(10_000, 'still there')])).toBe(0);
    await running;
    silent.closeAllConnections();
    silent.close();
  });

  test('makes a token once, readable by its user alone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lamina-data-'));
    const served = await startServing({ LAMINA_DATA: folder, LAMINA_TOKEN: '' });
    const token = (await readFile(join(folder, 'token'), 'utf8')).trim();
    expect(served.output()).toContain(`#token=${token}`);
    expect((await stat(join(folder, 'token'))).mode & 0o777).toBe(0o600);
    const response = await fetch(`${served.origin}/v1/contexts`, { headers: { authorization: `Bearer ${token}` } });
    expect(response.status).toBe(200);
    await rm(folder, { recursive: true, force: true });
  });

  test('answers what no door is for as a problem: headers beyond Node’s own limit, an escape that is none', async () => {
    const served = await startServing({ LAMINA_DATA: 'memory' });
    const { port } = new URL(served.origin);
    const raw = (request: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(port), '127.0.0.1', () => socket.write(request));
        let answer = '';
        socket.on('data', (piece) => {
          answer += piece.toString();
        });
        socket.on('close', () => resolve(answer));
        socket.on('error', () => resolve(answer));
      });
    expect(
      await raw(`GET /v1/contexts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Large: ${'x'.repeat(20_000)}\r\n\r\n`),
    ).toMatch(/^HTTP\/1.1 400 [\s\S]*invalid_request/);
    expect(await raw(`GET /v1/contexts HTTP/1.1\r\nHost: x\r\nX-Large: ${'x'.repeat(70_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 4\d\d /,
    );
    expect(await raw('GET /v1/contexts/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')).toMatch(
      /^HTTP\/1.1 4\d\d /,
    );
    for (const request of [
      'nonsense\r\n\r\n',
      'GET /v1/contexts HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n',
      'GET /v1\\contexts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: x\r\nX-Large: ${'x'.repeat(70_000)}\r\n\r\n`,
    ]) {
      const answer = await raw(request);
      expect([request.slice(0, 40), answer]).toEqual([
        request.slice(0, 40),
        expect.stringMatching(/^HTTP\/1.1 400 [\s\S]*x-request-id: [\s\S]*"code":"invalid_request"/i),
      ]);
    }
    expect((await served.send('GET', '/v1/contexts')).status).toBe(200);
  });
});

describe.skipIf(!hasPostgres)('several servers over one PostgreSQL', () => {
  test('are one store: what one writes the others read, and a batch of clients loses nothing', async () => {
    const { server, endpoint } = await realPostgres();
    const variables = { DATABASE_URL: server.url(await createDatabase('empty')), LAMINA_NEON_ENDPOINT: endpoint.url };
    // All three start on an empty database at once: each waits for the one that migrates.
    const instances = await Promise.all([startServing(variables), startServing(variables), startServing(variables)]);
    await Promise.all(
      Array.from({ length: 60 }, (_, at) =>
        instances[at % 3]!.send('PUT', `/v1/contexts/c-${at % 7}`, { content: at }),
      ),
    );
    const lists = await Promise.all(instances.map((one) => one.send('GET', '/v1/changes?limit=200')));
    expect(lists[0]!.json['changes']).toHaveLength(60);
    expect(lists[1]!.json).toEqual(lists[0]!.json);
    expect(lists[2]!.json).toEqual(lists[0]!.json);
  });
});

describe('the README', () => {
  test('shows code before line 15, and what it shows answers as it says', async () => {
    const readme = await readFile(join(home, 'README.md'), 'utf8');
    expect(readme.split('\n').slice(0, 14).join('\n')).toContain('```sh');
    const folder = await mkdtemp(join(tmpdir(), 'lamina-readme-'));
    const served = await startServing({ LAMINA_DATA: folder, LAMINA_TOKEN: '' });
    const [, ...blocks] = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, code = '']) => code);
    const [, shown = ''] = /```json\n([\s\S]*?)```/.exec(readme) ?? [];
    const script = blocks
      .join('\n')
      .replaceAll('http://127.0.0.1:8787', served.origin)
      .replaceAll('.lamina/token', join(folder, 'token'))
      .replaceAll('/tmp/memory.jsonl', join(folder, 'memory.jsonl'));
    // The agents themselves are not here: what they are told is, and the server takes it.
    const agents = ['droid', 'claude'].map((name) => `${name}() { printf '%s\\n' ${name} "$@" >&2; }`).join('\n');
    const { stdout, stderr } = await run('bash', ['-eu', '-c', `${agents}\n${script}`]);
    const [, ...told] = stderr.trim().split(/^(?:droid|claude)\n/m);
    const flags = { droid: ['--type', 'http', '--no-oauth'], claude: ['--transport', 'http'] };
    for (const [index, wanted] of Object.values(flags).entries()) {
      const words = told[index]?.trim().split('\n') ?? [];
      expect(words).toEqual(expect.arrayContaining(['mcp', 'add', 'lamina', '--header', ...wanted]));
      const url = words.find((word) => word.startsWith('http:')) ?? '';
      const [, authorization = ''] = /^Authorization: (.+)$/.exec(words[words.indexOf('--header') + 1] ?? '') ?? [];
      const headers = {
        authorization,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      };
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} });
      const listed = await fetch(url, { method: 'POST', headers, body });
      expect([listed.status, (await listed.text()).includes('create_entities')]).toEqual([200, true]);
    }
    expect(stdout).toContain(`\n${shown}`);
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers).toHaveLength(11);
    expect(answers.filter(({ code }) => code !== undefined)).toEqual([]);
    expect(answers[2].merge).toMatchObject({ strategy: 'three-way', base: 1, head: 2, conflicts: [] });
    expect(answers[5].patch).toEqual([
      { op: 'replace', path: '/retries', value: 5 },
      { op: 'replace', path: '/owner', value: 'ben' },
    ]);
    expect(answers[6].items.map(({ message }: { message?: string }) => message)).toEqual([
      undefined,
      'after the incident',
      undefined,
    ]);
    expect(answers[7].changes).toHaveLength(3);
    expect(answers[8]).toMatchObject({ hits: [{ id: 'checkout', version: 3 }], pending: 0, degraded: [] });
    expect(answers[9]).toMatchObject({
      name: 'memory',
      type: 'mcp-memory',
      transport: { env: { MEMORY_FILE_PATH: null } },
    });
    expect(answers[10]).toMatchObject({ pulled: 0, pushed: 0, conflicts: 0, skipped: 0 });
    await rm(folder, { recursive: true, force: true });
  });
});

describe('the launcher', () => {
  test('tells an older Node in one sentence, before anything else can fail', async () => {
    const script = join(await mkdtemp(join(tmpdir(), 'lamina-node-')), 'old.mjs');
    await writeFile(
      script,
      `Object.defineProperty(process.versions, 'node', { value: '20.20.2' }); process.argv[2] = 'functions/serve.ts'; await import(${JSON.stringify(join(home, 'functions/launch.js'))});`,
    );
    const refused = await run(process.execPath, [script], { cwd: home }).catch((error) => error);
    expect([refused.code, refused.stderr.trim().split('\n')]).toEqual([
      1,
      [expect.stringMatching(/needs Node 22\.18 or newer and this is 20\.20\.2/)],
    ]);
  });
});

describe('the lock of a data folder', () => {
  test('is held by one, names the holder, and is taken over when the holder is gone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lamina-lock-'));
    const unlock = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toThrow(`process ${process.pid}`);
    await unlock();
    const gone = spawn(process.execPath, ['-e', '0']);
    await new Promise((resolve) => gone.once('exit', resolve));
    await writeFile(join(folder, 'lock'), JSON.stringify({ pid: gone.pid, startedAt: '1' }));
    await (await lockFolder(folder))();
    // A living process with the number of a dead one is not the holder.
    await writeFile(join(folder, 'lock'), JSON.stringify({ pid: process.pid, startedAt: '1' }));
    await (await lockFolder(folder))();
    await writeFile(join(folder, 'lock'), 'half a li');
    await (await lockFolder(folder))();
  });
});
