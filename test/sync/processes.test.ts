import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { freePort } from '../servers/postgres.ts';
import { kill, type Served, startServing, stopServing } from '../support/serving.ts';

const folders: string[] = [];
afterAll(async () => {
  await stopServing();
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

/** What `docs/sync.md` shows: a laptop and a cloud, each a process of its own. */
test('laptop and cloud are in step, whoever is killed, and what was written offline is merged', async () => {
  const [cloudData, laptopData] = [await folder(), await folder()];
  const port = String(await freePort());
  // Whoever is killed in a run holds the peer no longer than that.
  const settings = join(laptopData, 'settings.yaml');
  await writeFile(settings, 'sync: { answerMs: 1000, leaseMs: 2000 }\n');
  const startCloud = () => startServing({ LAMINA_DATA: cloudData, PORT: port });
  const startLaptop = () => startServing({ LAMINA_DATA: laptopData, LAMINA_CONFIG: settings });
  let [cloud, laptop] = [await startCloud(), await startLaptop()];
  const key = (await cloud.send('POST', '/v1/keys', { name: 'laptop', scopes: ['write'] })).json['token'];
  const peer = {
    type: 'lamina',
    transport: { url: cloud.origin, headers: { authorization: `Bearer ${key}` } },
    intervalSeconds: 1,
  };
  expect((await laptop.send('PUT', '/v1/peers/cloud', peer)).status).toBe(201);

  const text = (content: string) => ({ contentType: 'text/markdown', content });
  await laptop.send('PUT', '/v1/contexts/plan', text('# Plan\n\nowner: ann\n\nretries: 3\n'));
  await until(cloud, 'plan', (content) => content.includes('owner: ann'));

  // The cloud is away; both go on.
  await kill(cloud.child);
  await laptop.send('PUT', '/v1/contexts/plan', text('# Plan\n\nowner: ben\n\nretries: 3\n'));
  await laptop.send('PUT', '/v1/contexts/offline', text('written on the train\n'));
  while ((await laptop.send('GET', '/v1/peers/cloud')).json['failures'] === 0) await sleep(50);
  cloud = await startCloud();
  await cloud.send('PUT', '/v1/contexts/plan', text('# Plan\n\nowner: ann\n\nretries: 5\n'));

  // And the laptop is killed at once, in whatever it is doing.
  await kill(laptop.child);
  laptop = await startLaptop();
  const merged = '# Plan\n\nowner: ben\n\nretries: 5\n';
  await laptop.send('POST', '/v1/peers/cloud/sync').catch(() => {});
  for (const one of [cloud, laptop]) await until(one, 'plan', (content) => content === merged);
  await until(cloud, 'offline', (content) => content === 'written on the train\n');
  const { items } = (await laptop.send('GET', '/v1/contexts/plan/versions')).json as { items: { operation: string }[] };
  expect(items.map(({ operation }) => operation)).toContain('merge');
  expect((await laptop.send('GET', '/v1/conflicts')).json['items']).toEqual([]);
}, 60_000);

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'lamina-sync-process-'));
  folders.push(made);
  return made;
}

async function until(server: Served, id: string, is: (content: string) => boolean): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    const { json } = await server.send('GET', `/v1/contexts/${id}`);
    if (typeof json['content'] === 'string' && is(json['content'])) return;
    await sleep(50);
  }
  throw new Error(
    `${id} never came to be so: ${JSON.stringify((await server.send('GET', `/v1/contexts/${id}`)).json)}`,
  );
}
