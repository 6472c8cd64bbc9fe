import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { openEmbedded } from '../functions/embedded.ts';
import { home, migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { type RequestContext, slotOf } from '../lib/contexts/request.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';
import { callTool, connectReference } from '../test/support/mcp.ts';
import { median, quantile, type Report, timed } from './report.ts';

const script = join(home, 'node_modules', '@modelcontextprotocol', 'server-memory', 'dist', 'index.js');
const idleRuns = 30;

/** Runs of a peer that is the reference memory server over stdio, on embedded engines, beside reading its graph alone. */
export async function* benchSync(): AsyncGenerator<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-bench-sync-'));
  const file = join(folder, 'memory.jsonl');
  const theirs = await connectReference(file);
  const { database } = await openEmbedded({
    migrations: migrationsFolder,
    snapshots: snapshotsFolder,
    telemetry: noTelemetry,
  });
  const manager = await createUnifiedContextManager({ database, settings: defaultSettings, mayStartCommands: true });
  const [space] = await manager.access.listSpaces({ limit: 1 });
  if (space === undefined) throw new Error('there is no space');
  const request: RequestContext = {
    space: space.id,
    slot: slotOf(space.id, space.createdMs),
    actor: { kind: 'api', id: 'bench' },
    seq: 0,
    noCache: false,
  };
  const transport = { command: process.execPath, args: [script], env: { MEMORY_FILE_PATH: file } };
  await manager.sync.putPeer(request, 'bench', {
    type: 'mcp-memory',
    transport,
    strategy: 'three-way',
    direction: 'both',
  });
  const lines: Record<string, string | number>[] = [];
  async function measure(what: string, items: number) {
    let report: Awaited<ReturnType<typeof manager.sync.run>> | undefined;
    const ms = await timed(async () => {
      report = await manager.sync.run(request, 'bench', { trigger: 'request' });
    });
    const { pulled = 0, pushed = 0, merged = 0, conflicts = 0, skipped = 0 } = report ?? {};
    if (pulled + pushed + merged !== items || conflicts + skipped > 0)
      throw new Error(`${what}: ${JSON.stringify(report)}`);
    lines.push({ run: what, items, ms, 'items/s': items === 0 ? '' : Math.round((items / ms) * 1000) });
    return ms;
  }

  await measure('the first, which starts the server', 0);
  await create(theirs, 0, 1000);
  const pull = await measure('1,000 entities were made there', 1000);
  await manager.memory.createEntities(
    request,
    Array.from({ length: 1000 }, (_, at) => entity(1000 + at)),
  );
  const push = await measure('1,000 entities were made here', 1000);
  const names = Array.from({ length: 1000 }, (_, at) => `e${at}`);
  await manager.memory.addObservations(
    request,
    names.map((entityName) => ({ entityName, contents: ['ours'] })),
  );
  await callTool(theirs, 'add_observations', {
    observations: names.map((entityName) => ({ entityName, contents: ['theirs'] })),
  });
  const join1000 = await measure('1,000 entities were changed on both sides', 1000);
  await manager.memory.deleteEntities(request, names);
  await manager.sync.run(request, 'bench', { trigger: 'request', isForced: true });
  // A thousand are left.
  const idle: number[] = [];
  const reading: number[] = [];
  for (let at = 0; at < idleRuns; at++) {
    idle.push(await timed(() => manager.sync.run(request, 'bench', { trigger: 'request' })));
    reading.push(await timed(() => callTool(theirs, 'read_graph', {})));
  }
  lines.push({ run: 'nothing to do at 1,000 entities, median', items: 0, ms: median(idle), 'items/s': '' });
  lines.push({ run: '… the slowest twentieth', items: 0, ms: quantile(idle, 0.95), 'items/s': '' });
  lines.push({ run: '… its read_graph alone, median', items: 0, ms: median(reading), 'items/s': '' });
  for (let from = 2000; from < 11_000; from += 5000) await create(theirs, from, Math.min(5000, 11_000 - from));
  await measure('10,000 entities, 9,000 of them new there', 9_000);
  await measure('nothing to do at 10,000 entities', 0);
  for (let from = 11_000; from < 51_000; from += 10_000) await create(theirs, from, 10_000);
  await measure('50,000 entities, 40,000 of them new there', 40_000);
  await measure('nothing to do at 50,000 entities', 0);
  const slowest = Math.max(pull, push, join1000);
  yield {
    name: 'sync-memory-server',
    about: 'runs of the reference memory server as a peer over stdio, embedded engines, two observations an entity',
    lines,
    targets: [
      { what: `1,000 changes within 5,000 ms, the slowest way (${slowest.toFixed(0)})`, isMet: slowest < 5000 },
      {
        what: `nothing to do at 1,000 entities within 100 ms, p95 (${quantile(idle, 0.95).toFixed(0)})`,
        isMet: quantile(idle, 0.95) < 100,
      },
    ],
  };
  await manager.sync.close();
  await theirs.close();
  await database.close();
  await rm(folder, { recursive: true });
}

const entity = (at: number) => ({
  name: `e${at}`,
  entityType: 'thing',
  observations: [`fact ${at}`, `and another ${at}`],
});

async function create(client: Client, from: number, count: number): Promise<void> {
  await callTool(client, 'create_entities', { entities: Array.from({ length: count }, (_, at) => entity(from + at)) });
}
