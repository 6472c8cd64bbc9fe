import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Agent } from '../functions/agent-files.ts';
import { applyChanges as apply, claudeCommand, planConnect, planUndo } from '../functions/agents.ts';
import { home, readEnvironment } from '../functions/runtime.ts';
import {
  dropHooks,
  dropServer,
  hookCommand,
  hookedEvents,
  isOwnCommand,
  maskConfig,
  putHooks,
  putServer,
} from '../lib/factory/hook-config.ts';
import { readJsonText } from '../lib/factory/json-edit.ts';

const run = promisify(execFile);
const token = 'lam_test_owner_0123456789';
const url = 'http://127.0.0.1:8787';
const connection = '/state/lamina/connections/droid';
const command = hookCommand('/repo/plugin/lamina/hooks/lamina-hook.sh', { agent: 'droid', connection });
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
    const shared = JSON.stringify({ Stop: [{ hooks: [foreign, { type: 'command', command, timeout: 5 }] }] });
    expect(JSON.parse(dropHooks(shared, {}))).toEqual({ Stop: [{ hooks: [foreign] }] });
    expect(JSON.parse(putHooks(shared, { command })).Stop).toEqual(JSON.parse(shared).Stop);
  });

  test('keeps what somebody has put around our command, or beside it', () => {
    const moved = hookCommand("/it's elsewhere/plugin/lamina/hooks/lamina-hook.sh", {
      agent: 'droid',
      connection: "/it's/$(there)/connections/droid-0a1b",
    });
    for (const [from, to] of [
      [command, moved],
      [moved, command],
      ["sh '/old/lamina/hooks/lamina-hook.sh' droid", command],
    ] as const)
      for (const [before, after] of [
        ['LAMINA_CAPTURE=events ', ' 2>/dev/null'],
        ['', ' || true'],
      ]) {
        const group = {
          matcher: 'mcp__mine',
          hooks: [{ type: 'command', command: before + from + after, timeout: 9 }],
        };
        const made = JSON.parse(putHooks(JSON.stringify({ PostToolUse: [group] }), { command: to }));
        expect(made.PostToolUse).toEqual([{ ...group, hooks: [{ ...group.hooks[0], command: before + to + after }] }]);
      }
    const own = {
      ...entry,
      disabled: true,
      enabledTools: ['context_get'],
      headers: { ...entry.headers, 'x-mine': '1' },
    };
    const renewed = { ...entry, url: 'http://new/mcp', headers: { Authorization: 'Bearer new' } };
    const made = putServer(JSON.stringify({ mcpServers: { lamina: own } }), { entry: renewed, knownUrls: [entry.url] });
    expect(JSON.parse(made).mcpServers.lamina).toEqual({
      ...own,
      ...renewed,
      headers: { 'x-mine': '1', Authorization: 'Bearer new' },
    });
  });

  test('is shown without a word of others, their names and numbers included', () => {
    const secret = 'sk-of-others';
    const others = {
      [secret]: secret,
      a: [secret, 4711, true, { [`${secret}-key`]: null }],
      Stop: [{ hooks: [{ type: 'command', command: `KEY=${secret} ${command}`, timeout: 4712 }] }],
      mcpServers: { [`${secret}-server`]: { env: { KEY: secret } }, lamina: { url: `https://${secret}/`, x: 4713 } },
    };
    const shown = maskConfig(JSON.stringify(others, null, 2), (value) => (value === 'command' ? value : undefined));
    expect(shown).not.toMatch(/sk-of|471\d|true|null/);
    expect(shown).toContain('"type": "command"');
    expect(isOwnCommand(command)).toBe(true);
    expect(isOwnCommand(`KEY=${secret} ${command}`)).toBe(false);
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
    expect(shown.stdout).toContain('"Authorization": "Bearer (your token)"');
    expect(shown.stdout).toMatch(/mcp\.json: from then on you alone may read it/);
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
    expect(
      await Promise.all(['', '/connections', '/connections/droid'].map((path) => mode(`.local/state/lamina${path}`))),
    ).toEqual([0o700, 0o700, 0o600]);
    expect(await mode('.factory/mcp.json')).toBe(0o600);
    expect((await file('.local/state/lamina/connections/droid')).split('\n').slice(0, 2)).toEqual([url, token]);

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
      '.local/state/lamina/connections/claude',
      expect.stringMatching(/connections\/claude-\w{12}$/),
      expect.stringMatching(/connections\/droid-\w{12}$/),
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
    const known = () => file('.local/state/lamina/connections/droid');
    expect(await known()).toContain(`\n${token}-own\n`);
    // A server of this machine that was begun anew has another one.
    await write('data/token', `${token}-new\n`);
    await apply(await planConnect(order('droid'), without));
    expect(await known()).toContain(`\n${token}-new\n`);
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

  test('has a connection for each configuration, which no other redirects', async () => {
    const [one, two] = [join(folder, 'one'), join(folder, 'two')];
    for (const path of [one, two]) await mkdir(path);
    const at = (path: string) => environment({ INIT_CWD: path });
    await apply(await planConnect(order('droid', true, 'https://a.example'), at(one)));
    await apply(await planConnect(order('droid', true, 'https://b.example'), at(two)));
    for (const [name, server] of [
      ['one', 'https://a.example'],
      ['two', 'https://b.example'],
    ] as const) {
      const { command: hook } = (await json(name, '.factory', 'hooks.json')).Stop[0].hooks[0];
      const [, path = ''] = / droid '?(\S+?)'?$/.exec(hook) ?? [];
      expect((await readFile(path, 'utf8')).split('\n')[0]).toBe(server);
      expect((await json(name, '.factory', 'mcp.json')).mcpServers.lamina.url).toBe(`${server}/mcp`);
      expect(await planConnect(order('droid', true, server), at(join(folder, name)))).toEqual([]);
    }
    // The server and the token of one go with it, whatever was connected since.
    await apply(await planUndo(order('droid', true), at(one)));
    expect((await all()).filter((path) => path.startsWith('one/'))).toEqual([]);
    expect(await readdir(join(folder, '.local/state/lamina/connections'))).toHaveLength(1);
    await apply(await planConnect(order('droid', false, 'https://a.example'), environment()));
    await apply(await planConnect(order('claude', false, 'https://b.example'), environment()));
    await apply(await planUndo(order('droid'), environment()));
    expect((await all()).filter((path) => path.startsWith('.factory'))).toEqual([]);
    await apply(await planUndo(order('claude'), environment()));
    // Of a configuration that is gone, or has it no more, the token goes with the next run.
    await rm(two, { recursive: true });
    await apply(await planUndo(order('claude'), environment()));
    expect(await all()).toEqual([]);
  });

  test('says what an undo leaves', async () => {
    await write('.factory/mcp.json', {
      mcpServers: { lamina: { type: 'http', url: 'https://elsewhere.example/mcp' } },
    });
    const before = await file('.factory/mcp.json');
    await apply(await planConnect(order('droid', true), environment()));
    const undone = await cli(['droid', '--undo', '--yes']);
    expect(undone).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/mcp\.json has an MCP server named lamina still/),
    });
    expect(await file('.factory/mcp.json')).toBe(before);
  });

  test('writes all files or none, and says which could not be written', async () => {
    const hooks = await write('.factory/hooks.json', { Notification: [] });
    // A link into what is no folder.
    await symlink(join(folder, '.factory/hooks.json/none/mcp.json'), join(folder, '.factory/mcp.json'));
    const failed = await cli(['droid', '--yes']);
    expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(/mcp\.json cannot be (written|read)/) });
    expect([await all(), await file('.factory/hooks.json')]).toEqual([['.factory/hooks.json'], hooks]);
    await rm(join(folder, '.factory/mcp.json'));
    await write('.factory/mcp.json', {});
    await chmod(join(folder, '.factory/mcp.json'), 0o444);
    await expect(planConnect(order('droid'), environment()).then(apply)).rejects.toThrow(
      /mcp\.json cannot be written: it is read-only\. What was written before is put back\./,
    );
    expect([await all(), await file('.factory/hooks.json')]).toEqual([
      ['.factory/hooks.json', '.factory/mcp.json'],
      hooks,
    ]);
    expect((await stat(join(folder, '.factory/mcp.json'))).mode & 0o777).toBe(0o444);
  });

  test('is not stopped by files that have nothing of Lamina, however they are written', async () => {
    const settings = await write('.factory/settings.json', '{\n  // mine\n  "model": "x"\n}\n');
    const hooks = await write('.factory/hooks.json', '\ufeff{\r\n  "Notification": []\r\n}\r\n');
    await write('.claude/settings.json', '');
    const servers = await write('.factory/mcp.json', '{}');
    for (const agent of ['droid', 'claude'] as const) {
      await apply(await planConnect(order(agent), environment()));
      expect(await planConnect(order(agent), environment())).toEqual([]);
    }
    expect((await file('.factory/hooks.json')).startsWith('\ufeff{\r\n')).toBe(true);
    expect(Object.keys(await json('.claude/settings.json'))).toEqual(['hooks']);
    for (const agent of ['droid', 'claude'] as const) await apply(await planUndo(order(agent), environment()));
    // What was there before stays, though nothing is in it.
    expect(await file('.factory/mcp.json')).toBe(servers);
    expect(await json('.claude/settings.json')).toEqual({});
    expect([await file('.factory/settings.json'), await file('.factory/hooks.json')]).toEqual([settings, hooks]);
    await rm(join(folder, '.factory/hooks.json'));
    await apply(await planConnect(order('droid'), environment()));
    expect(existsSync(join(folder, '.factory/hooks.json'))).toBe(true);
    await apply(await planUndo(order('droid'), environment()));
    await write('.factory/settings.json', '{ // mine\n"hooks": {"Stop": []} }');
    expect(await planUndo(order('droid'), environment())).toEqual([]);
  });

  test('keeps a link, also one that leads to no file yet, and clears up after one that was killed', async () => {
    await mkdir(join(folder, '.factory'));
    await mkdir(join(folder, 'dotfiles'));
    await symlink('../dotfiles/mcp.json', join(folder, '.factory/mcp.json'));
    const left = join(folder, 'dotfiles', 'mcp.json.0123456789ab.part');
    const fresh = join(folder, 'dotfiles', 'mcp.json.ba9876543210.part');
    for (const path of [left, fresh]) await writeFile(path, 'x');
    await utimes(left, 0, 0);
    await apply(await planConnect(order('droid'), environment()));
    expect((await lstat(join(folder, '.factory/mcp.json'))).isSymbolicLink()).toBe(true);
    expect((await json('dotfiles/mcp.json')).mcpServers).toHaveProperty('lamina');
    await apply(await planUndo(order('droid'), environment()));
    expect(await json('.factory/mcp.json')).toEqual({});
    expect((await readdir(join(folder, 'dotfiles'))).sort()).toEqual(['mcp.json', 'mcp.json.ba9876543210.part']);
  });

  test.skipIf(process.getuid?.() !== 0)('keeps the owner of a file', async () => {
    await write('.factory/mcp.json', { mcpServers: {} });
    await chown(join(folder, '.factory/mcp.json'), 1234, 1235);
    await apply(await planConnect(order('droid'), environment()));
    expect(await stat(join(folder, '.factory/mcp.json'))).toMatchObject({ uid: 1234, gid: 1235 });
  });

  test('refuses a token that the hook would not send, and quotes what it says to run', async () => {
    await expect(planConnect(order('droid'), environment({ LAMINA_TOKEN: 'lam_"quoted"_0123456789' }))).rejects.toThrow(
      'no bearer token',
    );
    const said = claudeCommand(
      order('claude', false, "https://a.example/it's;exit"),
      environment({ XDG_STATE_HOME: "/a 'b" }),
    );
    const { stdout } = spawnSync('sh', ['-c', `claude() { printf '%s\\n' "$@"; }; sed() { echo "$3"; }; ${said}`]);
    expect(stdout.toString().split('\n')).toEqual(
      ['mcp', 'add', '--scope', 'user', '--transport', 'http', 'lamina', "https://a.example/it's;exit/mcp"].concat([
        '--header',
        "Authorization: Bearer /a 'b/lamina/connections/claude",
        '',
      ]),
    );
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

  test('quotes whatever paths it has', () => {
    for (const path of ['/a b/x.sh', "/it's/x.sh", '/$(touch x)/`y`/"z"\\.sh', '/plain/x.sh']) {
      const made = hookCommand(path, { agent: 'droid', connection: path }).replace(/^sh /, "printf '%s|' ");
      expect(spawnSync('sh', ['-c', made]).stdout.toString()).toBe(`${path}|droid|${path}|`);
    }
  });
});
