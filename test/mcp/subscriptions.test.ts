import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from '../support/client.ts';
import { pgliteEngine } from '../support/engines.ts';
import { intercept } from '../support/intercept.ts';
import { carrierOf } from '../support/mcp.ts';

const graph = 'memory://knowledge-graph';

describe('a subscriber', () => {
  let store: TestStore;
  const closing: Client[] = [];
  // How long a look at the feed takes.
  let feedMs = 0;
  beforeAll(async () => {
    const database = await pgliteEngine.open();
    const slow = intercept(database, async (run, statements) => {
      const isFeed = statements.some(({ text }) => text.includes('s.feed_floor'));
      if (isFeed) await new Promise((resolve) => setTimeout(resolve, feedMs));
      return run();
    });
    store = await openStore(pgliteEngine, { database: slow });
  });
  afterAll(async () => {
    for (const client of closing) await client.close();
  });

  async function listen(uris: readonly string[], token?: string, host?: { readonly leftMs: number }) {
    const { url, ...carrier } = carrierOf(store, token, host);
    const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    await client.connect(new StreamableHTTPClientTransport(url, carrier));
    closing.push(client);
    const heard: string[] = [];
    client.setNotificationHandler('notifications/resources/updated', ({ params }) => void heard.push(params.uri));
    const subscription = await client.listen({ resourceSubscriptions: [...uris] });
    return { heard, subscription, client };
  }
  const put = (id: string, token = store.token) =>
    store.send('PUT', `/v1/contexts/${id}`, { body: { content: newId() }, token });
  const remember = () =>
    store.manager.memory.createEntities({ ...store.ref, actor: { kind: 'mcp', id: 't' }, seq: 0, noCache: false }, [
      { name: newId(), entityType: 't', observations: [] },
    ]);

  test('hears of what any door changes in its space, and of nothing else', async () => {
    const id = newId();
    const uri = `context://${id}`;
    const { heard, subscription } = await listen([uri, graph]);
    await put(id);
    await expect.poll(() => heard, { timeout: 5000 }).toEqual([uri]);
    await remember();
    await expect.poll(() => heard, { timeout: 5000 }).toEqual([uri, graph]);
    const other = (await store.send('POST', '/v1/spaces', { body: { name: newId('sub') }, token: store.ownerToken }))
      .json;
    await put(id, other.key.token);
    await put(newId());
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(heard).toHaveLength(2);
    await subscription.close();
  });

  test('misses nothing that follows the acknowledgement, however slow the first look', async () => {
    const id = newId();
    feedMs = 300;
    const { heard, subscription } = await listen([`context://${id}`]);
    await put(id);
    feedMs = 0;
    await expect.poll(() => heard, { timeout: 5000 }).toEqual([`context://${id}`]);
    await subscription.close();
  });

  test('whose key is revoked hears no more', async () => {
    const name = newId('sub');
    const { key } = (await store.send('POST', '/v1/spaces', { body: { name }, token: store.ownerToken })).json;
    const made = (await store.send('POST', '/v1/keys', { body: { name: 'r', scopes: ['read'] }, token: key.token }))
      .json;
    const id = newId();
    const staying = await listen([`context://${id}`], key.token);
    const leaving = await listen([`context://${id}`], made.token);
    await put(id, key.token);
    await expect.poll(() => [staying.heard.length, leaving.heard.length], { timeout: 5000 }).toEqual([1, 1]);
    expect((await store.send('DELETE', `/v1/keys/${made.id}`, { token: key.token })).status).toBeLessThan(300);
    await put(id, key.token);
    await expect.poll(() => staying.heard.length, { timeout: 5000 }).toBe(2);
    expect(leaving.heard).toHaveLength(1);
  });

  test('of a process whose time is bounded is told that its subscription has ended, and listens again', async () => {
    const id = newId();
    const staying = await listen([`context://${id}`]);
    const { heard, subscription, client } = await listen([`context://${id}`], undefined, { leftMs: 6000 });
    await put(id);
    await expect.poll(() => heard, { timeout: 5000 }).toHaveLength(1);
    // Five seconds before the end of its process, and not as a connection that was lost.
    expect(await subscription.closed).toBe('graceful');
    const again = await client.listen({ resourceSubscriptions: [`context://${id}`] });
    await put(id);
    await expect.poll(() => [heard.length, staying.heard.length], { timeout: 5000 }).toEqual([2, 2]);
    await again.close();
    await staying.subscription.close();
  });
});
