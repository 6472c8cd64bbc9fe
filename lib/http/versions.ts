import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { invalid } from '../base/problem.ts';
import { versionMembers, writtenAnswer } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { readPrecondition } from './preconditions.ts';
import { type Route, route } from './route.ts';
import {
  contextAnswer,
  idParams,
  pageOf,
  pageQuery,
  pinBody,
  restoreBody,
  versionAnswer,
  versionParams,
  versionQuery,
} from './schemas.ts';

const tag = 'Versions';
const example = {
  version: 7,
  hash: `sha256:${'0'.repeat(64)}`,
  sizeBytes: 32,
  contentType: 'application/json',
  actor: { kind: 'api', id: 'key_5c1a90b2d3e4' },
  operation: 'put',
  createdAt: '2026-01-31T12:00:00.000Z',
  pinned: false,
};

export const versionRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/contexts/{id}/versions',
    operationId: 'listVersions',
    tag,
    summary: 'List the versions, newest first',
    scope: 'read',
    params: idParams,
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page, without contents.',
        schema: () => pageOf(versionAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: ['context_not_found'],
    async handle({ manager, request, params, query }) {
      const asked = { versionsOf: params.id };
      const [before] = readCursor(asked, query.cursor, ['count']) ?? [];
      const page = { id: params.id, limit: query.limit, before };
      const { items, hasMore, seq } = await manager.history.versions(request, page);
      const last = items.at(-1);
      const nextCursor = hasMore && last ? writeCursor(asked, [last.version]) : null;
      return { seq, body: printPlain({ items: items.map(versionMembers), nextCursor }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/contexts/{id}/diff',
    operationId: 'diffVersions',
    tag,
    summary: 'Compare two versions',
    description:
      'What has changed so much that telling how would take more than itself is replaced in whole, so a JSON Patch is never much longer than the version it leads to. Contents too different to be compared in a moment are compared more coarsely.',
    scope: 'read',
    params: idParams,
    query: () => z.strictObject({ from: versionQuery(), to: versionQuery() }),
    answers: {
      200: {
        description: 'A JSON Patch (RFC 6902) where both are JSON, else a unified diff.',
        schema: () => z.strictObject({ from: z.int(), to: z.int(), patch: z.union([z.string(), z.array(z.json())]) }),
        example: { from: 6, to: 7, patch: [{ op: 'replace', path: '/decided', value: 'idempotent retries' }] },
      },
    },
    problems: ['context_not_found', 'version_not_found', 'gone'],
    async handle({ manager, request, params, query }) {
      const { patch, seq } = await manager.history.diff(request, params.id, query);
      const shown = 'json' in patch ? { jsonText: patch.json } : patch.text;
      return { seq, body: printPlain({ ...query, patch: shown }) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/contexts/{id}/restore',
    operationId: 'restoreVersion',
    tag,
    summary: 'Make an old version the newest again',
    description:
      'A new version with the content, content type, kind and metadata of the old one; parent and expiry stay as they are. Revives a deleted context.',
    scope: 'write',
    params: idParams,
    headers: { 'If-Match': 'The version the restore is based on, such as `"3"`; `*` asks for a live context.' },
    body: { kind: 'json', types: ['application/json'], schema: restoreBody, example: { version: 3 } },
    answers: { 200: { description: 'The context.', schema: contextAnswer } },
    problems: ['context_not_found', 'version_not_found', 'version_conflict', 'unprocessable', 'idempotency_mismatch'],
    async handle({ manager, request, params, body, headers, idempotency }) {
      const restore = { id: params.id, version: body.version, ...readPrecondition(headers) };
      if (restore.ifAbsent) throw invalid('If-None-Match', 'has no meaning on a restore');
      const written = await manager.history.restore(request, restore, idempotency);
      return { ...writtenAnswer(written, headers, manager.settings.limits), status: 200 };
    },
  }),

  route({
    method: 'post',
    path: '/v1/contexts/{id}/versions/{version}/pin',
    operationId: 'pinVersion',
    tag,
    summary: 'Pin a version or let it go',
    description: 'Pinned versions survive retention and do not count for it.',
    scope: 'write',
    params: versionParams,
    body: { kind: 'json', types: ['application/json'], schema: pinBody, example: { pinned: true } },
    answers: { 200: { description: 'The version.', schema: versionAnswer, example: { ...example, pinned: true } } },
    problems: ['context_not_found', 'version_not_found', 'idempotency_mismatch'],
    async handle({ manager, request, params, body, idempotency }) {
      const pin = { id: params.id, version: params.version, isPinned: body.pinned };
      const { version, seq } = await manager.history.pin(request, pin, idempotency);
      return { seq, body: printPlain(versionMembers(version)) };
    },
  }),
];
