import { parentPort } from 'node:worker_threads';
import { startNeonEndpoint } from '../test/servers/neon-endpoint.ts';

// The endpoint in a thread of its own: in production it is another machine, and a busy client must not hold its locks.
parentPort?.postMessage((await startNeonEndpoint()).url);
