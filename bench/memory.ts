import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { home } from '../functions/runtime.ts';
import { callTool, connectReference, connectStdio } from '../test/support/mcp.ts';
import { median, type Report } from './report.ts';

const sizes = [100, 10_000];
const callsEach = 25;

/** The memory tools over stdio, beside the reference memory server: latency by size, concurrency, and the start. */
export async function* benchMemory(): AsyncGenerator<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-bench-memory-'));
  const subjects: { name: string; client: Client; ratios: Record<string, number[]> }[] = [
    { name: 'reference', client: await connectReference(join(folder, 'memory.jsonl')), ratios: {} },
    { name: 'Lamina', client: (await connectStdio({ LAMINA_DATA: join(folder, 'data') })).client, ratios: {} },
  ];
  const lines: Record<string, string | number>[] = [];
  let filled = 0;
  for (const size of sizes) {
    for (; filled < size; filled += 100) {
      const entities = Array.from({ length: 100 }, (_, at) => entity(filled + at));
      const relations = entities.map(({ name }) => ({ from: name, to: 'e0', relationType: 'knows' }));
      for (const { client } of subjects) {
        await callTool(client, 'create_entities', { entities });
        await callTool(client, 'create_relations', { relations });
      }
    }
    for (const { name, client, ratios } of subjects) {
      const line: Record<string, string | number> = { server: name, entities: size };
      for (const [what, tool, args] of calls) {
        const times: number[] = [];
        for (let at = 0; at < callsEach; at++) {
          const started = performance.now();
          const answer = await callTool(client, tool, args(at, size));
          times.push(performance.now() - started);
          if (answer.isError) throw new Error(`${name} refuses ${tool}`);
        }
        line[`${what} ms`] = median(times);
        ratios[what] = [...(ratios[what] ?? []), median(times)];
      }
      lines.push(line);
    }
  }
  const lamina = subjects[1]?.ratios['create'] ?? [];
  const growth = (lamina[1] ?? 0) / (lamina[0] ?? 1);
  yield {
    name: 'memory-latency',
    about: `the memory tools over stdio, medians of ${callsEach} calls, one observation and one relation an entity`,
    lines,
    targets: [
      { what: `create at 10,000 entities within 2 × of that at 100 (${growth.toFixed(2)})`, isMet: growth <= 2 },
    ],
  };

  const kept: Record<string, string | number>[] = [];
  for (const { name, client } of subjects) {
    const names = Array.from({ length: 50 }, (_, at) => `concurrent ${at}`);
    const answers = await Promise.all(
      names.map((one) => callTool(client, 'create_entities', { entities: [{ ...entity(0), name: one }] })),
    );
    const opened = (await callTool(client, 'open_nodes', { names })).structuredContent as { entities: unknown[] };
    const acknowledged = answers.filter(({ isError }) => !isError).length;
    kept.push({ server: name, acknowledged, kept: opened.entities.length });
  }
  yield {
    name: 'memory-concurrency',
    about: '50 concurrent creates on one connection',
    lines: kept,
    targets: [{ what: 'Lamina keeps 50 of 50', isMet: kept[1]?.['kept'] === 50 }],
  };
  for (const { client } of subjects) await client.close();

  const starts: number[] = [];
  for (let round = 0; round < 5; round++) starts.push(await timeToList(join(folder, `start-${round}`)));
  yield {
    name: 'memory-start',
    about:
      'from the start of the process until tools/list is answered, on a data folder of its own that is not there yet',
    lines: [{ 'median ms': median(starts), 'slowest ms': Math.max(...starts) }],
    targets: [{ what: 'within 1,500 ms, the slowest', isMet: Math.max(...starts) <= 1500 }],
  };
  await rm(folder, { recursive: true });
}

const entity = (at: number) => ({ name: `e${at}`, entityType: 'thing', observations: [`fact number ${at}`] });

const calls: [what: string, tool: string, args: (at: number, size: number) => unknown][] = [
  ['create', 'create_entities', (at, size) => ({ entities: [{ ...entity(at), name: `new ${size} ${at}` }] })],
  [
    'add',
    'add_observations',
    (at, size) => ({ observations: [{ entityName: `e${at}`, contents: [`more at ${size}`] }] }),
  ],
  ['open', 'open_nodes', (at) => ({ names: [`e${at + 1}`] })],
  ['search', 'search_nodes', (at) => ({ query: `number ${at + 50}` })],
];

async function timeToList(folder: string): Promise<number> {
  const started = performance.now();
  const env = { ...process.env, LAMINA_DATA: folder };
  const child = spawn(process.execPath, ['functions/launch.js', 'functions/mcp.ts'], { cwd: home, env });
  const clientInfo = { name: 'bench', version: '1.0.0' };
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo };
  for (const message of [
    { id: 1, method: 'initialize', params },
    { method: 'notifications/initialized' },
    { id: 2, method: 'tools/list', params: {} },
  ])
    child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  let output = '';
  await new Promise<void>((resolve) =>
    child.stdout.on('data', (piece: Buffer) => {
      output += piece.toString();
      if (output.includes('"id":2')) resolve();
    }),
  );
  const tookMs = performance.now() - started;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stdin.end();
  await ended;
  return tookMs;
}
