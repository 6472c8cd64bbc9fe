import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { reachStore } from '../../functions/reach.ts';
import { readEnvironment } from '../../functions/runtime.ts';
import { noTelemetry } from '../../lib/telemetry/telemetry.ts';
import { callTool, connectStdio } from '../support/mcp.ts';
import { kill, startServing, stopServing } from '../support/serving.ts';

const token = 'lam_test_owner_0123456789';

describe('the store of a data folder that another process has open', () => {
  let folder: string;
  const clients: Client[] = [];
  const strangers: Server[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-reach-'));
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    for (const stranger of strangers.splice(0)) {
      stranger.close();
      stranger.closeAllConnections();
    }
    await stopServing();
    await rm(folder, { recursive: true, force: true });
  });
  async function connect(variables: Record<string, string> = {}): Promise<Client> {
    const { client } = await connectStdio({ LAMINA_DATA: folder, LAMINA_TOKEN: '', ...variables });
    clients.push(client);
    return client;
  }
  /** Whoever has got a port, and answers everything with a failure. */
  async function listenAsStranger(port: number): Promise<{ origin: string; asked: (string | undefined)[] }> {
    const asked: (string | undefined)[] = [];
    const stranger = createServer((request, response) => {
      asked.push(request.headers.authorization);
      response.writeHead(500).end('{}');
    });
    strangers.push(stranger);
    await new Promise<void>((resolve) => stranger.listen(port, '127.0.0.1', resolve));
    return { origin: `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`, asked };
  }
  const remember = (client: Client) =>
    callTool(client, 'create_entities', { entities: [{ name: 'x', entityType: 't', observations: [] }] });

  test('is not told the token before it has proved who it is', async () => {
    const stranger = await listenAsStranger(0);
    await writeFile(join(folder, 'lock'), JSON.stringify({ pid: process.pid, startedAt: '' }));
    const address = { url: stranger.origin, pid: process.pid, secret: 'unknown to the stranger' };
    await writeFile(join(folder, 'address'), JSON.stringify(address));
    await writeFile(join(folder, 'token'), token);
    await connect();
    await expect.poll(() => stranger.asked.length, { timeout: 10_000 }).toBeGreaterThan(2);
    expect(new Set(stranger.asked)).toEqual(new Set([undefined]));
  }, 30_000);

  test('is reached at whatever address it listens on', async () => {
    const host = '127.0.0.2';
    await startServing({
      LAMINA_DATA: folder,
      LAMINA_TOKEN: token,
      HOST: host,
      LAMINA_PUBLIC_URL: 'https://a.example',
    });
    expect(JSON.parse(await readFile(join(folder, 'address'), 'utf8')).url).toContain(host);
    expect((await remember(await connect({ LAMINA_TOKEN: token }))).isError).toBeFalsy();
  }, 30_000);

  test('is opened by the next call once its address answers nothing but failures', async () => {
    const served = await startServing({ LAMINA_DATA: folder, LAMINA_TOKEN: token });
    const client = await connect({ LAMINA_TOKEN: token });
    expect((await remember(client)).isError).toBeFalsy();
    await kill(served.child);
    await listenAsStranger(Number(new URL(served.origin).port));
    expect(await remember(client)).toMatchObject({ isError: true });
    expect((await remember(client)).isError).toBeFalsy();
  }, 60_000);

  test('with a token that is not known here, says so and makes none', async () => {
    await startServing({ LAMINA_DATA: folder, LAMINA_TOKEN: token });
    const refusal = async (variables: Record<string, string>) =>
      JSON.stringify((await remember(await connect(variables))).content);
    expect(await refusal({})).toContain('runs with a LAMINA_TOKEN of its own');
    expect(existsSync(join(folder, 'token'))).toBe(false);
    expect(await refusal({ LAMINA_TOKEN: `${token}-other` })).toContain('runs with another LAMINA_TOKEN');
  }, 60_000);

  test('is let go again where its address cannot be published', async () => {
    await mkdir(join(folder, 'address'));
    const environment = readEnvironment({ LAMINA_DATA: folder });
    await expect(reachStore(environment, { telemetry: noTelemetry, isHost: true })).rejects.toThrow(/directory/);
    expect(existsSync(join(folder, 'lock'))).toBe(false);
    await rm(join(folder, 'address'), { recursive: true });
    const reached = await reachStore(environment, { telemetry: noTelemetry, isHost: true });
    expect(JSON.parse(await readFile(join(folder, 'address'), 'utf8'))).toMatchObject({ pid: process.pid });
    await reached.close();
    expect(existsSync(join(folder, 'address'))).toBe(false);
  }, 30_000);
});
