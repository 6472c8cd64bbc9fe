import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Agent, type Change, planConnect, planUndo } from '../functions/agents.ts';
import { replaceFile } from '../functions/replace-file.ts';
import { home, readEnvironment } from '../functions/runtime.ts';
import { dropHooks, dropServer, hookCommand, hookedEvents, putHooks, putServer } from '../lib/factory/hook-config.ts';
import { readJsonText } from '../lib/factory/json-edit.ts';

const run = promisify(execFile);
const token = 'lam_test_owner_0123456789';
const url = 'http://127.0.0.1:8787';
const command = hookCommand('/repo/plugin/lamina/hooks/lamina-hook.sh', 'droid');
const entry = { type: 'http' as const, url: `${url}/mcp`, headers: { Authorization: `Bearer ${token}` } };

describe('a configuration that is edited', () => {
  const key = fc.oneof(
    fc.string({ maxLength: 5 }),
    fc.constantFrom('Stop', 'SessionStart', 'hooks', 'mcpServers', '__proto__'),
  );
  const groups = fc.array(
    fc.record({
      matcher: fc.string({ maxLength: 3 }),
      hooks: fc.array(fc.record({ command: fc.string() }), { minLength: 1, maxLength: 2 }),
    }),
    { minLength: 1, maxLength: 2 },
  );
  const events = fc.dictionary(fc.constantFrom('Stop', 'SessionStart', 'Notification'), groups, {
    noNullPrototype: true,
    minKeys: 1,
  });
  const servers = fc.dictionary(fc.string({ maxLength: 5 }), fc.record({ command: fc.string() }), {
    noNullPrototype: true,
    minKeys: 1,
  });
  const others = fc.dictionary(
    key.filter((name) => !['Stop', 'SessionStart', 'hooks', 'mcpServers', '__proto__'].includes(name)),
    fc.jsonValue(),
    { noNullPrototype: true, minKeys: 1 },
  );
  const layout = fc.constantFrom(0, 2, 4, '\t');
  const print = (value: unknown, unit: string | number, isWindows: boolean) =>
    JSON.stringify(value, null, unit).replaceAll('\n', isWindows ? '\r\n' : '\n') + (unit === 0 ? '' : '\n');

  test('has what it had, byte for byte, after connect and undo, and nothing to change the second time', () => {
    fc.assert(
      fc.property(others, events, servers, layout, fc.boolean(), (rest, hooks, mcpServers, unit, isWindows) => {
        for (const { value, to } of [
          { value: { ...rest, ...hooks }, to: { command, wrapper: undefined } },
          { value: { hooks, ...rest }, to: { command, wrapper: 'hooks' as const } },
          { value: { ...rest }, to: { command, wrapper: 'hooks' as const } },
        ]) {
          const from = to.wrapper === undefined ? {} : { wrapper: to.wrapper };
          const text = print(value, unit, isWindows);
          const made = putHooks(text, to);
          expect(putHooks(made, to)).toBe(made);
          expect(dropHooks(made, from)).toBe(text);
          const found = JSON.parse(made);
          for (const { event, matcher } of hookedEvents) {
            const last = (to.wrapper ? found.hooks : found)[event].at(-1);
            expect(last).toEqual({
              ...(matcher ? { matcher } : {}),
              hooks: [{ type: 'command', command, timeout: 5 }],
            });
          }
          // Another place of the repository takes the old one's.
          const moved = putHooks(made, { ...to, command: command.replace('/repo/', '/elsewhere/') });
          expect(moved.match(/lamina-hook\.sh/g)).toHaveLength(hookedEvents.length);
          expect(dropHooks(moved, from)).toBe(text);
        }
        for (const value of [{ ...rest, mcpServers }, { ...rest }]) {
          const text = print(value, unit, isWindows);
          const made = putServer(text, { entry, knownUrls: [] });
          expect(putServer(made, { entry, knownUrls: [] })).toBe(made);
          expect(JSON.parse(made).mcpServers.lamina).toEqual(entry);
          const renewed = putServer(made, { entry: { ...entry, url: 'http://new/mcp' }, knownUrls: [entry.url] });
          expect(JSON.parse(renewed).mcpServers.lamina.url).toBe('http://new/mcp');
          expect(dropServer(made, [entry.url])).toBe(text);
          expect(dropServer(made, ['http://other/mcp'])).toBe(made);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('is read as JSON is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), layout, (value, unit) => {
        const text = JSON.stringify(value, null, unit);
        expect(readJsonText(text).value).toEqual(JSON.parse(text));
      }),
    );
  });

  test('keeps a foreign hook that shares a group with ours', () => {
    const foreign = { type: 'command', command: 'other' };
    const shared = { Stop: [{ hooks: [foreign, { type: 'command', command, timeout: 5 }] }] };
    expect(JSON.parse(dropHooks(JSON.stringify(shared), {}) ?? '')).toEqual({ Stop: [{ hooks: [foreign] }] });
    const made = JSON.parse(putHooks(JSON.stringify(shared), { command }));
    expect(made.Stop).toEqual([{ hooks: [foreign] }, { hooks: [{ type: 'command', command, timeout: 5 }] }]);
  });
});

describe('npm run connect', () => {
  let folder: string;
  let project: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-connect-'));
    project = join(folder, 'project');
    await mkdir(project);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const environment = (more: Record<string, string> = {}) =>
    readEnvironment({
      HOME: folder,
      LAMINA_TOKEN: token,
      LAMINA_DATA: join(folder, 'data'),
      INIT_CWD: project,
      ...more,
    });
  const order = (agent: Agent, isProject = false, to = url) => ({ agent, isProject, url: to });
  const file = (...path: string[]) => readFile(join(folder, ...path), 'utf8');
  const json = async (...path: string[]) => JSON.parse(await file(...path));
  async function write(path: string, value: unknown): Promise<string> {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    const text = typeof value === 'string' ? value : `${JSON.stringify(value, null, 2)}\n`;
    await writeFile(join(folder, path), text);
    return text;
  }
  async function apply(changes: readonly Change[]): Promise<void> {
    const bytes = (text: string | undefined) => (text === undefined ? undefined : Buffer.from(text));
    for (const { path, before, after, isSecret } of changes)
      await replaceFile(path, { before: bytes(before), after: bytes(after), isSecret });
  }
  const cli = (args: string[], more: Record<string, string> = {}) =>
    run(process.execPath, ['functions/launch.js', 'functions/connect.ts', ...args], {
      cwd: home,
      env: { PATH: process.env['PATH'] ?? '', HOME: folder, LAMINA_TOKEN: token, INIT_CWD: project, ...more },
    }).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
    );
  async function all(): Promise<string[]> {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries
      .filter((one) => one.isFile())
      .map((one) => join(one.parentPath, one.name).slice(folder.length + 1))
      .sort();
  }

  test('shows first, asks, writes, has nothing to do the second time, and takes all of it back', async () => {
    const secret = 'sk-of-somebody-else';
    const before = await write('.factory/mcp.json', { mcpServers: { other: { command: 'x', env: { KEY: secret } } } });
    await chmod(join(folder, '.factory/mcp.json'), 0o644);
    const shown = await cli(['droid']);
    expect(shown).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
    expect(shown.stdout).toMatch(/^\+\+\+ .*hooks\.json$/m);
    expect(shown.stdout).toContain('+        "Authorization": "Bearer (your token)"');
    expect(await all()).toEqual(['.factory/mcp.json']);

    const done = await cli(['droid', '--yes']);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    const hooks = await json('.factory', 'hooks.json');
    expect(Object.keys(hooks)).toEqual(hookedEvents.map(({ event }) => event));
    const [
      {
        hooks: [hook],
      },
    ] = hooks.Stop;
    expect(spawnSync('sh', ['-nc', hook.command]).status).toBe(0);
    expect(hook.command).toContain(join(home, 'plugin/lamina/hooks/lamina-hook.sh'));
    expect((await json('.factory', 'mcp.json')).mcpServers).toMatchObject({
      other: { command: 'x', env: { KEY: secret } },
      lamina: { type: 'http', url: `${url}/mcp`, headers: { Authorization: `Bearer ${token}` }, oauth: false },
    });
    const mode = async (path: string) => (await stat(join(folder, path))).mode & 0o777;
    expect([await mode('.local/state/lamina/connection'), await mode('.local/state/lamina')]).toEqual([0o600, 0o700]);
    expect(await mode('.factory/mcp.json')).toBe(0o600);
    expect((await file('.local/state/lamina/connection')).split('\n').slice(0, 2)).toEqual([url, token]);

    expect(await cli(['droid'])).toMatchObject({ code: 0, stdout: 'Nothing to change.\n' });
    const undone = await cli(['droid', '--undo', '--yes']);
    expect(undone.code).toBe(0);
    expect(await all()).toEqual(['.factory/mcp.json']);
    expect(await file('.factory', 'mcp.json')).toBe(before);
    expect(await cli(['droid', '--undo'])).toMatchObject({ code: 0, stdout: 'Nothing of Lamina is there.\n' });
    for (const { stdout, stderr } of [shown, done, undone]) {
      expect(stdout + stderr).not.toContain(token);
      expect(stdout + stderr).not.toContain(secret);
    }
  }, 60_000);

  test('says how it is used, and refuses what is no address', async () => {
    for (const args of [
      [],
      ['vim'],
      ['droid', 'claude'],
      ['droid', '--no'],
      ['droid', '--url', 'ftp://x'],
      ['droid', '--url', 'http://a:b@c'],
    ])
      expect([args, await cli(args)]).toEqual([args, expect.objectContaining({ code: 1, stdout: '' })]);
  }, 60_000);

  test('writes hooks where the agent reads them', async () => {
    await apply(await planConnect(order('claude'), environment()));
    expect(Object.keys(await json('.claude', 'settings.json'))).toEqual(['hooks']);
    await apply(await planConnect(order('claude', true), environment()));
    await apply(await planConnect(order('droid', true), environment()));
    expect(await all()).toEqual([
      '.claude/settings.json',
      '.local/state/lamina/connection',
      'project/.claude/settings.local.json',
      'project/.factory/hooks.json',
      'project/.factory/mcp.json',
      'project/.mcp.json',
    ]);
    // What is in a project is for others to read.
    for (const path of ['.factory/mcp.json', '.mcp.json'])
      expect((await json('project', path)).mcpServers.lamina.headers).toEqual({
        Authorization: `Bearer \${LAMINA_TOKEN}`,
      });
    for (const [agent, isProject] of [
      ['claude', false],
      ['claude', true],
      ['droid', true],
    ] as const)
      await apply(await planUndo(order(agent, isProject), environment()));
    expect(await all()).toEqual([]);
  });

  test('turns off no hooks that Droid has in its settings', async () => {
    const settings = await write('.factory/settings.json', {
      model: 'x',
      hooks: { Stop: [{ hooks: [{ type: 'command', command: 'mine' }] }] },
    });
    await apply(await planConnect(order('droid'), environment()));
    expect(existsSync(join(folder, '.factory/hooks.json'))).toBe(false);
    expect((await json('.factory', 'settings.json')).hooks.Stop).toHaveLength(2);
    await apply(await planUndo(order('droid'), environment()));
    expect(await file('.factory', 'settings.json')).toBe(settings);
    await write('.factory/hooks.json', {});
    await apply(await planConnect(order('droid'), environment()));
    expect(await file('.factory', 'settings.json')).toBe(settings);
    expect(Object.keys(await json('.factory', 'hooks.json'))).toHaveLength(hookedEvents.length);
    await rm(join(folder, '.factory'), { recursive: true });
    await write('.factory/hooks/hooks.json', {});
    await expect(planConnect(order('droid'), environment())).rejects.toThrow('open /hooks in Droid');
  });

  test('leaves everything as it is where a file is not what it should be', async () => {
    const wrong: Record<string, [string, RegExp]> = {
      '.factory/hooks.json': ['{"Stop": [], // secret\n}', /is no JSON.*Nothing was changed/],
      '.factory/mcp.json': ['{"mcpServers": []}', /"mcpServers", but it is no object/],
      '.claude/settings.json': ['{"hooks": {"Stop": {}}}', /"Stop", but it is no list/],
    };
    for (const [path, [text, message]] of Object.entries(wrong)) {
      await rm(join(folder, '.factory'), { recursive: true, force: true });
      await write(path, text);
      const refused = await planConnect(order(path.startsWith('.claude') ? 'claude' : 'droid'), environment()).catch(
        (error) => error,
      );
      expect(refused.message).toMatch(message);
      expect(refused.message).not.toContain('secret');
      expect(await file(path)).toBe(text);
    }
    await rm(join(folder, '.factory'), { recursive: true, force: true });
    await write('.factory/mcp.json', { mcpServers: { lamina: { command: 'another lamina' } } });
    await expect(planConnect(order('droid'), environment())).rejects.toThrow('another MCP server named lamina');
    expect(await planUndo(order('droid'), environment())).toEqual([]);
  });

  test('takes the token of the embedded store, or of the server that is named, and no other', async () => {
    const without = environment({ LAMINA_TOKEN: '' });
    await expect(planConnect(order('droid'), without)).rejects.toThrow('npm start');
    await write('data/token', `${token}-own\n`);
    await apply(await planConnect(order('droid'), without));
    expect(await file('.local/state/lamina/connection')).toContain(`\n${token}-own\n`);
    await expect(planConnect(order('droid', false, 'https://a.example'), without)).rejects.toThrow('Set LAMINA_TOKEN');
    const moved = await planConnect(order('droid', false, 'https://a.example'), environment());
    const shown = moved.map(({ shown: { before, after } }) => before + after).join('');
    expect(shown).toContain('(the token before)');
    expect(shown).not.toContain(token);
    await apply(moved);
    expect((await json('.factory', 'mcp.json')).mcpServers.lamina.url).toBe('https://a.example/mcp');
    await apply(await planUndo(order('droid'), environment()));
    expect(await all()).toEqual(['data/token']);
  });

  test('keeps the connection while another agent uses it', async () => {
    await apply(await planConnect(order('droid'), environment()));
    await apply(await planConnect(order('claude'), environment()));
    await apply(await planUndo(order('droid'), environment()));
    expect(await all()).toEqual(['.claude/settings.json', '.local/state/lamina/connection']);
    await apply(await planUndo(order('claude'), environment()));
    expect(await all()).toEqual([]);
  });

  test('follows links, and writes over nothing that has changed since it was shown', async () => {
    await write('dotfiles/mcp.json', {});
    await mkdir(join(folder, '.factory'));
    await symlink(join(folder, 'dotfiles/mcp.json'), join(folder, '.factory/mcp.json'));
    await apply(await planConnect(order('droid'), environment()));
    expect((await json('dotfiles', 'mcp.json')).mcpServers).toHaveProperty('lamina');
    const changes = await planUndo(order('droid'), environment());
    await writeFile(join(folder, 'dotfiles/mcp.json'), '{"mine": 1}');
    await expect(apply(changes.filter(({ path }) => path.endsWith('mcp.json')))).rejects.toThrow(
      'changed by someone else',
    );
    expect(await file('dotfiles', 'mcp.json')).toBe('{"mine": 1}');
    expect(await readdir(join(folder, 'dotfiles'))).toEqual(['mcp.json']);
  });

  test('quotes whatever path the repository has', () => {
    for (const path of ['/a b/x.sh', "/it's/x.sh", '/$(touch x)/`y`/"z"\\.sh'])
      expect(spawnSync('sh', ['-c', hookCommand(path, 'droid').replace(/^sh /, 'printf %s ')]).stdout.toString()).toBe(
        `${path}droid`,
      );
  });
});
