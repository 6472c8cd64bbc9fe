import * as z from 'zod';
import { reaches } from '../access/scopes.ts';
import { sha256 } from '../base/hash.ts';
import { type Json, printPlain } from '../base/json.ts';
import { parseJson } from '../base/json-parse.ts';
import { andThen } from '../base/maybe-promise.ts';
import { invalid, Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import type { Moment } from '../contexts/contexts.ts';
import type { ContextFilter } from '../contexts/filter.ts';
import type { UploadedContent } from '../contexts/operation.ts';
import { writeOne } from '../contexts/written.ts';
import { jsonType } from '../merge/document.ts';
import { applyJsonPatch, applyMergePatch } from '../merge/patch.ts';
import type { MergeReport } from '../versions/revisions.ts';
import { decodeUtf8 } from './body.ts';
import { contextJson, contextMembers, etag, readyJson, writtenAnswer } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { knownTag, readPrecondition, readRange } from './preconditions.ts';
import { toPut, toRawContent } from './put.ts';
import { type Answer, type Call, type Route, route } from './route.ts';
import {
  childrenQuery,
  conflictQuery,
  contextAnswer,
  contextId,
  createBody,
  flag,
  idParams,
  kind,
  pageOf,
  pageQuery,
  putBody,
  timeQuery,
  versionQuery,
} from './schemas.ts';

const tag = 'Contexts';
const example = {
  id: 'checkout:notes',
  parentId: 'checkout',
  kind: 'note',
  contentType: 'application/json',
  content: { decided: 'idempotent retries' },
  metadata: { team: 'payments' },
  version: 7,
  hash: `sha256:${sha256('{"decided":"idempotent retries"}')}`,
  sizeBytes: 32,
  createdAt: '2026-01-30T09:00:00.000Z',
  updatedAt: '2026-01-31T12:00:00.000Z',
  expiresAt: null,
  actor: { kind: 'api', id: 'key_5c1a90b2d3e4' },
} as const;
const one = { description: 'The context.', schema: contextAnswer, example };
const putExample = { content: { decided: 'idempotent retries' }, metadata: { team: 'payments' } };
const preconditionHeaders = {
  'If-Match': 'The version the write is based on, such as `"3"`; `*` asks for a live context.',
  'If-None-Match': '`*` creates only.',
};

const readQuery = later(() =>
  z.strictObject({
    version: versionQuery().optional(),
    at: timeQuery().optional().meta({ description: 'The version that was the head at this time.' }),
    resolve: z
      .enum(['ancestors'])
      .optional()
      .meta({ description: 'Fold in the contents of the ancestors, root first.' }),
  }),
);

function toMoment(query: z.output<ReturnType<typeof readQuery>>): Moment {
  const { version, at, resolve } = query;
  if ((version !== undefined && at !== undefined) || (resolve && (version ?? at) !== undefined)) {
    throw invalid('version', 'version, at and resolve exclude each other');
  }
  return version !== undefined ? { version } : at !== undefined ? { atMs: at } : undefined;
}

const listQuery = later(() =>
  z
    .object({
      parentId: contextId().optional(),
      subtreeOf: contextId().optional().meta({ description: 'Everything below this context, itself left out.' }),
      kind: kind().optional(),
      updatedSince: timeQuery().optional(),
      order: z.enum(['id', 'updated']).default('id').meta({ description: 'By id, or newest first.' }),
      include: z.enum(['content']).optional(),
      ...pageQuery(),
    })
    .catchall(z.string().max(1000))
    .superRefine((query, context) => {
      for (const key of Object.keys(query)) {
        if (!Object.hasOwn(listQuery().shape, key) && !/^metadata\.[^.]+(\.[^.]+){0,15}$/.test(key)) {
          context.addIssue({ code: 'unrecognized_keys', keys: [key], input: query, message: 'is not known here' });
        }
      }
    }),
);

/** A context with its ancestors folded in, and what that is made of. */
async function resolvedAnswer(
  call: Pick<Call<unknown, unknown, unknown>, 'manager' | 'request' | 'headers'>,
  id: string,
): Promise<Answer> {
  const { manager, request, headers } = call;
  const { value, seq } = await manager.contexts.readEffective(request, id);
  const { context, resolvedFrom } = value;
  const resolvedTag = `"r-${sha256(JSON.stringify(resolvedFrom)).slice(0, 32)}"`;
  const known = knownTag(headers, resolvedTag);
  if (known !== undefined) return { status: 304, seq, headers: { etag: known } };
  const body = contextJson(context, { content: true, extra: { resolvedFrom } });
  return { seq, headers: { etag: resolvedTag }, body };
}

export const contextRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/contexts',
    operationId: 'createContext',
    tag,
    summary: 'Create a context',
    scope: 'write',
    body: {
      kind: 'json',
      types: [jsonType],
      schema: createBody,
      example: { id: 'checkout:notes', ...putExample },
      isContent: true,
    },
    answers: { 201: one },
    problems: ['already_exists', 'parent_not_found', 'context_too_large', 'unprocessable', 'idempotency_mismatch'],
    async handle(call) {
      const { manager, request, body, idempotency, headers } = call;
      const { limits } = manager.settings;
      const put = { ...toPut(body.id ?? manager.ids.sortable(), body, limits), ifAbsent: true as const };
      const written = await writeOne(manager.contexts, request, put, { idempotency });
      return writtenAnswer(written, headers, limits);
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts',
    operationId: 'listContexts',
    tag,
    summary: 'List contexts',
    description:
      'Live contexts by id, or newest first. `metadata.<path>=<value>` compares the text at that path, or membership where an array stands there.',
    scope: 'read',
    query: listQuery,
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(contextAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ query, ...call }) {
      const metadata = Object.entries(query)
        .filter(([key]) => key.startsWith('metadata.'))
        .map(([key, value]) => ({ path: key.split('.').slice(1), value: String(value) }));
      const filter = {
        parentId: query.parentId,
        subtreeOf: query.subtreeOf,
        kind: query.kind,
        updatedSinceMs: query.updatedSince,
        metadata,
      };
      return listAnswer(call, filter, query);
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts/{id}',
    operationId: 'readContext',
    tag,
    summary: 'Read a context',
    description: 'The head, an old version by number or time, or the context with its ancestors folded in.',
    scope: 'read',
    params: idParams,
    query: readQuery,
    headers: { 'If-None-Match': 'Answers 304 where the version is this one.' },
    answers: { 200: one, 304: { description: 'The version is the one named.' } },
    problems: ['context_not_found', 'version_not_found', 'gone', 'context_too_large'],
    handle({ manager, request, params, query, headers }) {
      const moment = toMoment(query);
      if (query.resolve === 'ancestors') return resolvedAnswer({ manager, request, headers }, params.id);
      return andThen(manager.contexts.read(request, params.id, moment), ({ value, seq }): Answer => {
        const versionTag = etag(value.version);
        const known = knownTag(headers, versionTag);
        if (known !== undefined) return { status: 304, seq, headers: { etag: known } };
        const body = moment === undefined ? readyJson(value) : contextJson(value, { content: true });
        return { seq, headers: { etag: versionTag }, body };
      });
    },
  }),

  route({
    method: 'put',
    path: '/v1/contexts/{id}',
    operationId: 'putContext',
    tag,
    summary: 'Write a context',
    description:
      'Creates it or makes its next version. With `If-Match` on a version that is no longer the head, `onConflict` merges what was sent with the head; what equals the head makes no version, whatever it was based on. `upload` takes the place of `content` where that is too large for one request, and is used up by the write.',
    scope: 'write',
    params: idParams,
    query: () => z.strictObject({ onConflict: conflictQuery().default('fail') }),
    headers: preconditionHeaders,
    body: { kind: 'json', types: [jsonType], schema: putBody, example: putExample, isContent: true },
    answers: { 200: one, 201: one },
    problems: [
      'not_found',
      'version_conflict',
      'merge_conflict',
      'parent_not_found',
      'parent_cycle',
      'context_too_large',
      'unprocessable',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, params, query, body, headers, idempotency }) {
      const { limits } = manager.settings;
      const put = { ...toPut(params.id, body, limits), ...readPrecondition(headers) };
      const { ifVersion } = put;
      const { onConflict } = query;
      if (onConflict !== 'fail' && ifVersion === undefined)
        throw invalid('onConflict', 'needs If-Match with the version the write is based on');
      const write = (upload?: UploadedContent) =>
        onConflict === 'fail' || ifVersion === undefined
          ? writePut(manager.contexts, request, { ...put, upload }, idempotency)
          : manager.revisions.putMerging(request, { ...put, upload, ifVersion }, onConflict, idempotency);
      const written = await (body.upload === undefined
        ? write()
        : manager.uploads.using(request, body.upload, idempotency, write));
      const merge = written.extra as MergeReport | undefined;
      return writtenAnswer(written, headers, { ...limits, extra: merge ? { merge } : {} });
    },
  }),

  route({
    method: 'patch',
    path: '/v1/contexts/{id}',
    operationId: 'patchContext',
    tag,
    summary: 'Patch a JSON context',
    description: 'A JSON Merge Patch (RFC 7396) or a JSON Patch (RFC 6902) on the content.',
    scope: 'write',
    params: idParams,
    headers: { 'If-Match': preconditionHeaders['If-Match'] },
    body: {
      kind: 'bytes',
      types: ['application/merge-patch+json', 'application/json-patch+json'],
      example: { decided: 'retries with a key' },
    },
    answers: { 200: one },
    problems: [
      'context_not_found',
      'gone',
      'version_conflict',
      'context_too_large',
      'unprocessable',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, params, body, contentType, headers, idempotency }) {
      const patch = parseJson(decodeUtf8(body as Uint8Array));
      const { ifVersion, ifAbsent } = readPrecondition(headers);
      if (ifAbsent) throw invalid('If-None-Match', 'has no meaning on a patch');
      const apply = (content: Json) =>
        contentType === 'application/json-patch+json'
          ? applyJsonPatch(content, patch)
          : applyMergePatch(content, patch);
      const written = await manager.revisions.patch(request, params.id, { apply, ifVersion }, idempotency);
      return writtenAnswer(written, headers, manager.settings.limits);
    },
  }),

  route({
    method: 'delete',
    path: '/v1/contexts/{id}',
    operationId: 'deleteContext',
    tag,
    summary: 'Delete or erase a context',
    description:
      'Makes a tombstone: reads answer 410, old versions stay readable by number, a put revives. `erase=true` (scope `admin`) removes every trace for good.',
    scope: 'write',
    params: idParams,
    query: () => z.strictObject({ children: childrenQuery(), erase: flag().default(false) }),
    headers: { 'If-Match': preconditionHeaders['If-Match'] },
    answers: {
      200: {
        description: 'The tombstone, or with `erase=true` what was erased.',
        schema: () =>
          contextAnswer().or(
            z.strictObject({
              erased: z.strictObject({ versions: z.int(), cacheEntries: z.int(), vectors: z.int() }),
              pendingPeers: z.array(z.string()),
              pendingEngines: z
                .array(z.literal('weaviate'))
                .meta({ description: 'What has not confirmed yet that it holds nothing of it.' }),
            }),
          ),
        example: {
          ...example,
          content: null,
          version: 8,
          hash: null,
          sizeBytes: 0,
          contentType: null,
          metadata: {},
          deleted: true,
        },
      },
    },
    problems: [
      'context_not_found',
      'gone',
      'has_children',
      'version_conflict',
      'unprocessable',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, principal, params, query, headers, idempotency }) {
      const { id } = params;
      const { children } = query;
      const precondition = readPrecondition(headers);
      if (precondition.ifAbsent) throw invalid('If-None-Match', 'has no meaning on a delete');
      if (query.erase) {
        if (!reaches(principal.scopes, 'admin'))
          throw new Problem('forbidden', 'Erasing needs the scope admin.', { needed: 'admin' });
        const erase = { id, children, ...precondition };
        const { isForgotten, peers, seq, ...erased } = await manager.history.erase(request, erase, idempotency);
        const pendingEngines = isForgotten ? [] : [manager.search.engine];
        return { seq, body: printPlain({ erased, pendingPeers: peers, pendingEngines }) };
      }
      const written = await writeOne(
        manager.contexts,
        request,
        { op: 'delete', id, children, ...precondition },
        { idempotency },
      );
      return writtenAnswer(written, headers, manager.settings.limits);
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts/{id}/content',
    operationId: 'readContent',
    tag,
    summary: 'Read the content alone',
    description: 'The stored bytes with their own content type. `Range` works.',
    scope: 'read',
    params: idParams,
    query: () => z.strictObject({ version: versionQuery().optional(), at: timeQuery().optional() }),
    headers: { Range: 'One range of bytes.', 'If-Range': 'The entity tag the range belongs to.' },
    answers: {
      200: { description: 'The bytes.', contentType: '*/*' },
      206: { description: 'The bytes of the range.', contentType: '*/*' },
      304: { description: 'The version is the one named.' },
    },
    problems: ['context_not_found', 'version_not_found', 'gone', 'range_not_satisfiable'],
    async handle({ manager, request, params, query, headers, isHead }) {
      const { value, seq } = await manager.contexts.read(
        request,
        params.id,
        toMoment({ ...query, resolve: undefined }),
      );
      const versionTag = etag(value.version);
      const known = knownTag(headers, versionTag);
      if (known !== undefined) return { status: 304, seq, headers: { etag: known } };
      const { sizeBytes } = value;
      // RFC 9110, 14.2: a Range with any method but GET is ignored.
      const range = isHead ? undefined : readRange(headers, sizeBytes, versionTag);
      if (range === null) {
        throw new Problem('range_not_satisfiable', `The content has ${sizeBytes} bytes.`, { rangeOf: sizeBytes });
      }
      const { start, end } = range ?? { start: 0, end: sizeBytes };
      const isText = value.contentType?.startsWith('text/') ?? false;
      return {
        status: range === undefined ? 200 : 206,
        seq,
        contentType: isText ? `${value.contentType}; charset=utf-8` : jsonType,
        headers: {
          etag: versionTag,
          'accept-ranges': 'bytes',
          // What people store is shown to browsers as a document of nobody's, whatever it is.
          'content-security-policy': "sandbox; default-src 'none'",
          ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${sizeBytes}` }),
        },
        lengthBytes: end - start,
        body: value.content?.subarray(start, end) ?? manager.contexts.streamContent(request, value, start, end),
      };
    },
  }),

  route({
    method: 'put',
    path: '/v1/contexts/{id}/content',
    operationId: 'putContent',
    tag,
    summary: 'Write the content alone',
    description: 'The body is the content, its media type the content type; everything else keeps what the head has.',
    scope: 'write',
    params: idParams,
    headers: preconditionHeaders,
    body: { kind: 'bytes', types: [jsonType, 'text/*'], isContent: true },
    answers: { 200: one, 201: one },
    problems: ['version_conflict', 'context_too_large', 'unprocessable', 'idempotency_mismatch'],
    async handle({ manager, request, params, body, contentType, headers, idempotency }) {
      const { limits } = manager.settings;
      const content = toRawContent(body as Uint8Array, contentType, limits);
      const put = { op: 'put', id: params.id, content, ...readPrecondition(headers) } as const;
      return writtenAnswer(await writePut(manager.contexts, request, put, idempotency), headers, limits);
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts/{id}/children',
    operationId: 'listChildren',
    tag: 'Trees',
    summary: 'List the children',
    scope: 'read',
    params: idParams,
    query: () =>
      z.strictObject({
        include: z.enum(['content']).optional(),
        order: z.enum(['id', 'updated']).default('id'),
        ...pageQuery(),
      }),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(contextAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: ['context_not_found', 'gone'],
    handle({ params, query, ...call }) {
      return listAnswer(call, { parentId: params.id }, query, params.id);
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts/{id}/ancestors',
    operationId: 'listAncestors',
    tag: 'Trees',
    summary: 'List the ancestors, root first',
    scope: 'read',
    params: idParams,
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page; there are at most 31 of them.',
        schema: () => pageOf(contextAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: ['context_not_found', 'gone'],
    async handle({ manager, request, params, query }) {
      const asked = { ancestorsOf: params.id };
      const [start = 0] = readCursor(asked, query.cursor, ['count']) ?? [];
      const { value, seq } = await manager.contexts.readAncestry(request, params.id);
      const ancestors = value.slice(0, -1);
      const end = start + query.limit;
      const items = ancestors.slice(start, end).map((context) => contextMembers(context, false));
      return {
        seq,
        body: printPlain({ items, nextCursor: end < ancestors.length ? writeCursor(asked, [end]) : null }),
      };
    },
  }),
];

/** A conditional create that finds something there failed its precondition: on a PUT that is 412, not 409. */
async function writePut(
  contexts: Call<unknown, unknown, unknown>['manager']['contexts'],
  request: Call<unknown, unknown, unknown>['request'],
  put: Parameters<typeof writeOne>[2],
  idempotency: Call<unknown, unknown, unknown>['idempotency'],
) {
  return writeOne(contexts, request, put, { idempotency }).catch((error) => {
    if (error instanceof Problem && error.code === 'already_exists') {
      throw new Problem('version_conflict', error.message, error.facts);
    }
    throw error;
  });
}

async function listAnswer(
  call: Pick<Call<unknown, unknown, unknown>, 'manager' | 'request'>,
  filter: ContextFilter,
  query: { order: 'id' | 'updated'; limit: number; cursor?: string | undefined; include?: 'content' | undefined },
  of?: string,
): Promise<Answer> {
  const { manager, request } = call;
  const { order, limit, include } = query;
  const asked = { filter, order };
  const [id, updatedMs] = readCursor(asked, query.cursor, ['id', 'ms']) ?? [];
  const page = {
    filter,
    order,
    limit,
    of,
    after: id === undefined || updatedMs === undefined ? undefined : { id, updatedMs },
    contentBytes: include === undefined ? undefined : manager.settings.limits.inlineBytes,
  };
  const { value, seq } = await manager.contexts.list(request, page);
  const last = value.items.at(-1);
  const nextCursor = value.hasMore && last ? writeCursor(asked, [last.id, last.updatedMs]) : null;
  const items = value.items.map((context: Context) => contextMembers(context, include === 'content'));
  return { seq, body: printPlain({ items, nextCursor }) };
}
