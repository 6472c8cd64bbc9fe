import { Hono } from 'hono';
import { z } from 'zod';
import type { Principal } from '../access/credentials.ts';
import { reaches } from '../access/scopes.ts';
import { sha256 } from '../base/hash.ts';
import { invalid, Problem } from '../base/problem.ts';
import type { Idempotency } from '../contexts/written.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { parseBody, readBody, requireType } from './body.ts';
import { createTiming, problemAnswer, type Timing, toProblem, toResponse } from './respond.ts';
import type { Answer, Call, Route } from './route.ts';

const headerBytesMax = 10_240;
// Whoever sends more mistakes than this needs no list of all.
const errorsMax = 100;
const anonymous: Principal = { space: '', slot: '', id: 'anonymous', scopes: [], isOwner: false };

/** The HTTP door: every route behind the same checks, every error a problem. */
export function createApp(deps: {
  manager: UnifiedContextManager;
  routes: readonly Route[];
  telemetry: Telemetry;
}): Hono {
  const { manager, routes, telemetry } = deps;
  const app = new Hono();

  const answering = (handle: (request: Request, timing: Timing, params: Record<string, string>) => Promise<Answer>) => {
    return async (request: Request, params: Record<string, string>): Promise<Response> => {
      const requestId = readRequestId(request.headers) ?? manager.ids.sortable();
      const timing = createTiming();
      const acceptEncoding = manager.settings.features.compression ? request.headers.get('accept-encoding') : null;
      const about = { requestId, timing, acceptEncoding };
      try {
        return await toResponse(await handle(request, timing, params), about);
      } catch (error) {
        const problem = toProblem(error);
        if (problem.status >= 500) {
          const { pathname } = new URL(request.url);
          const facts = { requestId, method: request.method, path: pathname, code: problem.code };
          telemetry.log({ level: 'error', event: 'http.failed', facts, error: problem.cause ?? error });
        }
        return toResponse(problemAnswer(problem, requestId), about);
      }
    };
  };

  for (const route of routes) {
    const serve = answering((request, timing, params) => serveRoute(manager, route, request, timing, params));
    const path = route.path.replaceAll(/\{(\w+)\}/g, ':$1');
    app.on(route.method.toUpperCase(), path, (c) => serve(c.req.raw, c.req.param()));
  }
  for (const path of new Set(routes.map((route) => route.path))) {
    const methods = routes.filter((route) => route.path === path).map((route) => route.method.toUpperCase());
    const allow = (methods.includes('GET') ? [...methods, 'HEAD'] : methods).join(', ');
    const refuse = answering(async (request) => {
      throw new Problem('method_not_allowed', `${request.method} is not allowed here; ${allow} are.`, { allow });
    });
    app.all(path.replaceAll(/\{(\w+)\}/g, ':$1'), (c) => refuse(c.req.raw, {}));
  }
  const missing = answering(async (request) => {
    throw new Problem('not_found', `There is nothing at ${new URL(request.url).pathname}; /docs shows what there is.`);
  });
  app.notFound((c) => missing(c.req.raw, {}));
  // Hono itself may refuse a request before any route does, such as one with a malformed escape in its path.
  app.onError((error, c) => answering(async () => Promise.reject(error))(c.req.raw, {}));
  return app;
}

async function serveRoute(
  manager: UnifiedContextManager,
  route: Route,
  http: Request,
  timing: Timing,
  pathParams: Record<string, string>,
): Promise<Answer> {
  requireHeaders(http.headers);
  const token = readBearer(http.headers);
  const principal = route.scope === null ? anonymous : await admit(manager, route, token);
  const url = new URL(http.url);
  const params = check(route.params ?? z.strictObject({}), pathParams, '');
  const query = check(route.query ?? z.strictObject({}), readQuery(url.searchParams), '');
  const { bytes, contentType } = await takeBody(route, http, manager.settings.limits.inlineBytes);
  const schema = route.body?.schema;
  const body =
    schema === undefined
      ? bytes
      : check(schema, bytes.length === 0 && route.body?.isOptional ? {} : parseBody(bytes), '/');
  const call: Call<unknown, unknown, unknown> = {
    manager,
    principal,
    token: token ?? '',
    params,
    query,
    body,
    contentType,
    headers: http.headers,
    idempotency: route.method === 'get' ? undefined : readIdempotency(route, http, url, contentType, bytes, principal),
    request: {
      space: principal.space,
      slot: principal.slot,
      actor: { kind: 'api', id: principal.id },
      seq: readSeq(http.headers),
      unconfirmed: principal.unconfirmed,
      noCache: /\bno-cache\b/i.test(http.headers.get('cache-control') ?? ''),
      signal: route.method === 'get' ? http.signal : undefined,
      telemetry: timing,
    },
  };
  return route.handle(call);
}

