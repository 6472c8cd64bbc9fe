import { writeFile } from 'node:fs/promises';
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
  const text = await readFileText(reached);
  await reached.close();
  await writeFile(path, text, { flag: 'wx', mode: 0o600 }).catch((error) => {
    throw new Error(error.code === 'EEXIST' ? `${path} exists already; it is left as it is.` : error.message);
  });
  console.log(`${text === '' ? 0 : text.split('\n').length} entities and relations written to ${path}.`);
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function readFileText(reached: Reached): Promise<string> {
  if (reached.runtime !== undefined) {
    const { manager, ownerToken } = reached.runtime;
    const { request } = toSession(manager, await manager.access.credentials.authenticate(ownerToken));
    return printGraphFile(await manager.memory.readGraph(request));
  }
  const headers = { authorization: `Bearer ${reached.token}` };
  const response = await fetch(new URL('/v1/memory/graph', reached.url), { headers });
  if (!response.ok)
    throw new Error(`${reached.url} answers ${response.status}: ${(await response.text()).slice(0, 300)}`);
  return response.text();
}
