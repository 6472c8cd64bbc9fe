import { HonoBase as Hono } from 'hono/hono-base';
import { TrieRouter } from 'hono/router/trie-router';
import * as z from 'zod';
import type { Principal } from '../access/credentials.ts';
import { reaches } from '../access/scopes.ts';
import { sha256 } from '../base/hash.ts';
import { lazily } from '../base/lazily.ts';
import { andThen, type MaybePromise } from '../base/maybe-promise.ts';
import { invalid, Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import type { Idempotency } from '../contexts/written.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { parseBody, readBody, requireType } from './body.ts';
import { later } from './later.ts';
import { type HeaderReader, type Mount, readBearer } from './mount.ts';
import { createTiming, problemAnswer, type Timing, toProblem, toResponse } from './respond.ts';
import { type Answer, isGroup, type Route, type RouteGroup } from './route.ts';

const headerBytesMax = 10_240;
// Whoever sends more mistakes than this needs no list of all.
const errorsMax = 100;
/** What Hono's adapter for Node lends: to ask `Headers` would cost a tenth of a cached read. */
interface Host {
  readonly incoming?: {
    readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
    readonly rawHeaders: readonly string[];
  };
  /** How long the process may still work on the request; absent where it may for ever. */
  readonly leftMs?: number;
}

const noQuery = later(() => z.strictObject({}));
const noParams = {};
const noBody = { bytes: new Uint8Array(), contentType: '' };
const anonymous: Principal = { space: '', slot: '', id: 'anonymous', scopes: [], isOwner: false };

/** The HTTP door: every route behind the same checks, every error a problem. */
export function createApp(deps: {
  manager: UnifiedContextManager;
  routes: readonly (Route | RouteGroup)[];
  telemetry: Telemetry;
  /** Other doors behind the same server. */
  mounts?: readonly Mount[];
  /** Makes what finds the route of a path; by default the one of Hono's that starts fastest. */
  toRouter?: () => Hono['router'];
}): Hono {
  const { manager, telemetry, mounts = [], toRouter = () => new TrieRouter() } = deps;

  // What can be answered at once is, without a promise: Hono and its adapter for Node then have none either.
  const answering = (handle: (of: Handling) => MaybePromise<Answer>) => {
    return (request: Request, params: Record<string, string>, host?: Host): MaybePromise<Response> => {
      const headers = readerOf(request, host);
      const requestId = readRequestId(headers) ?? manager.ids.sortable();
      const timing = createTiming();
      const acceptEncoding = manager.settings.features.compression ? headers.get('accept-encoding') : null;
      const log = (error: unknown) => {
        const { code, cause } = toProblem(error);
        const facts = { requestId, method: request.method, path: new URL(request.url).pathname, code };
        telemetry.log({ level: 'error', event: 'http.failed', facts, error: cause ?? error });
      };
      const about = { requestId, timing, acceptEncoding, onBroken: log };
      const refuse = (error: unknown) => {
        const problem = toProblem(error);
        if (problem.status >= 500) log(problem);
        return toResponse(problemAnswer(problem, requestId), about);
      };
      try {
        const answer = handle({ http: request, headers, timing, pathParams: params, host });
        const response = andThen(answer, (one) => toResponse(one, about));
        return response instanceof Promise ? response.catch(refuse) : response;
      } catch (error) {
        return refuse(error);
      }
    };
  };

  /** What answers at the paths of these routes, and refuses there what they do not take. */
  function doorOf(routes: readonly Route[]): Hono {
    const door = new Hono({ router: toRouter() });
    for (const route of routes) {
      const withoutQuery = later(() => Object.freeze(check(route.query ?? noQuery, {}, '') as object));
      const served = { ...route, withoutQuery };
      const serve = answering((of) => serveRoute(manager, served, of));
      const path = route.path.replaceAll(/\{(\w+)\}/g, ':$1');
      door.on(route.method.toUpperCase(), path, (c) => serve(c.req.raw, c.req.param(), c.env as Host | undefined));
    }
    // One handler a route, and none for the rest: Hono calls a single one at once.
    const shapes = later(() =>
      routes.map(({ method, path }) => ({
        method: method.toUpperCase(),
        shape: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
      })),
    );
    const missing = answering(({ http }) => {
      const { pathname } = new URL(http.url);
      const methods = shapes()
        .filter(({ shape }) => shape.test(pathname))
        .map(({ method }) => method);
      if (methods.length === 0)
        throw new Problem('not_found', `There is nothing at ${pathname}; /docs shows what there is.`);
      const allow = (methods.includes('GET') ? [...methods, 'HEAD'] : methods).join(', ');
      throw new Problem('method_not_allowed', `${http.method} is not allowed here; ${allow} are.`, { allow });
    });
    door.notFound((c) => missing(c.req.raw, {}));
    // Hono itself may refuse a request before any route does, such as one with a malformed escape in its path.
    door.onError((error, c) => answering(async () => Promise.reject(error))(c.req.raw, {}));
    return door;
  }

  const app = doorOf(deps.routes.filter((one): one is Route => !isGroup(one)));
  for (const { paths, load } of deps.routes.filter(isGroup)) {
    const door = lazily(async () => doorOf(await load()));
    for (const path of paths) app.all(path, async (c) => (await door()).fetch(c.req.raw, c.env));
  }
  for (const mount of mounts) app.all(mount.path, (c) => mount.fetch(c.req.raw, (c.env as Host | undefined)?.leftMs));
  return app;
}

/** A request on its way to its route. */
interface Handling {
  readonly http: Request;
  readonly headers: HeaderReader;
  readonly timing: Timing;
  readonly pathParams: Record<string, string>;
  readonly host: Host | undefined;
}

/** A route, and what it makes of a request without a query. */
interface Served extends Route {
  withoutQuery(): object;
}

function serveRoute(manager: UnifiedContextManager, route: Served, of: Handling): MaybePromise<Answer> {
  const { http, headers, timing, pathParams } = of;
  requireHeaders(http, of.host);
  const token = readBearer(headers);
  const admitted = route.scope === null ? anonymous : admit(manager, route, token);
  return andThen(admitted, (principal) => {
    const params = route.params === undefined ? noParams : check(route.params, pathParams, '');
    const query = http.url.includes('?')
      ? check(route.query ?? noQuery, readQuery(http.url), '')
      : route.withoutQuery();
    const taken = route.body === undefined ? noBody : takeBody(route.body, http, manager.settings.limits);
    return andThen(taken, ({ bytes, contentType }) =>
      route.handle({
        manager,
        principal,
        token: token ?? '',
        params,
        query,
        body: checkBody(route.body, bytes),
        contentType,
        headers,
        isHead: http.method === 'HEAD',
        idempotency: route.method === 'get' ? undefined : readIdempotency(route, http, contentType, bytes, principal),
        request: {
          space: principal.space,
          slot: principal.slot,
          actor: { kind: 'api', id: principal.id },
          seq: readSeq(headers),
          keyId: principal.keyId,
          unconfirmed: principal.unconfirmed,
          noCache: isNoCache(headers),
          signal: route.method === 'get' ? () => http.signal : undefined,
          telemetry: timing,
        },
      }),
    );
  });
}

/** @throws Problem `unauthenticated` without a valid token, `forbidden` without the scope. */
function admit(manager: UnifiedContextManager, route: Route, token: string | undefined): MaybePromise<Principal> {
  if (token === undefined) {
    throw new Problem('unauthenticated', 'Send the token as Authorization: Bearer <token>.');
  }
  const principal = manager.access.credentials.authenticate(token, { isConfirming: route.isConfirming ?? false });
  return andThen(principal, (one) => requireScope(one, route));
}

function requireScope(principal: Principal, { scope }: Route): Principal {
  const isEnough = scope === 'owner' ? principal.isOwner : scope === null || reaches(principal.scopes, scope);
  if (!isEnough) {
    const needed = scope === 'owner' ? "the owner's token" : `the scope ${scope}`;
    throw new Problem('forbidden', `This needs ${needed}.`, { needed: scope });
  }
  return principal;
}

async function takeBody(body: NonNullable<Route['body']>, http: Request, limits: Settings['limits']) {
  const header = http.headers.get('content-type');
  const bytesMax = body.bytesMax ?? limits.inlineBytes;
  const advice = body.isContent && limits.contextBytes > bytesMax ? uploadAdvice(limits.contextBytes) : undefined;
  if (body.isAnyType) return { bytes: await readBody(http, bytesMax), contentType: 'application/octet-stream' };
  if (header === null && body.isOptional) {
    const bytes = await readBody(http, bytesMax);
    return bytes.length === 0 ? noBody : { bytes, contentType: requireType(header, body.types) };
  }
  const contentType = requireType(header, body.types);
  return { bytes: await readBody(http, bytesMax, advice), contentType };
}

/** The body against its schema, or its bytes where it has none. */
function checkBody(body: Route['body'], bytes: Uint8Array): unknown {
  if (body?.schema === undefined) return bytes;
  return check(body.schema, bytes.length === 0 && body.isOptional ? {} : parseBody(bytes), '/');
}

const uploadAdvice = (contextBytes: number) =>
  `A content of up to ${contextBytes} bytes is written from an upload: see POST /v1/uploads.`;

/** @throws Problem `invalid_request` with every place that does not fit the schema. */
function check(schema: () => z.ZodType, value: unknown, root: string): unknown {
  // Schemas pass over this key without a word.
  if (Object.hasOwn(Object(value), '__proto__')) throw invalid(`${root}__proto__`, 'is not known here');
  const result = schema().safeParse(value);
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

function readQuery(url: string): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  for (const [key, value] of new URL(url).searchParams) {
    if (key in query) throw invalid(key, 'is given twice');
    if (`${key}${value}`.includes('\u0000')) throw invalid(key.replaceAll('\u0000', ''), 'holds U+0000');
    query[key] = value;
  }
  return query;
}

function readerOf(request: Request, host: Host | undefined): HeaderReader {
  const known = host?.incoming?.headers;
  if (known === undefined) return request.headers;
  return {
    get(name) {
      const value = known[name];
      return value === undefined ? null : String(value);
    },
  };
}

function requireHeaders(http: Request, host: Host | undefined): void {
  let bytes = 0;
  // Names and values in turn, each pair with the four characters around it.
  if (host?.incoming !== undefined) for (const part of host.incoming.rawHeaders) bytes += part.length + 2;
  else for (const [name, value] of http.headers) bytes += name.length + value.length + 4;
  if (bytes > headerBytesMax) throw invalid('', `the headers have ${bytes} bytes; ${headerBytesMax} are allowed`);
}

function readRequestId(headers: HeaderReader): string | undefined {
  const sent = headers.get('x-request-id');
  return sent !== null && /^[\w.:-]{1,128}$/.test(sent) ? sent : undefined;
}

function isNoCache(headers: HeaderReader): boolean {
  const header = headers.get('cache-control');
  return header !== null && /\bno-cache\b/i.test(header);
}

function readSeq(headers: HeaderReader): number {
  const header = headers.get('context-seq');
  if (header === null) return 0;
  if (!/^\d{1,15}$/.test(header.trim())) throw invalid('Context-Seq', 'is a whole number');
  return Number(header);
}

function readIdempotency(
  route: Route,
  http: Request,
  contentType: string,
  bytes: Uint8Array,
  principal: Principal,
): Idempotency | undefined {
  const key = http.headers.get('idempotency-key');
  if (key === null) return undefined;
  if (key.length < 1 || key.length > 255 || !/^[\x20-\x7e]+$/.test(key)) {
    throw invalid('Idempotency-Key', 'has 1 to 255 printable ASCII characters');
  }
  const url = new URL(http.url);
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