async function admit(manager: UnifiedContextManager, route: Route, token: string | undefined): Promise<Principal> {
  if (token === undefined) {
    throw new Problem('unauthenticated', 'Send the token as Authorization: Bearer <token>.');
  }
  const principal = await manager.access.credentials.authenticate(token, { isConfirming: route.isConfirming ?? false });
  const isEnough =
    route.scope === 'owner' ? principal.isOwner : route.scope === null || reaches(principal.scopes, route.scope);
  if (!isEnough) {
    const needed = route.scope === 'owner' ? "the owner's token" : `the scope ${route.scope}`;
    throw new Problem('forbidden', `This needs ${needed}.`, { needed: route.scope });
  }
  return principal;
}

async function takeBody(route: Route, http: Request, bytesMax: number) {
  const none = { bytes: new Uint8Array(), contentType: '' };
  if (route.body === undefined) return none;
  const header = http.headers.get('content-type');
  if (header === null && route.body.isOptional) {
    const bytes = await readBody(http, bytesMax);
    return bytes.length === 0 ? none : { bytes, contentType: requireType(header, route.body.types) };
  }
  const contentType = requireType(header, route.body.types);
  return { bytes: await readBody(http, bytesMax), contentType };
}

/** @throws Problem `invalid_request` with every place that does not fit the schema. */
function check(schema: z.ZodType, value: unknown, root: string): unknown {
  // Schemas pass over this key without a word.
  if (Object.hasOwn(Object(value), '__proto__')) throw invalid(`${root}__proto__`, 'is not known here');
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue) => {
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : [undefined];
    return keys.map((key) => ({
      path: root + [...issue.path, ...(key === undefined ? [] : [key])].map(String).join('/'),
      message: key === undefined ? issue.message : 'is not known here',
    }));
  });
  const [first] = errors;
  errors.splice(errorsMax);
  throw new Problem('invalid_request', `${first?.path || 'The body'}: ${first?.message}.`, { errors });
}

function readQuery(search: URLSearchParams): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  for (const [key, value] of search) {
    if (key in query) throw invalid(key, 'is given twice');
    if (`${key}${value}`.includes('\u0000')) throw invalid(key.replaceAll('\u0000', ''), 'holds U+0000');
    query[key] = value;
  }
  return query;
}

function requireHeaders(headers: Headers): void {
  let bytes = 0;
  for (const [name, value] of headers) bytes += name.length + value.length + 4;
  if (bytes > headerBytesMax) throw invalid('', `the headers have ${bytes} bytes; ${headerBytesMax} are allowed`);
}

function readBearer(headers: Headers): string | undefined {
  return /^Bearer +([^\s]+)\s*$/i.exec(headers.get('authorization') ?? '')?.[1];
}

function readRequestId(headers: Headers): string | undefined {
  const sent = headers.get('x-request-id');
  return sent !== null && /^[\w.:-]{1,128}$/.test(sent) ? sent : undefined;
}

function readSeq(headers: Headers): number {
  const header = headers.get('context-seq');
  if (header === null) return 0;
  if (!/^\d{1,15}$/.test(header.trim())) throw invalid('Context-Seq', 'is a whole number');
  return Number(header);
}

function readIdempotency(
  route: Route,
  http: Request,
  url: URL,
  contentType: string,
  bytes: Uint8Array,
  principal: Principal,
): Idempotency | undefined {
  const key = http.headers.get('idempotency-key');
  if (key === null) return undefined;
  if (key.length < 1 || key.length > 255 || !/^[\x20-\x7e]+$/.test(key)) {
    throw invalid('Idempotency-Key', 'has 1 to 255 printable ASCII characters');
  }
  const parts = [
    http.method,
    url.pathname,
    url.search,
    http.headers.get('if-match'),
    http.headers.get('if-none-match'),
  ];
  const identity = route.isPersonal ? principal.id : '';
  // Kept as a digest: what a caller chose to write into it is nobody's business.
  return {
    key: sha256(key),
    fingerprint: sha256(`${parts.join('\n')}\n${identity}\n${contentType}\n${sha256(bytes)}`),
  };
}
