import { link, rm, writeFile } from 'node:fs/promises';
import { toSession } from '../lib/mcp/session.ts';
import { printGraphFile } from '../lib/memory/file.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { type Reached, reachStore } from './reach.ts';
import { readEnvironment } from './runtime.ts';

// npm run export -- memory.jsonl: writes the knowledge graph as a file that the reference memory server reads.
try {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new Error('Say which file to write: npm run export -- memory.jsonl');
  const reached = await reachStore(readEnvironment(), { telemetry: createConsoleTelemetry(), isHost: false });
  // Whatever goes wrong on the way, no half of a file has its name.
  const aside = `${path}.${process.pid}.part`;
  const counts = { bytes: 0, newlines: 0 };
  try {
    await writeFile(aside, counted(await openFile(reached), counts), { flag: 'wx', mode: 0o600 });
    await link(aside, path).catch((error) => {
      throw new Error(error.code === 'EEXIST' ? `${path} exists already; it is left as it is.` : error.message);
    });
  } finally {
    await rm(aside, { force: true });
    await reached.close();
  }
  console.log(`${counts.bytes === 0 ? 0 : counts.newlines + 1} entities and relations written to ${path}.`);
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function openFile(reached: Reached): Promise<AsyncIterable<Uint8Array>> {
  if (reached.runtime !== undefined) {
    const { manager, ownerToken } = reached.runtime;
    const { request } = toSession(manager, await manager.access.credentials.authenticate(ownerToken));
    return printGraphFile(manager.memory.listNodes(request));
  }
  const headers = { authorization: `Bearer ${reached.token}` };
  const response = await fetch(new URL('/v1/memory/graph', reached.url), { headers });
  if (!response.ok || response.body === null)
    throw new Error(`${reached.url} answers ${response.status}: ${(await response.text()).slice(0, 300)}`);
  return response.body;
}

async function* counted(pieces: AsyncIterable<Uint8Array>, counts: { bytes: number; newlines: number }) {
  for await (const piece of pieces) {
    counts.bytes += piece.length;
    for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) counts.newlines++;
    yield piece;
  }
}
