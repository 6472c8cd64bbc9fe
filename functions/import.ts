import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readGraphFile } from '../lib/memory/file.ts';
import type { Entity } from '../lib/memory/graph.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { release } from './mcp-mounts.ts';
import { readEnvironment } from './runtime.ts';
import { openTools, type ToolStore } from './tools.ts';

// npm run import -- memory.jsonl: takes over the file of the reference memory server, into the store that the environment
// names or the running server has open. What is there already stays, and gets the observations it does not have yet.

// What one call takes: so many entities or relations, and about so many bytes of them.
const itemsMax = 500;
const bytesMax = 1_048_576;
// What is told of what could not be taken over.
const reportedMax = 20;
const reasonCharacters = 300;

try {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new Error('Say which file: npm run import -- memory.jsonl');
  const bytes = await readFile(path).catch((error) => {
    throw new Error(`${resolve(path)} cannot be read: ${error.message}`);
  });
  const { entities, relations, unreadable, retyped } = readGraphFile(bytes);
  const store = await openTools(readEnvironment(), {
    telemetry: createConsoleTelemetry(),
    isHost: false,
    version: release,
  });
  const refused = new Map<string, string>();
  const refuse = (name: string, reason: string) => refused.set(name, reason.slice(0, reasonCharacters));
  const created = await takeBatches(
    entities,
    (batch) => call<Entity>(store, 'create_entities', { entities: batch }),
    ({ name }, reason) => refuse(name, reason),
  );
  const made = new Set(created.map(({ name }) => name));
  const known = entities.filter(
    ({ name, observations }) => !made.has(name) && !refused.has(name) && observations.length > 0,
  );
  await takeBatches(
    known.map(({ name, observations }) => ({ entityName: name, contents: observations })),
    (batch) => call(store, 'add_observations', { observations: batch }),
    ({ entityName }, reason) => refuse(entityName, reason),
  );
  const related = await takeBatches(
    relations,
    (batch) => call(store, 'create_relations', { relations: batch }),
    ({ from, to, relationType }, reason) => refuse(`${from} ${relationType} ${to}`, reason),
  );
  await store.close();

  console.log(
    `${entities.length} entities read, ${created.length} of them new; ${relations.length} relations, ${related.length} new.`,
  );
  const toLines = (numbers: readonly number[]) => numbers.map((number) => `line ${number}`);
  report(`Not understood, and so not taken over, of ${path}`, toLines(unreadable));
  report('Of another entityType than an earlier line says, and so only its observations taken over', toLines(retyped));
  report(
    'Refused, and so not taken over',
    [...refused].map(([name, reason]) => `${name}: ${reason}`),
  );
  process.exit(unreadable.length + retyped.length + refused.size > 0 ? 1 : 0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

/** Sends items in batches; those of a batch that is refused one by one, so that no other is left out. */
async function takeBatches<Item, Made>(
  items: readonly Item[],
  send: (batch: readonly Item[]) => Promise<readonly Made[] | string>,
  onRefused: (item: Item, reason: string) => void,
): Promise<Made[]> {
  const made: Made[] = [];
  for (const batch of toBatches(items)) {
    const answer = await send(batch);
    const [only] = batch;
    if (typeof answer !== 'string') made.push(...answer);
    else if (batch.length === 1 && only !== undefined) onRefused(only, answer);
    else for (const one of batch) made.push(...(await takeBatches([one], send, onRefused)));
  }
  return made;
}

function* toBatches<Item>(items: readonly Item[]): Iterable<readonly Item[]> {
  let batch: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    const own = Buffer.byteLength(JSON.stringify(item));
    if (batch.length === itemsMax || (batch.length > 0 && bytes + own > bytesMax)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += own;
  }
  if (batch.length > 0) yield batch;
}

/** What a tool has made of the items, or why it refuses them, in its own words. */
async function call<Made>(
  { backend }: ToolStore,
  name: string,
  args: Readonly<Record<string, readonly unknown[]>>,
): Promise<readonly Made[] | string> {
  const { isError, content, structuredContent } = await backend.callTool(name, args, new AbortController().signal);
  const [first] = content;
  if (isError) return first?.type === 'text' ? first.text : `${name} failed`;
  return Object.values(structuredContent ?? {})[0] as readonly Made[];
}

function report(what: string, of: readonly string[]): void {
  if (of.length === 0) return;
  const more = of.length > reportedMax ? `\n  and ${of.length - reportedMax} more` : '';
  console.error(`${what}:\n  ${of.slice(0, reportedMax).join('\n  ')}${more}`);
}
