import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client as ModernClient } from '@modelcontextprotocol/client';
import { StdioClientTransport as ModernTransport } from '@modelcontextprotocol/client/stdio';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { newId } from '../support/client.ts';
import { callTool, connectReference, connectStdio } from '../support/mcp.ts';
import { startServing, stopServing } from '../support/serving.ts';

const run = promisify(execFile);

describe('MCP over stdio', () => {
  let folder: string;
  const clients: Client[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-stdio-'));
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await stopServing();
    await rm(folder, { recursive: true, force: true });
  });
  async function open(variables: Record<string, string> = { LAMINA_DATA: folder }) {
    const opened = await connectStdio(variables);
    clients.push(opened.client);
    return opened;
  }
  const create = (client: Client, name: string) =>
    callTool(client, 'create_entities', { entities: [{ name, entityType: 't', observations: [] }] });
  const names = async (client: Client) => {
    const { structuredContent } = await callTool(client, 'read_graph');
    return (structuredContent as { entities: { name: string }[] }).entities.map(({ name }) => name).sort();
  };

  test('three clients share one embedded store; when the one that holds it is killed, the next takes its place', async () => {
    const opened = [await open(), await open(), await open()];
    const wanted: string[] = [];
    const writing = (client: Client, who: string) =>
      Promise.all(
        Array.from({ length: 20 }, async (_, at) => {
          const answer = await create(client, `${who}-${at}`);
          expect([answer.isError, answer.content]).toEqual([undefined, expect.anything()]);
          wanted.push(`${who}-${at}`);
        }),
      );
    await Promise.all(opened.map(({ client }, index) => writing(client, `w${index}`)));
    const holder = JSON.parse(await readFile(join(folder, 'lock'), 'utf8')) as { pid: number };
    const others = opened.filter(({ pid }) => pid !== holder.pid);
    expect(others).toHaveLength(2);
    process.kill(holder.pid, 'SIGKILL');
    await expect.poll(() => existsSync(`/proc/${holder.pid}/status`), { timeout: 5000 }).toBe(false);
    await Promise.all(others.map(({ client }, index) => writing(client, `after${index}`)));
    for (const { client } of others) expect(await names(client)).toEqual([...wanted].sort());
  }, 60_000);

  test('goes through a server that is running, in either direction', async () => {
    const served = await startServing({ LAMINA_DATA: folder, LAMINA_TOKEN: 'lam_test_owner_0123456789' });
    const through = await open({ LAMINA_DATA: folder, LAMINA_TOKEN: 'lam_test_owner_0123456789' });
    const bridged = await open({ LAMINA_URL: served.origin, LAMINA_TOKEN: 'lam_test_owner_0123456789' });
    await create(through.client, 'one');
    await create(bridged.client, 'two');
    expect(await names(through.client)).toEqual(['one', 'two']);
    const got = await callTool(bridged.client, 'context_get', { id: 'nothing' });
    expect(got).toMatchObject({ isError: true, content: [{ text: expect.stringMatching(/^context_not_found: /) }] });
    const { resources } = await bridged.client.listResources();
    expect(resources.map(({ uri }) => uri)).toContain('memory://knowledge-graph');
    const missing = bridged.client.readResource({ uri: 'context://nothing' });
    await expect(missing).rejects.toMatchObject({ code: -32602 });
  }, 60_000);

  test('what cannot be reached is said by the call, and not before', async () => {
    const { client } = await open({ LAMINA_URL: 'http://127.0.0.1:9', LAMINA_TOKEN: 'lam_test_owner_0123456789' });
    expect((await client.listTools()).tools.length).toBe(18);
    expect(await create(client, 'x')).toMatchObject({
      isError: true,
      content: [{ text: expect.stringMatching(/^unavailable: /) }],
    });
  }, 30_000);

  test('a client of the newest revision, and one that leaves in the middle of a write', async () => {
    const transport = new ModernTransport({
      command: process.execPath,
      args: ['functions/launch.js', 'functions/mcp.ts'],
      cwd: home,
      env: { ...(process.env as Record<string, string>), LAMINA_DATA: folder },
      stderr: 'ignore',
    });
    const modern = new ModernClient({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    await modern.connect(transport);
    const entities = Array.from({ length: 300 }, (_, at) => ({ name: `m${at}`, entityType: 't', observations: [] }));
    const writing = modern.callTool({ name: 'create_entities', arguments: { entities } }).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await writing;
    const late = modern
      .callTool({
        name: 'create_entities',
        arguments: { entities: [{ name: 'late', entityType: 't', observations: [] }] },
      })
      .catch(() => undefined);
    await modern.close();
    await late;
    const { client } = await open();
    const kept = await names(client);
    expect(kept.filter((name) => name.startsWith('m'))).toHaveLength(300);
  }, 60_000);

  test('what README shows for an mcp.json starts it, from any folder', async () => {
    const readme = await readFile(join(home, 'README.md'), 'utf8');
    const [, block = ''] = /```json\n(\{ "mcpServers".*)\n```/.exec(readme) ?? [];
    const { command, args } = JSON.parse(block).mcpServers.lamina as { command: string; args: string[] };
    expect(args).toContain('/path/to/lamina');
    const transport = new ModernTransport({
      command,
      args: args.map((arg) => (arg === '/path/to/lamina' ? home : arg)),
      cwd: folder,
      env: { ...(process.env as Record<string, string>), LAMINA_DATA: folder },
      stderr: 'ignore',
    });
    const client = new ModernClient({ name: 'test', version: '1.0.0' });
    await client.connect(transport);
    expect((await client.listTools()).tools).toHaveLength(18);
    const { structuredContent } = await client.callTool({ name: 'read_graph', arguments: {} });
    expect(structuredContent).toEqual({ entities: [], relations: [] });
    await client.close();
  }, 60_000);

  test('a file of the reference server is taken over, and written so that the reference reads it', async () => {
    const [from, to] = [join(folder, 'memory.jsonl'), join(folder, 'out.jsonl')];
    const reference = await connectReference(from);
    const entities = Array.from({ length: 40 }, (_, at) => ({
      name: `n${at} ${newId()}`,
      entityType: 't',
      observations: ['a', '🦊'],
    }));
    const relations = entities
      .slice(1)
      .map(({ name }) => ({ from: name, to: entities[0]?.name, relationType: 'knows' }));
    await callTool(reference, 'create_entities', { entities });
    await callTool(reference, 'create_relations', { relations });
    await reference.close();
    const env = { ...process.env, LAMINA_DATA: join(folder, 'data') };
    const script = (name: string, path: string) =>
      run(process.execPath, ['functions/launch.js', `functions/${name}.ts`, path], { cwd: home, env });
    expect((await script('import', from)).stdout).toBe('40 entities read, 40 of them new; 39 relations, 39 new.\n');
    expect((await script('import', from)).stdout).toBe('40 entities read, 0 of them new; 39 relations, 0 new.\n');
    await script('export', to);
    expect(await readFile(to, 'utf8')).toBe(await readFile(from, 'utf8'));
    expect((await stat(to)).mode & 0o777).toBe(0o600);
    await expect(script('export', to)).rejects.toMatchObject({ stderr: expect.stringContaining('exists already') });
    expect((await readdir(folder)).sort()).toEqual(['data', 'memory.jsonl', 'out.jsonl']);
    // Through a process that has the store open.
    const { client } = await open({ LAMINA_DATA: join(folder, 'data') });
    await callTool(client, 'add_observations', {
      observations: [{ entityName: entities[0]?.name, contents: ['later'] }],
    });
    await writeFile(from, `${await readFile(from, 'utf8')}\n{"type":"entity","name":"half`);
    await expect(script('import', from)).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('line 80') });
    await rm(to);
    await script('export', to);
    const again = await connectReference(to);
    const graph = (await callTool(again, 'read_graph')).structuredContent as { entities: { observations: string[] }[] };
    expect(graph).toMatchObject({ relations });
    expect(graph.entities[0]?.observations).toEqual(['a', '🦊', 'later']);
    await again.close();
  }, 60_000);

  test('what of a file is refused is named, and all else is taken over', async () => {
    const [file, settings] = [join(folder, 'memory.jsonl'), join(folder, 'context.yaml')];
    await writeFile(settings, 'limits:\n  contextBytes: 2048\n');
    const entity = (name: string, entityType: string, observations: string[]) =>
      JSON.stringify({ type: 'entity', name, entityType, observations });
    const lines = [
      ...Array.from({ length: 5 }, (_, at) => entity(`n${at}`, 't', ['x'.repeat(1000)])),
      entity('large', 't', ['x'.repeat(3000)]),
      entity('n1', 'other', ['more']),
      JSON.stringify({ type: 'relation', from: 'n1', to: 'large', relationType: 'knows' }),
    ];
    await writeFile(file, lines.join('\n'));
    const env = { ...process.env, LAMINA_DATA: join(folder, 'data'), LAMINA_CONFIG: settings };
    const importing = run(process.execPath, ['functions/launch.js', 'functions/import.ts', file], { cwd: home, env });
    const { code, stdout, stderr } = await importing.catch((error) => error);
    expect([code, stdout]).toEqual([1, '6 entities read, 5 of them new; 1 relations, 1 new.\n']);
    expect(stderr).toMatch(/only its observations taken over:\n {2}line 7\nRefused.*:\n {2}large: .*2048/);
  }, 60_000);
});
