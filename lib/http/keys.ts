import * as z from 'zod';
import type { ApiKey } from '../access/keys.sql.ts';
import { printPlain } from '../base/json.ts';
import { Problem } from '../base/problem.ts';
import { toTime } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { pageAnswer } from './pages.ts';
import { requireFuture } from './put.ts';
import { type Route, route } from './route.ts';
import { flag, keyAnswer, keyBody, pageOf, pageQuery, spaceBody, spaceName } from './schemas.ts';

const tag = 'Keys and spaces';
const stamp = '2026-01-31T12:00:00.000Z';
const example = {
  id: '5c1a90b2d3e4',
  name: 'ci',
  scopes: ['write'],
  createdAt: stamp,
  expiresAt: null,
  revokedAt: null,
};
const made = { ...example, token: 'lam_default_5c1a90b2d3e4_…' };
const space = later(() =>
  z.strictObject({ name: spaceName(), createdAt: z.iso.datetime(), clock: z.int() }).meta({ id: 'Space' }),
);

export const keyRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/keys',
    operationId: 'createKey',
    tag,
    summary: 'Make a key',
    description: 'The token is told once; the store keeps its SHA-256. Scopes nest: read, write, sync, admin.',
    scope: 'admin',
    isPersonal: true,
    body: { kind: 'json', types: ['application/json'], schema: keyBody, example: { name: 'ci', scopes: ['write'] } },
    answers: { 201: { description: 'The key and its token.', schema: keyAnswer, example: made } },
    problems: ['unprocessable', 'idempotency_mismatch'],
    async handle({ manager, request, body, token, idempotency }) {
      requireFuture(body.expiresAt, '/expiresAt');
      const { key, token: secret, seq } = await manager.access.createKey(request, body, token, idempotency);
      return { status: 201, seq, body: printPlain({ ...keyMembers(key), token: secret }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/keys',
    operationId: 'listKeys',
    tag,
    summary: 'List the keys',
    scope: 'admin',
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(keyAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const [after] = readCursor('keys', query.cursor, ['id']) ?? [];
      const page = { after, limit: query.limit + 1 };
      const { items, seq } = await manager.access.listKeys(request, page);
      return pageAnswer({ items, seq }, query.limit, keyMembers, ({ id }) => writeCursor('keys', [id]));
    },
  }),

  route({
    method: 'delete',
    path: '/v1/keys/{key}',
    operationId: 'revokeKey',
    tag,
    summary: 'Revoke a key',
    description: 'Holds at once here, and within `cache.windowMs` on every other instance.',
    scope: 'admin',
    params: () => z.object({ key: z.string().regex(/^(key_)?[a-z0-9]{1,40}$/, 'is the id of a key') }),
    answers: { 200: { description: 'The key.', schema: keyAnswer, example: { ...example, revokedAt: stamp } } },
    problems: ['not_found', 'idempotency_mismatch'],
    async handle({ manager, request, params, idempotency }) {
      const { key, seq } = await manager.access.revokeKey(request, params.key.replace(/^key_/, ''), idempotency);
      return { seq, body: printPlain(keyMembers(key)) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/spaces',
    operationId: 'createSpace',
    tag,
    summary: 'Make a space and its first admin key',
    scope: 'owner',
    isPersonal: true,
    body: { kind: 'json', types: ['application/json'], schema: spaceBody, example: { name: 'payments' } },
    answers: {
      201: {
        description: 'The space and the token of its first key.',
        schema: () => z.strictObject({ name: spaceName(), key: keyAnswer() }),
        example: { name: 'payments', key: { ...made, scopes: ['admin'], token: 'lam_payments_5c1a90b2d3e4_…' } },
      },
    },
    problems: ['already_exists', 'idempotency_mismatch'],
    async handle({ manager, request, body, token, idempotency }) {
      const { key, token: secret } = await manager.access.createSpace(request, body.name, token, idempotency);
      return { status: 201, body: printPlain({ name: body.name, key: { ...keyMembers(key), token: secret } }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/spaces',
    operationId: 'listSpaces',
    tag,
    summary: 'List the spaces',
    scope: 'owner',
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(space()),
        example: { items: [{ name: 'default', createdAt: stamp, clock: 42 }], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, query }) {
      const [after] = readCursor('spaces', query.cursor, ['id']) ?? [];
      const page = { after, limit: query.limit + 1 };
      const spaces = await manager.access.listSpaces(page);
      const members = (one: (typeof spaces)[number]) => ({
        name: one.id,
        createdAt: toTime(one.createdMs),
        clock: one.clock,
      });
      return pageAnswer({ items: spaces }, query.limit, members, ({ id }) => writeCursor('spaces', [id]));
    },
  }),

  route({
    method: 'delete',
    path: '/v1/spaces/{name}',
    operationId: 'deleteSpace',
    tag,
    summary: 'Delete a space with everything in it',
    description: 'For good; `erase=true` says that this is meant.',
    scope: 'owner',
    params: () => z.object({ name: spaceName() }),
    query: () => z.strictObject({ erase: flag().default(false) }),
    answers: {
      200: {
        description: 'It is gone.',
        schema: () => z.strictObject({ name: spaceName(), erased: z.literal(true) }),
        example: { name: 'payments', erased: true },
      },
    },
    problems: ['not_found', 'unprocessable', 'idempotency_mismatch'],
    async handle({ manager, request, params, query, idempotency }) {
      if (!query.erase) throw new Problem('unprocessable', 'Deleting a space is for good: say erase=true.');
      await manager.access.deleteSpace(request, params.name, idempotency);
      return { body: printPlain({ name: params.name, erased: true }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/audit',
    operationId: 'readAudit',
    tag: 'Operations',
    summary: 'Read the audit, newest first',
    scope: 'admin',
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () =>
          pageOf(
            z.strictObject({
              id: z.string(),
              at: z.iso.datetime(),
              actor: z.strictObject({ kind: z.string(), id: z.string() }),
              action: z.string(),
              target: z.string().nullable(),
            }),
          ),
        example: {
          items: [
            { id: '01k', at: stamp, actor: { kind: 'api', id: 'owner' }, action: 'key.create', target: example.id },
          ],
          nextCursor: null,
        },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const [before] = readCursor('audit', query.cursor, ['id']) ?? [];
      const page = { before, limit: query.limit + 1 };
      const { items, seq } = await manager.access.audit(request, page);
      const members = ({ atMs, ...entry }: (typeof items)[number]) => ({ ...entry, at: toTime(atMs) });
      return pageAnswer({ items, seq }, query.limit, members, ({ id }) => writeCursor('audit', [id]));
    },
  }),
];

function keyMembers(key: ApiKey): Record<string, unknown> {
  const { createdMs, expiresMs, revokedMs, ...rest } = key;
  return { ...rest, createdAt: toTime(createdMs), expiresAt: toTime(expiresMs), revokedAt: toTime(revokedMs) };
}
