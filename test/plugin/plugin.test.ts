import { spawnSync } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { home } from '../../functions/runtime.ts';
import { hookedEvents, hookTimeoutSeconds } from '../../lib/factory/hook-config.ts';
import { findTool } from '../../lib/mcp/tools.ts';
import { runHook, shells, startStub } from './hook-runs.ts';

const folder = join(home, 'plugin');
const json = async (path: string) => JSON.parse(await readFile(join(folder, path), 'utf8'));

describe('the plugin', () => {
  test('is a marketplace with one plugin, whose parts are where Droid looks for them', async () => {
    const { plugins } = await json('.factory-plugin/marketplace.json');
    expect(plugins).toEqual([{ name: 'lamina', description: expect.any(String), source: './lamina' }]);
    const { version } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8'));
    expect(await json('lamina/.factory-plugin/plugin.json')).toMatchObject({ name: 'lamina', version });
    expect((await readdir(join(folder, 'lamina'))).sort()).toEqual(['.factory-plugin', 'hooks', 'mcp.json', 'skills']);
    expect(await readdir(join(folder, 'lamina/.factory-plugin'))).toEqual(['plugin.json']);
    expect((await stat(join(folder, 'lamina/hooks/lamina-hook.sh'))).mode & 0o111).toBe(0o111);
  });

  test('hooks the events that connect does, keyed by event', async () => {
    const hooks = await json('lamina/hooks/hooks.json');
    const command = `sh '\${DROID_PLUGIN_ROOT}/hooks/lamina-hook.sh' droid`;
    const hook = { type: 'command', command, timeout: hookTimeoutSeconds };
    expect(Object.entries(hooks)).toEqual(
      hookedEvents.map(({ event, matcher }) => [event, [{ ...(matcher ? { matcher } : {}), hooks: [hook] }]]),
    );
  });

  test('runs from wherever Droid has copied it to', async () => {
    const stub = await startStub();
    const cache = await mkdtemp(join(tmpdir(), 'lamina plugin it’s $(exit 7) `x`-'));
    await cp(join(folder, 'lamina'), join(cache, 'lamina'), { recursive: true });
    const [
      {
        hooks: [hook],
      },
    ] = (await json('lamina/hooks/hooks.json')).SessionEnd;
    // Droid puts the folder into the text; the variable itself holds no path.
    const command = hook.command.replace(`\${DROID_PLUGIN_ROOT}`, join(cache, 'lamina'));
    const environment = {
      PATH: process.env['PATH'] ?? '',
      HOME: cache,
      DROID_PLUGIN_ROOT: '/PLUGIN_ROOT_NOT_EXPANDED_ERROR',
      LAMINA_URL: stub.origin,
      LAMINA_TOKEN: 'lam_test_owner_0123456789',
    };
    const [shell] = shells as [(typeof shells)[number]];
    const event = { session_id: 's', hook_event_name: 'SessionEnd' };
    expect(await runHook({ shell, event, environment, script: command })).toMatchObject({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(stub.told.map(({ event: told }) => JSON.parse(told))).toEqual([event]);
    stub.close();
    await rm(cache, { recursive: true });
  });

  test('names a server that needs no variable in its address, and a token that is one', async () => {
    const { lamina } = (await json('lamina/mcp.json')).mcpServers;
    expect(lamina).toMatchObject({ type: 'http', url: 'http://127.0.0.1:8787/mcp' });
    expect(lamina.headers).toEqual({ Authorization: `Bearer \${LAMINA_TOKEN}` });
  });

  test('teaches when to look and to remember, with tools that there are', async () => {
    const [name = ''] = await readdir(join(folder, 'lamina/skills'));
    const skill = await readFile(join(folder, 'lamina/skills', name, 'SKILL.md'), 'utf8');
    const [, front = '', text = ''] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(skill) ?? [];
    const { name: called, description } = parse(front) as { name: string; description: string };
    expect(called).toBe(name);
    expect(description).toMatch(/Use when/);
    expect(description.length).toBeLessThan(1024);
    const named = [...text.matchAll(/`(context_\w+)`/g)].map(([, tool = '']) => tool);
    expect(named.length).toBeGreaterThan(4);
    expect(named.filter((tool) => findTool(tool) === undefined)).toEqual([]);
  });

  test('has a script that every shell takes', () => {
    for (const shell of ['sh', 'dash', 'bash']) {
      const { error, status } = spawnSync(shell, ['-n', join(folder, 'lamina/hooks/lamina-hook.sh')]);
      if (error === undefined) expect([shell, status]).toEqual([shell, 0]);
    }
  });
});
