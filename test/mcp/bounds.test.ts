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
    for (const answer of [await call('context_put', unknown), await call('x'.repeat(100_000))]) {
      expect(answer.isError).toBe(true);
      expect(answer.text.length).toBeLessThan(30_000);
    }
  });
});
