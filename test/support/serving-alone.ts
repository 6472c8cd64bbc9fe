// A store behind its front door in a process of its own, with none of the schedules: what it grows by is what its answers cost.
// Its parent is told where it listens and, whenever it asks, how much memory it held at most since it last asked.
// It takes the URLs of a PostgreSQL and of the endpoint in front of it, or opens the embedded database.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { createNeonDatabase } from '../../lib/postgres/neon.ts';
import { openStore } from './client.ts';
import { pgliteEngine } from './engines.ts';

const [url, endpoint] = process.argv.slice(2);
const database = url === undefined ? undefined : createNeonDatabase({ url, endpoint });
const store = await openStore(pgliteEngine, database ? { database } : {});
const server = createServer(getRequestListener(store.fetch));
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

let peakBytes = 0;
setInterval(() => {
  peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
}, 2);
process.on('message', () => {
  const heldBytes = process.memoryUsage.rss();
  process.send?.({ peakBytes: Math.max(peakBytes, heldBytes) });
  peakBytes = heldBytes;
});
process.on('disconnect', () => process.exit());
process.send?.({ origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: store.token });
