import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readGraphFile } from '../lib/memory/file.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { release } from './mcp-mounts.ts';
import { readEnvironment } from './runtime.ts';
import { openTools, type ToolStore } from './tools.ts';

// npm run import -- memory.jsonl: takes over the file of the reference memory server, into the store that the environment
// names or the running server has open. What is there already stays, and gets the observations it does not have yet.

// Entities or relations of one call.
const batchMax = 500;

try {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new Error('Say which file: npm run import -- memory.jsonl');
  const text = await readFile(path, 'utf8').catch((error) => {
    throw new Error(`${resolve(path)} cannot be read: ${error.message}`);
  });
  const { entities, relations, unreadable } = readGraphFile(text);
  const store = await openTools(readEnvironment(), {
    telemetry: createConsoleTelemetry(),
    isHost: false,
    version: release,
  });
  const created = await inBatches(entities, async (batch) => {
    const { entities: made } = await call<{ entities: { name: string }[] }>(store, 'create_entities', {
      entities: batch,
    });
    const names = new Set(made.map(({ name }) => name));
    const known = batch.filter(({ name, observations }) => !names.has(name) && observations.length > 0);
    const observations = known.map((one) => ({ entityName: one.name, contents: one.observations }));
    if (observations.length > 0) await call(store, 'add_observations', { observations });
    return made.length;
  });
  const related = await inBatches(relations, async (batch) => {
    const { relations: made } = await call<{ relations: unknown[] }>(store, 'create_relations', { relations: batch });
    return made.length;
  });
  await store.close();
  console.log(
    `${entities.length} entities read, ${created} of them new; ${relations.length} relations, ${related} new.`,
  );
  if (unreadable.length > 0) {
    console.error(`Not understood, and so not taken over: line ${unreadable.slice(0, 20).join(', ')} of ${path}.`);
    process.exit(1);
  }
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function inBatches<Item>(items: readonly Item[], take: (batch: Item[]) => Promise<number>): Promise<number> {
  let sum = 0;
  for (let start = 0; start < items.length; start += batchMax) sum += await take(items.slice(start, start + batchMax));
  return sum;
}

/** @throws Error with the tool's own words where it refuses. */
async function call<Structure>({ backend }: ToolStore, name: string, args: unknown): Promise<Structure> {
  const { isError, content, structuredContent } = await backend.callTool(name, args, new AbortController().signal);
  const [first] = content;
  if (isError) throw new Error(first?.type === 'text' ? first.text : `${name} failed`);
  return structuredContent as Structure;
}
