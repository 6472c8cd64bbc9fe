import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { home, readEnvironment } from '../functions/runtime.ts';
import { loadSettings } from '../lib/config/load.ts';
import { defaultSettings } from '../lib/config/settings.ts';

async function load(text: string) {
  const path = join(await mkdtemp(join(tmpdir(), 'lamina-settings-')), 'context.yaml');
  await writeFile(path, text);
  return loadSettings(path).then(
    (settings) => ({ settings, message: '' }),
    (error: Error) => ({ settings: undefined, message: error.message }),
  );
}

test('the file that is shipped shows every default', async () => {
  expect(await loadSettings(join(home, 'config', 'context.yaml'))).toEqual(defaultSettings);
});

test('an empty file is a good one, and one key changes one key', async () => {
  expect((await load('')).settings).toEqual(defaultSettings);
  expect((await load('versions:\n  retained: 7\n')).settings?.versions).toEqual({ retained: 7, retainedDays: null });
});

test('an unknown key stops the start and names its path, a wrong value too', async () => {
  expect((await load('versions:\n  retaned: 7\n')).message).toMatch(/versions\.retaned: there is no such setting/);
  expect((await load('cahce: {}\n')).message).toMatch(/cahce: there is no such setting/);
  expect((await load('limits:\n  treeDepth: 33\nversions:\n  retained: many\n')).message).toMatch(
    /limits\.treeDepth[\s\S]*versions\.retained/,
  );
  expect((await load('limits: [')).message).not.toBe('');
});

test('the environment is read with its defaults, and a value that cannot be is told', () => {
  expect(readEnvironment({})).toMatchObject({
    host: '127.0.0.1',
    port: 8787,
    databaseUrl: undefined,
    ownerToken: undefined,
    serverUrl: undefined,
  });
  expect(readEnvironment({ LAMINA_DATA: 'memory' }).dataFolder).toBeUndefined();
  expect(() => readEnvironment({ PORT: 'eighty' })).toThrow(/PORT/);
  expect(() => readEnvironment({ LAMINA_TOKEN: 'short' })).toThrow(/LAMINA_TOKEN/);
});
