import type * as z from 'zod';
import type { Principal } from '../access/credentials.ts';
import type { Scope } from '../access/scopes.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { ProblemCode } from '../base/problem.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Idempotency } from '../contexts/written.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { later } from './later.ts';
import type { HeaderReader } from './mount.ts';

/** A request that has passed the door: who asks, in which space, and every part checked against its schema. */
export interface Call<Params, Query, Body> {
  readonly manager: UnifiedContextManager;
  readonly request: RequestContext;
  readonly principal: Principal;
  /** The bearer token itself, for what only its holder can prove. */
  readonly token: string;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** The media type of the body without parameters, in lower case; empty without a body. */
  readonly contentType: string;
  readonly headers: HeaderReader;
  /** Whether it is a HEAD of a route for GET: nobody will see the body. */
  readonly isHead: boolean;
  readonly idempotency: Idempotency | undefined;
}

/** Bytes that many answers share, with what compression has made of them so far. */
export interface ReadyBytes {
  readonly plain: Uint8Array<ArrayBuffer>;
  readonly encoded: Map<string, Promise<Uint8Array<ArrayBuffer>>>;
}

/** What a handler answers; the door makes the one Response of it. */
export interface Answer {
  readonly status?: number;
  /** JSON as text, text, bytes, bytes that are sent again and again, or a stream of bytes. */
  readonly body?: string | Uint8Array | ReadyBytes | AsyncIterable<Uint8Array> | undefined;
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The tick as of which the answer is true. */
  readonly seq?: number | undefined;
  /** Bytes of a streamed body, where they are known. */
  readonly lengthBytes?: number;
}

/** What a route promises for one status, for the OpenAPI document. */
export interface AnswerDocs {
  readonly description: string;
  readonly schema?: () => z.ZodType;
  readonly example?: unknown;
  /** Default `application/json`; with no schema, the bytes themselves. */
  readonly contentType?: string;
}

/** How a body is read: JSON against a schema, or bytes of the media types named. */
export type BodyKind = 'json' | 'bytes';

/** A route as data: what the door checks and what the OpenAPI document says are the same. */
export interface Route {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** With parameters in braces, as OpenAPI writes them. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** The scope a token needs, `owner` for the server's own token, null for none at all. */
  readonly scope: Scope | 'owner' | null;
  /** Schemas are made when they are first asked for; see `later`. */
  readonly params?: () => z.ZodObject;
  readonly query?: () => z.ZodObject;
  /** Request headers beside those every route knows, by name. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: {
    readonly kind: BodyKind;
    /** Media types taken; anything else is 415. */
    readonly types: readonly string[];
    /** Bytes are taken whatever the request calls them. */
    readonly isAnyType?: boolean;
    /** How many bytes are taken, decoded; `limits.inlineBytes` when absent. */
    readonly bytesMax?: number;
    /** What is too large for it may come by an upload, and whoever sends it is told so. */
    readonly isContent?: boolean;
    readonly schema?: () => z.ZodType;
    readonly isOptional?: boolean;
    readonly example?: unknown;
  };
  /**
   * Whether its handler confirms the credential by what it reads or writes with the `request`; otherwise the door does,
   * which may cost a request more.
   */
  readonly isConfirming?: boolean | undefined;
  /** The answer is made only for the very token that asked. */
  readonly isPersonal?: boolean;
  readonly answers: Readonly<Record<number, AnswerDocs>>;
  /** Problems beyond those every route knows. */
  readonly problems: readonly ProblemCode[];
  handle(call: Call<unknown, unknown, unknown>): MaybePromise<Answer>;
}

/** Routes that are loaded by the first request of one of their paths. */
export interface RouteGroup {
  /** The paths of its routes as Hono writes them; with `/*` behind it, whatever lies below as well. No other route is at one. */
  readonly paths: readonly string[];
  load(): Promise<readonly Route[]>;
}

export const isGroup = (one: Route | RouteGroup): one is RouteGroup => 'load' in one;

/** All routes of a list, those of its groups in their place. */
export async function loadRoutes(routes: readonly (Route | RouteGroup)[]): Promise<readonly Route[]> {
  return (await Promise.all(routes.map((one) => (isGroup(one) ? one.load() : [one])))).flat();
}

type Output<Schema> = Schema extends () => z.ZodType ? z.output<ReturnType<Schema>> : Record<string, never>;

/** Ties the types of a route's schemas to its handler, and has each of them made once. */
export function route<
  Params extends (() => z.ZodObject) | undefined = undefined,
  Query extends (() => z.ZodObject) | undefined = undefined,
  Body extends (() => z.ZodType) | undefined = undefined,
>(
  definition: Omit<Route, 'params' | 'query' | 'body' | 'handle'> & {
    readonly params?: Params;
    readonly query?: Query;
    readonly body?: Omit<NonNullable<Route['body']>, 'schema'> & { readonly schema?: Body };
    readonly handle: (
      call: Call<Output<Params>, Output<Query>, Body extends () => z.ZodType ? z.output<ReturnType<Body>> : Uint8Array>,
    ) => MaybePromise<Answer>;
  },
): Route {
  const { params, query, body } = definition;
  return {
    ...definition,
    ...(params && { params: later(params) }),
    ...(query && { query: later(query) }),
    ...(body?.schema && { body: { ...body, schema: later(body.schema) } }),
  } as unknown as Route;
}
