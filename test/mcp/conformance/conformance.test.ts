import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../../functions/runtime.ts';
import { createMcpEndpoint } from '../../../lib/mcp/endpoint.ts';
import { noTelemetry } from '../../../lib/telemetry/telemetry.ts';
import { openStore } from '../../support/client.ts';
import { pgliteEngine } from '../../support/engines.ts';
import { createFixtureServer } from './fixtures.ts';

const suite = join(home, 'node_modules', '@modelcontextprotocol', 'conformance', 'dist', 'index.js');

// The suite sends no token, so whoever it is counts as the owner here; everything else is the product's own endpoint.
describe('the official conformance suite', () => {
  let folder: string;
  const servers: Server[] = [];
  const urls: Record<string, string> = {};
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-conformance-'));
    const store = await openStore(pgliteEngine);
    const principal = await store.manager.access.credentials.authenticate(store.token);
    const shared = {
      manager: store.manager,
      telemetry: noTelemetry,
      publicUrl: undefined,
      isLocal: true,
      version: '1.0.0',
      authenticate: () => principal,
    };
    for (const [name, endpoint] of [
      ['product', createMcpEndpoint(shared)],
      ['fixtures', createMcpEndpoint({ ...shared, createServer: createFixtureServer })],
    ] as const) {
      const server = createServer(getRequestListener((request) => endpoint.fetch(request)));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      servers.push(server);
      urls[name] = `http://localhost:${(server.address() as AddressInfo).port}/mcp`;
    }
  });
  afterAll(async () => {
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    await rm(folder, { recursive: true, force: true });
  });

  // A failure that no baseline names, and one that it names and that is none any more, both end the suite with 1.
  test.each([
    ['product', '2025-11-25'],
    ['product', '2026-07-28'],
    ['fixtures', '2025-11-25'],
    ['fixtures', '2026-07-28'],
  ] as const)(
    '%s, %s',
    async (app, revision) => {
      const baseline = join(home, 'test', 'mcp', 'conformance', `${app}-${revision}.yaml`);
      const out = join(folder, `${app}-${revision}`);
      const args = ['server', '--url', urls[app] as string, '--requirements', revision, '-o', out];
      const ended = await new Promise<{ code: number; output: string }>((resolve) => {
        execFile(process.execPath, [suite, ...args, '--expected-failures', baseline], (error, stdout, stderr) =>
          resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, output: stdout + stderr }),
        );
      });
      const report = ended.output.slice(ended.output.indexOf('=== SUMMARY'));
      expect(report).toMatch(/Total: \d{2,} passed/);
      expect([ended.code, ended.code === 0 ? '' : report]).toEqual([0, '']);
    },
    120_000,
  );
});
