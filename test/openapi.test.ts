import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { home } from '../functions/runtime.ts';
import { loadRoutes } from '../lib/http/route.ts';
import { routes as every } from '../lib/http/routes.ts';
import { openStore, type TestStore } from './support/client.ts';
import { pgliteEngine } from './support/engines.ts';

const routes = await loadRoutes(every);

interface Document {
  paths: Record<
    string,
    Record<
      string,
      {
        operationId: string;
        responses: Record<string, { content?: Record<string, { example?: unknown; examples?: unknown }> }>;
      }
    >
  >;
}

describe('the OpenAPI document', () => {
  let document: Document;
  let store: TestStore;
  beforeAll(async () => {
    document = JSON.parse(await readFile(join(home, 'lib/http/openapi.json'), 'utf8'));
    store = await openStore(pgliteEngine);
  });

  test('is what the server serves, and names every route once', async () => {
    expect((await store.send('GET', '/openapi.json', { token: '' })).json).toEqual(document);
    const described = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method} ${path}`),
    );
    expect(described.sort()).toEqual(routes.map(({ method, path }) => `${method} ${path}`).sort());
    expect(new Set(routes.map(({ operationId }) => operationId)).size).toBe(routes.length);
  });

  test('gives an example that fits its schema for what is answered and what is asked', () => {
    for (const { operationId, answers, body } of routes) {
      for (const [status, answer] of Object.entries(answers)) {
        if (answer.example !== undefined)
          expect([operationId, status, answer.schema?.().safeParse(answer.example).success]).toEqual([
            operationId,
            status,
            true,
          ]);
      }
      if (body?.kind === 'json') expect([operationId, body.example === undefined]).toEqual([operationId, false]);
    }
  });

  test('the page shows every operation and needs no script', async () => {
    const page = (await store.send('GET', '/docs', { token: '' })).text;
    for (const { operationId } of routes) expect(page).toContain(`id="${operationId}"`);
    expect(page).not.toContain('<script');
  });
});
