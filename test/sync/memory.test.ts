import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { callTool, connectLegacy, connectReference } from '../support/mcp.ts';

interface Entity {
  name: string;
  entityType: string;
  observations: string[];
}
interface Graph {
  entities: Entity[];
  relations: { from: string; to: string; relationType: string }[];
}

const script = join(home, 'node_modules', '@modelcontextprotocol', 'server-memory', 'dist', 'index.js');
let folder: string;
let files = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lamina-sync-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const entity = (name: string, ...observations: string[]): Entity => ({ name, entityType: 'service', observations });
const byName = (graph: Graph) => ({
  entities: graph.entities
    .map((one) => ({ ...one, observations: [...one.observations].sort() }))
    .sort((a, b) => (a.name < b.name ? -1 : 1)),
  relations: graph.relations.map(({ from, to, relationType }) => `${from} ${relationType} ${to}`).sort(),
});

describe.each(engines)('a memory server as a peer, $name', (engine) => {
  let store: TestStore;
  let ours: Client;
  let theirs: Client;
  let name: string;
  let file: string;

  beforeAll(async () => {
    store = await openStore(engine, { mayStartCommands: true });
    ours = await connectLegacy(store);
  });
  beforeEach(async () => {
    await callTool(ours, 'delete_entities', {
      entityNames: (await graphOf(ours)).entities.map((one) => one.name),
    });
    await theirs?.close();
    name = `memory-${++files}`;
    file = join(folder, `${engine.name.replaceAll(/\W/g, '')}-${files}.jsonl`);
    theirs = await connectReference(file);
    await putPeer({});
    return () => store.send('DELETE', `/v1/peers/${name}`);
  });
  afterAll(async () => {
    await theirs?.close();
    await store.manager.sync.close();
  });

  const putPeer = (more: object) =>
    store.send('PUT', `/v1/peers/${name}`, {
      body: {
        type: 'mcp-memory',
        transport: { command: process.execPath, args: [script], env: { MEMORY_FILE_PATH: file } },
        ...more,
      },
    });
  const sync = async (body?: object) => {
    const reply = await store.send('POST', `/v1/peers/${name}/sync`, body ? { body } : {});
    expect(reply.status, reply.text).toBe(200);
    return reply.json;
  };
  const graphOf = async (client: Client) =>
    (await callTool(client, 'read_graph', {})).structuredContent as unknown as Graph;
  const expectSame = async () => {
    const [left, right] = await Promise.all([graphOf(ours), graphOf(theirs)]);
    expect(byName(left)).toEqual(byName(right));
    return byName(left);
  };
  const nothing = { pulled: 0, pushed: 0, merged: 0, conflicts: 0, skipped: 0 };

  test('what either side learned is on both, and a second run moves nothing', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('checkout', 'retries'), entity('both', 'a')] });
    await callTool(theirs, 'create_entities', { entities: [entity('search', 'bm25'), entity('both', 'b')] });
    await callTool(theirs, 'create_relations', { relations: [{ from: 'search', to: 'both', relationType: 'feeds' }] });
    expect(await sync({ dryRun: true })).toMatchObject({ pulled: 2, pushed: 1, merged: 1, conflicts: 0 });
    expect((await graphOf(theirs)).entities).toHaveLength(2);
    expect(await sync()).toMatchObject({ pulled: 2, pushed: 1, merged: 1, conflicts: 0, skipped: 0 });
    const graph = await expectSame();
    expect(graph.entities.map((one) => one.name)).toEqual(['both', 'checkout', 'search']);
    expect(graph.entities[0]?.observations).toEqual(['a', 'b']);
    const before = await readFile(file);
    expect(await sync()).toMatchObject(nothing);
    expect((await readFile(file)).equals(before)).toBe(true);
  });

  test('edits of one entity on both sides are joined, deletes of observations included', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('checkout', 'old', 'kept')] });
    await sync();
    await callTool(ours, 'add_observations', { observations: [{ entityName: 'checkout', contents: ['ours'] }] });
    await callTool(theirs, 'add_observations', { observations: [{ entityName: 'checkout', contents: ['theirs'] }] });
    await callTool(theirs, 'delete_observations', { deletions: [{ entityName: 'checkout', observations: ['old'] }] });
    expect(await sync()).toMatchObject({ merged: 1, conflicts: 0 });
    expect((await expectSame()).entities[0]?.observations).toEqual(['kept', 'ours', 'theirs']);
    expect(await sync()).toMatchObject(nothing);
  });

  test('deletes travel both ways, with what hangs on them', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a'), entity('b'), entity('c')] });
    await callTool(ours, 'create_relations', {
      relations: [
        { from: 'a', to: 'b', relationType: 'knows' },
        { from: 'b', to: 'c', relationType: 'knows' },
      ],
    });
    await sync();
    await callTool(ours, 'delete_entities', { entityNames: ['a'] });
    await callTool(theirs, 'delete_entities', { entityNames: ['c'] });
    await sync();
    expect((await expectSame()).entities.map((one) => one.name)).toEqual(['b']);
    expect(await sync()).toMatchObject(nothing);
  });

  test('another type of an entity is a delete and a create there, and its relations stay', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'x'), entity('b')] });
    await callTool(ours, 'create_relations', { relations: [{ from: 'a', to: 'b', relationType: 'knows' }] });
    await sync();
    const id = (await store.send('GET', '/v1/contexts?kind=memory.entity&include=content')).json.items.find(
      (one: { content: Entity }) => one.content.name === 'a',
    ).id;
    const content = { name: 'a', entityType: 'team', observations: ['x', 'y'], color: 'red' };
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content } });
    expect(await sync()).toMatchObject({ pushed: 1 });
    const graph = await expectSame();
    expect(graph.entities[0]).toEqual({ name: 'a', entityType: 'team', observations: ['x', 'y'] });
    expect(graph.relations).toEqual(['a knows b']);
    // What the server cannot hold stays here, when its own change comes.
    await callTool(theirs, 'add_observations', { observations: [{ entityName: 'a', contents: ['z'] }] });
    await sync();
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.content).toEqual({
      ...content,
      observations: ['x', 'y', 'z'],
    });
  });

  test('a delete that meets a change is a conflict, which is seen, settled, and brought to the peer', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'x')] });
    await sync();
    await callTool(ours, 'delete_entities', { entityNames: ['a'] });
    await callTool(theirs, 'add_observations', { observations: [{ entityName: 'a', contents: ['y'] }] });
    expect(await sync()).toMatchObject({ ...nothing, conflicts: 1 });
    expect(await sync()).toMatchObject({ ...nothing, conflicts: 1 });
    const { items } = (await store.send('GET', `/v1/conflicts?peer=${name}`)).json;
    expect(items).toHaveLength(1);
    const one = (await store.send('GET', `/v1/conflicts/${items[0].id}`)).json;
    expect([one.base.content.observations, one.ours, one.theirs.content.observations]).toEqual([
      ['x'],
      null,
      ['x', 'y'],
    ]);
    expect((await store.send('GET', `/v1/peers/${name}`)).json.conflicts).toBe(1);
    const { json } = await store.send('POST', `/v1/conflicts/${one.id}/resolve`, { body: { choose: 'theirs' } });
    expect(json.context.content.observations).toEqual(['x', 'y']);
    expect(await sync()).toMatchObject({ ...nothing });
    expect((await expectSame()).entities[0]?.observations).toEqual(['x', 'y']);
    expect((await store.send('POST', `/v1/conflicts/${one.id}/resolve`, { body: { choose: 'ours' } })).status).toBe(
      404,
    );
    expect((await store.send('GET', `/v1/conflicts?peer=${name}&status=settled`)).json.items).toMatchObject([
      { id: one.id, settlement: { choose: 'theirs', actor: { kind: 'api' } } },
    ]);
  });

  test('a conflict settled as ours makes the peer as we are', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'x')] });
    await sync();
    await callTool(theirs, 'delete_entities', { entityNames: ['a'] });
    await callTool(ours, 'add_observations', { observations: [{ entityName: 'a', contents: ['y'] }] });
    expect(await sync()).toMatchObject({ conflicts: 1 });
    const [{ id }] = (await store.send('GET', `/v1/conflicts?peer=${name}`)).json.items;
    await store.send('POST', `/v1/conflicts/${id}/resolve`, { body: { choose: 'ours' } });
    expect(await sync()).toMatchObject({ pushed: 1, conflicts: 0 });
    expect((await expectSame()).entities[0]?.observations).toEqual(['x', 'y']);
  });

  test('an agent sees and settles a conflict with context_merge', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'x')] });
    await sync();
    await callTool(ours, 'delete_entities', { entityNames: ['a'] });
    await callTool(theirs, 'add_observations', { observations: [{ entityName: 'a', contents: ['y'] }] });
    await sync();
    const merge = async (args: object) =>
      (await callTool(ours, 'context_merge', args)) as unknown as { structuredContent: Record<string, never> };
    const { open } = (await merge({ conflict: 'open' })).structuredContent as unknown as {
      open: { id: string; peer: string }[];
    };
    const [{ id = '' } = {}] = open.filter(({ peer }) => peer === name);
    const { conflict } = (await merge({ conflict: id })).structuredContent as unknown as {
      conflict: Record<string, unknown>;
    };
    expect(conflict).toMatchObject({ ours: null, theirs: { content: { observations: ['x', 'y'] } } });
    expect((await merge({ conflict: id, choose: 'both' })).structuredContent['written']).toMatchObject({
      kind: 'memory.entity',
    });
    expect((await callTool(ours, 'context_merge', { conflict: id, choose: 'ours' })).isError).toBe(true);
    expect((await callTool(ours, 'context_merge', { conflict: id, sources: [], strategy: 'union' })).isError).toBe(
      true,
    );
    await sync();
    expect((await expectSame()).entities[0]?.observations).toEqual(['x', 'y']);
  });

  test('a lost file halts the run, and nothing is deleted before it is forced', async () => {
    const many = Array.from({ length: 40 }, (_, at) => entity(`e${at}`, 'x'));
    await callTool(ours, 'create_entities', { entities: many });
    expect(await sync()).toMatchObject({ pushed: 40 });
    await writeFile(file, '');
    const halted = await sync();
    expect(halted).toMatchObject({ ...nothing, cursor: null });
    expect(halted.halted).toContain('40 of 40 items are gone at the peer');
    expect((await graphOf(ours)).entities).toHaveLength(40);
    expect((await store.send('GET', `/v1/peers/${name}/runs`)).json.items[0]).toMatchObject({ outcome: 'halted' });
    expect(await sync({ force: true })).toMatchObject({ pulled: 40 });
    expect((await graphOf(ours)).entities).toHaveLength(0);
  });

  test('a damaged file fails the run, and nothing is touched', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'x')] });
    await sync();
    await writeFile(file, '{"type":"entity"');
    const reply = await store.send('POST', `/v1/peers/${name}/sync`);
    expect([reply.status, reply.json.code]).toEqual([422, 'unprocessable']);
    expect((await graphOf(ours)).entities).toHaveLength(1);
  });

  test('an erased entity is deleted there, and cannot come back', async () => {
    await callTool(ours, 'create_entities', { entities: [entity('a', 'secret'), entity('b')] });
    await sync();
    const { items } = (await store.send('GET', '/v1/contexts?kind=memory.entity&include=content')).json;
    const { id } = items.find((one: { content: Entity }) => one.content.name === 'a');
    expect((await store.send('DELETE', `/v1/contexts/${id}?erase=true`)).json.pendingPeers).toEqual([name]);
    await callTool(theirs, 'add_observations', { observations: [{ entityName: 'a', contents: ['more'] }] });
    expect(await sync()).toMatchObject({ pushed: 1, pulled: 0 });
    expect((await expectSame()).entities.map((one) => one.name)).toEqual(['b']);
    expect(await sync()).toMatchObject(nothing);
  });
});
