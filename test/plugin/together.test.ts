import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';

let store: TestStore;
let server: Server;
let folder: string;
beforeAll(async () => {
  store = await openStore(pgliteEngine);
  server = createServer(getRequestListener(store.fetch));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  folder = await mkdtemp(join(tmpdir(), 'lamina-together-'));
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true, force: true });
});

/** The plugin's hook as Droid runs it, on the server of this test. */
async function hook(event: object): Promise<string> {
  const child = spawn('sh', [join(home, 'plugin', 'lamina', 'hooks', 'lamina-hook.sh'), 'droid'], {
    env: {
      PATH: process.env['PATH'],
      HOME: folder,
      LAMINA_TOKEN: store.token,
      LAMINA_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    },
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      printed += piece.toString();
    });
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.stdin.end(JSON.stringify(event));
  expect(await ended).toBe(0);
  return printed;
}

test('what Droid tells by the hook becomes contexts, and the next session of the project hears of it, and no other', async () => {
  const transcript = join(folder, 'session.jsonl');
  const message = { role: 'user', content: [{ type: 'text', text: 'we chose zebrafish as the codename' }] };
  const lines = [
    { type: 'session_start', id: 's', title: 'Codename', version: 2, cwd: folder },
    { type: 'message', id: 'm1', timestamp: '2026-01-31T12:00:00Z', message },
  ];
  await writeFile(transcript, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const event = { session_id: '5e550000-0000-4000-8000-000000000077', transcript_path: transcript, cwd: folder };
  await hook({ ...event, hook_event_name: 'SessionStart', source: 'startup' });
  const asked = { hook_event_name: 'UserPromptSubmit', prompt: 'remember: checkout retries five times' };
  await hook({ ...event, ...asked });
  expect(await hook({ ...event, hook_event_name: 'Stop', stop_hook_active: false })).toBe('');
  await store.manager.work({ only: store.ref, budgetMs: 10_000 });
  await store.manager.index({ only: store.ref, budgetMs: 10_000 });

  const session = (await store.send('GET', `/v1/contexts/factory:session:${event.session_id}`)).json;
  expect(JSON.stringify(session.content)).toContain('zebrafish');
  const next = {
    session_id: '5e550000-0000-4000-8000-000000000078',
    hook_event_name: 'UserPromptSubmit',
    prompt: 'how often does checkout retry?',
  };
  const answer = JSON.parse(await hook({ ...next, cwd: folder }));
  expect(Object.keys(answer)).toEqual(['hookSpecificOutput']);
  expect(answer.hookSpecificOutput.additionalContext).toContain('checkout retries five times');
  const elsewhere = await hook({ ...next, session_id: '5e550000-0000-4000-8000-000000000079', cwd: tmpdir() });
  expect(elsewhere).not.toContain('five times');
  // Only what was added since is sent next.
  const state = await readFile(
    join(folder, '.local', 'state', 'lamina', 'sessions', (await marks())[0] as string),
    'utf8',
  );
  expect(Number(state.split(' ')[0])).toBe((await readFile(transcript)).length);
}, 30_000);

async function marks(): Promise<string[]> {
  return (await readdir(join(folder, '.local', 'state', 'lamina', 'sessions'))).filter((name) => name.includes('077'));
}
