import { RegExpRouter } from 'hono/router/reg-exp-router';
import { mcpMounts } from '../../functions/mcp-mounts.ts';
import type { Clock } from '../../lib/base/clock.ts';
import { defaultSettings, type Settings, settingsSchema } from '../../lib/config/settings.ts';
import type { SpaceRef } from '../../lib/contexts/request.ts';
import { createApp } from '../../lib/http/app.ts';
import { problemCodes } from '../../lib/http/openapi.ts';
import { loadRoutes } from '../../lib/http/route.ts';
import { routes, routesOf } from '../../lib/http/routes.ts';
import { problemAnswer } from '../../lib/http/schemas.ts';
import type { Database } from '../../lib/postgres/database.ts';
import type { Bounds, Redis } from '../../lib/redis/redis.ts';
import type { Embedder } from '../../lib/search/embedder.ts';
import type { VectorEngine } from '../../lib/search/vector-engine.ts';
import type { Metrics } from '../../lib/telemetry/metrics.ts';
import { type EngineCall, noTelemetry, type Telemetry } from '../../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager, type UnifiedContextManager } from '../../lib/unified-context-manager.ts';
import type { TestEngine } from './engines.ts';

/** An answer, read to its end. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly json: any;
}

export interface SendOptions {
  readonly body?: unknown;
  readonly raw?: string | Uint8Array;
  readonly headers?: Record<string, string>;
  readonly token?: string;
}

/** A store behind its front door, with a space of its own for the suite. */
export interface TestStore {
  readonly manager: UnifiedContextManager;
  readonly database: Database;
  readonly ownerToken: string;
  /** Admin key of the suite's own space. */
  readonly token: string;
  readonly space: string;
  /** The suite's space as verbs take it. */
  readonly ref: SpaceRef;
  send(method: string, path: string, options?: SendOptions): Promise<Reply>;
  /** PostgreSQL requests made while `work` ran. */
  counting<Value>(work: () => Promise<Value>): Promise<{ value: Value; requests: number }>;
  /** @param host what whoever runs the server lends the request. */
  fetch(request: Request, host?: object): Promise<Response>;
}

const ownerToken = 'lam_test_owner_0123456789';
let spaces = 0;

export async function openStore(
  engine: TestEngine,
  options: {
    settings?: Record<string, unknown>;
    clock?: Clock;
    telemetry?: Telemetry;
    metrics?: Metrics;
    database?: Database;
    embedders?: readonly [Embedder, ...Embedder[]];
    engine?: VectorEngine;
    /** Makes layer 2; in the process when absent. */
    redis?: (bounds: Bounds) => Redis;
    /** Whether peers may be processes of this machine. */
    mayStartCommands?: boolean;
    /** Makes no space of its own. */
    isBare?: boolean;
  } = {},
): Promise<TestStore> {
  const calls: EngineCall[] = [];
  const counted: Telemetry = {
    engineCall: (call) => calls.push(call),
    cacheRead() {},
    syncRun() {},
    hookEvent() {},
    log: (options.telemetry ?? noTelemetry).log,
  };
  const database = options.database ?? (await engine.open(counted));
  const settings: Settings = options.settings ? settingsSchema.parse(options.settings) : defaultSettings;
  const clock = options.clock ?? Date.now;
  const manager = await createUnifiedContextManager({
    database,
    redis: options.redis,
    settings,
    telemetry: counted,
    ...(options.metrics ? { metrics: options.metrics } : {}),
    embedders: options.embedders,
    engine: options.engine,
    mayStartCommands: options.mayStartCommands ?? false,
    ownerToken,
    clock,
  });
  const mounts = mcpMounts({ manager, telemetry: counted, publicUrl: undefined, isLocal: false });
  const app = createApp({
    manager,
    routes: routesOf(settings),
    telemetry: counted,
    mounts,
    toRouter: () => new RegExpRouter(),
  });
  const space = `suite-${++spaces}-${process.pid}`;

  async function send(
    method: string,
    path: string,
    { body, raw, headers = {}, token }: SendOptions = {},
  ): Promise<Reply> {
    const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const request = new Request(`http://lamina.test${path}`, {
      method,
      headers: {
        ...((token ?? store.token) === '' ? {} : { authorization: `Bearer ${token ?? store.token}` }),
        ...(sent !== undefined && !('content-type' in headers) ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(sent === undefined ? {} : { body: sent as string }),
    });
    const response = await app.fetch(request);
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    const isContent = method === 'GET' && path.includes('/content') && response.ok;
    const json = isJson && text !== '' && !isContent ? JSON.parse(text) : undefined;
    expectDocumented(method, path, response.status, json);
    return { status: response.status, headers: response.headers, text, json };
  }

  const store: TestStore = {
    manager,
    database,
    ownerToken,
    token: '',
    space,
    ref: { space, slot: space },
    send,
    async counting(work) {
      const postgres = () => calls.filter(({ engine: one }) => one === 'postgres').length;
      const before = postgres();
      const value = await work();
      return { value, requests: postgres() - before };
    },
    fetch: async (request, host) => app.fetch(request, host),
  };
  if (options.isBare) return store;
  const made = await send('POST', '/v1/spaces', { body: { name: space }, token: ownerToken });
  const token = made.json.key.token as string;
  const { slot } = await manager.access.credentials.authenticate(token);
  return Object.assign(store, { token, ref: { space, slot } });
}

const documented = await loadRoutes(routes);

/** Holds every answer of every suite against what the OpenAPI document promises for its route. */
function expectDocumented(method: string, path: string, status: number, json: unknown): void {
  const { pathname } = new URL(path, 'http://lamina.test');
  const route = documented.find(
    (one) =>
      one.method === method.toLowerCase() && new RegExp(`^${one.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
  );
  if (route === undefined) return;
  if (status >= 400) {
    const { code } = problemAnswer().parse(json);
    if (!problemCodes(route).includes(code as never)) throw new Error(`${route.operationId} does not document ${code}`);
    return;
  }
  const answer = route.answers[status];
  if (answer === undefined) throw new Error(`${route.operationId} does not document status ${status}`);
  answer.schema?.().parse(json);
}

/** The id of a new context, unlike any other of the run. */
let ids = 0;
export const newId = (prefix = 'c') => `${prefix}-${++ids}`;
