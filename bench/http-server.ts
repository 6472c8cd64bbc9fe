import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parentPort } from 'node:worker_threads';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { RegExpRouter } from 'hono/router/reg-exp-router';
import { openEmbedded } from '../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { createApp } from '../lib/http/app.ts';
import { routes } from '../lib/http/routes.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';

// Both servers of the benchmark in one thread: the store as `npm start` serves it, and a handler that does nothing but
// hand out the same bytes.
const token = 'lam_bench_owner_0123456789';
const { database } = await openEmbedded({
  migrations: migrationsFolder,
  snapshots: snapshotsFolder,
  telemetry: noTelemetry,
});
const manager = await createUnifiedContextManager({ database, settings: defaultSettings, ownerToken: token });
const store = createApp({ manager, routes, telemetry: noTelemetry, toRouter: () => new RegExpRouter() });
const bodies = new Map<string, Uint8Array<ArrayBuffer>>();
const bare = new Hono();
bare.get('/v1/contexts/:id', (c) =>
  c.body(bodies.get(c.req.param('id')) ?? '', 200, { 'content-type': 'application/json' }),
);

async function listen({ fetch }: { fetch: Parameters<typeof getRequestListener>[0] }): Promise<string> {
  const server = createServer(getRequestListener(fetch));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const key = (await (
  await store.request('/v1/keys', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'bench', scopes: ['read'] }),
  })
).json()) as { token: string };

for (const bytes of [1024, 204_800]) {
  const content = { text: 'x'.repeat(bytes) };
  const path = `/v1/contexts/of-${bytes}`;
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  await store.request(path, { method: 'PUT', headers, body: JSON.stringify({ content }) });
  bodies.set(`of-${bytes}`, new Uint8Array(await (await store.request(path, { headers })).arrayBuffer()));
}
parentPort?.postMessage({ store: await listen(store), bare: await listen(bare), owner: token, key: key.token });
