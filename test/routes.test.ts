import { Hono } from 'hono/quick';
import { describe, expect, test } from 'vitest';
import { loadRoutes, type Route } from '../lib/http/route.ts';
import { routes } from '../lib/http/routes.ts';
import { openStore } from './support/client.ts';
import { pgliteEngine } from './support/engines.ts';

describe('routes that are loaded by their first request', () => {
  test('lie at the paths of their group, where no other route is', async () => {
    const reached = new Map<Route, number[]>();
    const every = await loadRoutes(routes);
    for (const [number, one] of routes.entries()) {
      if (!('load' in one)) continue;
      const door = new Hono();
      for (const path of one.paths) door.all(path, (c) => c.text(''));
      for (const route of every) {
        const { status } = await door.request(route.path.replaceAll(/\{\w+\}/g, 'x'));
        if (status === 200) reached.set(route, [...(reached.get(route) ?? []), number]);
      }
    }
    for (const [number, one] of routes.entries()) {
      const own = await loadRoutes([one]);
      for (const route of own) {
        const { path } = route;
        const at = [...reached].find(([other]) => other.operationId === route.operationId)?.[1];
        expect([path, at]).toEqual([path, 'load' in one ? [number] : undefined]);
      }
    }
  });

  test('answer and refuse as all others do', async () => {
    const { send } = await openStore(pgliteEngine);
    expect((await send('GET', '/v1/peers')).status).toBe(200);
    expect((await send('HEAD', '/v1/peers')).status).toBe(200);
    const refused = await send('DELETE', '/v1/peers');
    expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect((await send('GET', '/v1/peers/a/b/c')).json.code).toBe('not_found');
    expect((await send('GET', '/v1/peers', { token: '' })).status).toBe(401);
  });

  test('are loaded once more where they could not be', async () => {
    const { createApp } = await import('../lib/http/app.ts');
    const { manager } = await openStore(pgliteEngine);
    const [health] = await loadRoutes(routes.filter((one) => !('load' in one) && one.path === '/healthz'));
    let loads = 0;
    const load = async () => {
      if (++loads === 1) throw new Error('The file cannot be read.');
      return health === undefined ? [] : [health];
    };
    const { noTelemetry: telemetry } = await import('../lib/telemetry/telemetry.ts');
    const app = createApp({ manager, routes: [{ paths: ['/healthz'], load }], telemetry });
    const answers = [await app.request('/healthz'), await app.request('/healthz'), await app.request('/healthz')];
    expect(answers.map(({ status }) => status)).toEqual([500, 200, 200]);
    expect(loads).toBe(2);
  });
});
