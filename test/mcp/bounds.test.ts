import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { callTool, connectLegacy } from '../support/mcp.ts';

describe('what a call may hold', () => {
  let store: TestStore;
  let client: Client;
  beforeAll(async () => {
    store = await openStore(pgliteEngine);
    client = await connectLegacy(store);
  });
  afterAll(() => client.close());
  const call = async (name: string, args?: unknown, of = client) => {
    const answer = await callTool(of, name, args);
    const [first] = answer.content;
    return { ...answer, text: first?.type === 'text' ? first.text : '' };
  };

  test('an entity has as many observations as fit into a message', async () => {
    const observations = Array.from({ length: 200_000 }, (_, at) => `${at}`);
    const entity = { name: 'counted', entityType: 't', observations };
    expect((await call('create_entities', { entities: [entity] })).isError).toBeFalsy();
    const more = Array.from({ length: 200_000 }, (_, at) => `more ${at}`);
    const added = await call('add_observations', { observations: [{ entityName: 'counted', contents: more }] });
    expect(added.isError).toBeFalsy();
    const removed = await call('delete_observations', { deletions: [{ entityName: 'counted', observations: more }] });
    expect(removed.isError).toBeFalsy();
    const opened = await call('open_nodes', { names: ['counted'] });
    expect(opened.structuredContent).toEqual({ entities: [entity], relations: [] });
  });

  test('of many mistakes in the arguments the first are named and the others counted', async () => {
    const some = await call('create_entities', { entities: Array(50_000).fill(7) });
    expect(some).toMatchObject({ isError: true, text: expect.stringContaining('… and 49980 more') });
    expect(some.text.length).toBeLessThan(3000);
    const entity = { name: 'a', entityType: 't', observations: Array(1_000_000).fill(7) };
    const many = await call('create_entities', { entities: [entity] });
    expect(many).toMatchObject({ isError: true, text: expect.stringMatching(/does not fit/) });
    const unknown = Object.fromEntries(Array.from({ length: 50_000 }, (_, at) => [`key${at}`, 1]));
    const put = await call('context_put', unknown);
    expect(put).toMatchObject({ isError: true, text: expect.stringContaining('Correct the arguments') });
    expect(put.text.length).toBeLessThan(3000);
    expect((await call('x'.repeat(1_000_000))).text.length).toBeLessThan(300_000);
  });

  test('an answer is bounded in bytes, all of it counted; what is written is refused before where its echo is not', async () => {
    const small = await openStore(pgliteEngine, { settings: { limits: { inlineBytes: 4096, toolBytes: 4096 } } });
    const of = await connectLegacy(small);
    const entities = Array.from({ length: 90 }, (_, at) => ({
      name: `e${at}`,
      entityType: 't',
      observations: ['some text'],
    }));
    await call('create_entities', { entities: entities.slice(0, 30) }, of);
    await call('create_entities', { entities: entities.slice(30, 60) }, of);
    await call('create_entities', { entities: entities.slice(60) }, of);
    const whole = await call('read_graph', {}, of);
    expect(whole.text).toMatch(/^The answer would have \d+ bytes, and 8192 are allowed\. Search.*npm run export/);
    await expect(of.readResource({ uri: 'memory://knowledge-graph' })).rejects.toMatchObject({ code: -32602 });
    expect((await call('search_nodes', { query: 'e89' }, of)).structuredContent).toMatchObject({
      entities: [entities[89]],
    });
    // Fewer characters than are allowed, but twice as many bytes.
    const wide = [{ name: 'wide', entityType: 't', observations: ['ä'.repeat(2500)] }];
    for (const [tool, args] of [
      ['create_entities', { entities: wide }],
      ['create_relations', { relations: [{ from: 'wide', to: 'ä'.repeat(2500), relationType: 'r' }] }],
      ['add_observations', { observations: [{ entityName: 'e1', contents: ['ä'.repeat(2500)] }] }],
    ] as const) {
      expect((await call(tool, args, of)).text).toMatch(/^The answer would have .* Nothing was written/);
    }
    expect((await call('open_nodes', { names: ['wide', 'e1'] }, of)).structuredContent).toEqual({
      entities: [entities[1]],
      relations: [],
    });
    await of.close();
  });

  test('a conflict tells a large value by its size and where it is', async () => {
    const put = (content: unknown, more = {}) => call('context_put', { id: 'large-conflict', content, ...more });
    await put({ a: 1 });
    await put({ a: 'x'.repeat(200_000) });
    const stale = { expectedVersion: 1, onConflict: 'three-way' };
    const refused = await put({ a: 'y'.repeat(5000) }, stale);
    const told = '{"path":"/a","base":1,"ours":{"sizeBytes":5002},"theirs":{"sizeBytes":200002}}';
    expect(refused.text).toContain(`"conflicts":[${told}]`);
    const sources = [{ content: { a: 'y'.repeat(5000) } }, { id: 'large-conflict' }];
    const merge = { sources, base: { id: 'large-conflict', version: 1 }, strategy: 'three-way', prefer: 'ours' };
    const { structuredContent } = await call('context_merge', merge);
    expect(structuredContent).toMatchObject({ conflicts: [{ path: '/a', theirs: { sizeBytes: 200_002 } }] });
    expect(JSON.stringify(structuredContent).length).toBeLessThan(10_000);
  });

  test('conflicts without number are told with what to do about them', async () => {
    const put = (text: string, more = {}) => {
      const members = Array.from({ length: 1000 }, (_, at) => [`member${at}`, `${text} ${at} ${'x'.repeat(200)}`]);
      return call('context_put', { id: 'many-conflicts', content: Object.fromEntries(members), ...more });
    };
    await put('first');
    await put('second');
    const refused = await put('third', { expectedVersion: 1, onConflict: 'three-way' });
    expect(refused.text).toMatch(/^merge_conflict: .*"path":"\/member999".*prefer set to/s);
    expect(refused.text.length).toBeLessThan(262_144);
  });

  test('a list tells a large content by its URI', async () => {
    const content = 'x'.repeat(300_000);
    await call('context_put', { id: 'listed:large', kind: 'listed', content, contentType: 'text/plain' });
    const { structuredContent } = await call('context_list', { kind: 'listed', includeContent: true });
    const { items } = structuredContent as { items: { contentUrl: string; content?: string }[] };
    expect(items).toEqual([expect.objectContaining({ contentUrl: 'context://listed%3Alarge?version=1' })]);
    expect(items[0]).not.toHaveProperty('content');
    const { contents } = await client.readResource({ uri: items[0]?.contentUrl ?? '' });
    expect(contents).toMatchObject([{ text: content }]);
  });
});
