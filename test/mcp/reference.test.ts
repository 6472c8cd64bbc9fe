import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { callTool, connectLegacy, connectReference } from '../support/mcp.ts';

const memoryTools = [
  'create_entities',
  'create_relations',
  'add_observations',
  'delete_entities',
  'delete_observations',
  'delete_relations',
  'read_graph',
  'search_nodes',
  'open_nodes',
];

// Few names, so that calls meet what earlier ones left; texts that only an exact search tells apart.
const name = fc.constantFrom('Ada', 'ada', 'Größe', 'İstanbul', 'STRASSE', '', 'a\nb', 'x/y', '🦊 fox', '"quoted\\"');
const text = fc.oneof(
  name,
  fc.constantFrom('likes TEA', 'tea dog', 'ΣΊΣΥΦΟΣ', 'ﬁne', '\u0000', '\u2028', ' '),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
);
const texts = fc.array(text, { maxLength: 4 });
const entity = fc.record({ name, entityType: text, observations: texts });
const relation = fc.record({ from: name, to: name, relationType: fc.constantFrom('knows', 'is', '') });
// The released server keeps two of one key from one call; here keys are unique, as on its main branch.
const entities = fc.uniqueArray(entity, { maxLength: 4, selector: (one) => one.name });
const relations = fc.uniqueArray(relation, { maxLength: 4, selector: (one) => JSON.stringify(one) });

const call = fc.oneof(
  { weight: 4, arbitrary: entities.map((of) => ['create_entities', { entities: of }] as const) },
  { weight: 3, arbitrary: relations.map((of) => ['create_relations', { relations: of }] as const) },
  {
    weight: 4,
    arbitrary: fc
      .array(fc.record({ entityName: name, contents: texts }), { maxLength: 3 })
      .map((observations) => ['add_observations', { observations }] as const),
  },
  fc.array(name, { maxLength: 2 }).map((entityNames) => ['delete_entities', { entityNames }] as const),
  fc
    .array(fc.record({ entityName: name, observations: texts }), { maxLength: 3 })
    .map((deletions) => ['delete_observations', { deletions }] as const),
  relations.map((of) => ['delete_relations', { relations: of }] as const),
  { weight: 2, arbitrary: fc.constant(['read_graph', {}] as const) },
  { weight: 3, arbitrary: text.map((query) => ['search_nodes', { query }] as const) },
  { weight: 2, arbitrary: fc.array(name, { maxLength: 3 }).map((names) => ['open_nodes', { names }] as const) },
  // What does not fit: refused in the same words, or taken in the same way.
  fc
    .tuple(
      fc.constantFrom(...memoryTools),
      fc.constantFrom<unknown>(
        undefined,
        {},
        { entities: null },
        { entities: [{ name: 1 }] },
        {
          entities: [{ name: 'Ada', entityType: 't', observations: [null] }],
          relations: [{}],
          names: 'Ada',
          query: [],
        },
        { observations: [{ entityName: 'Ada' }], deletions: [{}], entityNames: [7] },
        { query: '', names: [], extra: { deep: [] } },
      ),
    )
    .map(([tool, args]) => [tool, args] as const),
);

describe('beside the released reference memory server', () => {
  let folder: string;
  let store: TestStore;
  const references: Client[] = [];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-reference-'));
    store = await openStore(pgliteEngine);
  });
  afterAll(async () => {
    for (const reference of references) await reference.close();
    await rm(folder, { recursive: true });
  });
  async function open(): Promise<{ ours: Client; theirs: Client }> {
    const space = (await store.send('POST', '/v1/spaces', { body: { name: newId('mem') }, token: store.ownerToken }))
      .json;
    const theirs = await connectReference(join(folder, `${newId()}.jsonl`));
    references.push(theirs);
    return { ours: await connectLegacy(store, space.key.token), theirs };
  }

  test('the tools are the same but for their descriptions, and stand in the same order', async () => {
    const { ours, theirs } = await open();
    const told = async (client: Client) =>
      (await client.listTools()).tools
        .filter((tool) => memoryTools.includes(tool.name))
        .map(({ execution: _execution, description, ...tool }) => {
          expect(description?.length).toBeGreaterThan(10);
          return JSON.parse(JSON.stringify(tool), (key, value) =>
            key === 'description' && typeof value === 'string' ? undefined : value,
          );
        });
    expect(await told(ours)).toEqual(await told(theirs));
  });

  test('random sequences of calls are answered the same: structure, text and errors', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 20, maxLength: 60 }), async (calls) => {
        const { ours, theirs } = await open();
        for (const [tool, args] of calls) {
          const [own, their] = [await callTool(ours, tool, args), await callTool(theirs, tool, args)];
          expect([tool, args, own]).toEqual([tool, args, their]);
        }
        const graph = async (client: Client) =>
          (await client.readResource({ uri: 'memory://knowledge-graph' })).contents;
        expect(await graph(ours)).toEqual(await graph(theirs));
        await ours.close();
        await theirs.close();
      }),
      { numRuns: 25 },
    );
  }, 300_000);

  test('an unknown tool is refused in the same words', async () => {
    const { ours, theirs } = await open();
    expect(await callTool(ours, 'nope', {})).toEqual(await callTool(theirs, 'nope', {}));
  });

  test('of 50 concurrent creates all are kept, where the reference keeps hardly any', async () => {
    const { ours, theirs } = await open();
    const kept = async (client: Client) => {
      const creating = Array.from({ length: 50 }, (_, at) =>
        callTool(client, 'create_entities', { entities: [{ name: `e${at}`, entityType: 't', observations: [] }] }),
      );
      for (const answer of await Promise.all(creating)) expect(answer.isError).toBeFalsy();
      const graph = (await callTool(client, 'read_graph')).structuredContent as { entities: unknown[] };
      return graph.entities.length;
    };
    expect(await kept(ours)).toBe(50);
    expect(await kept(theirs)).toBeLessThan(50);
  });

  test('two of one key in one call are one', async () => {
    const { ours } = await open();
    const entity = { name: 'twice', entityType: 't', observations: [] };
    const { structuredContent } = await callTool(ours, 'create_entities', { entities: [entity, entity] });
    expect(structuredContent).toEqual({ entities: [entity] });
  });
});
