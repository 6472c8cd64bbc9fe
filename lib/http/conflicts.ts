import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import type { RequestContext } from '../contexts/request.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import type { StoredConflict } from '../sync/conflicts.sql.ts';
import type { Conflict, Conflicts, Side } from '../sync/conflicts.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { contextMembers, toHash, toTime } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { pageAnswer } from './pages.ts';
import { toContent } from './put.ts';
import { type Route, route } from './route.ts';
import { conflict as collision, contentType, contextAnswer, contextId, pageOf, pageQuery, rawJson } from './schemas.ts';

const tag = 'Synchronisation';
const stamp = '2026-01-31T12:00:00.000Z';
const id = later(() => z.string().regex(/^[0-9a-z]{26}$/, 'is the id of a conflict'));
const params = later(() => z.object({ conflict: id() }));
const fields = later(() => ({
  id: id(),
  peer: z.string(),
  contextId: contextId(),
  oursVersion: z.int().min(0).meta({ description: 'The version that ours was; 0 where there was none.' }),
  paths: z
    .array(collision())
    .meta({ description: 'Where they collide; an empty path is the whole of it. Long values are left out.' }),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
  settledAt: z.iso.datetime().nullable(),
  settlement: z
    .strictObject({ choose: z.string().nullable(), actor: z.json().optional() })
    .nullable()
    .meta({ description: 'What was chosen and by whom; null where the sides became equal by themselves.' }),
}));
const listed = later(() => z.strictObject(fields()).meta({ id: 'SyncConflict' }));
const side = later(() =>
  z
    .strictObject({
      kind: z.string(),
      contentType: z.string(),
      content: z.json().optional().meta({ description: 'Absent where it is too large for this answer.' }),
      metadata: z.record(z.string(), z.json()),
      parentId: contextId().nullable(),
      expiresAt: z.iso.datetime().nullable(),
      hash: z.string().nullable(),
      sizeBytes: z.int(),
    })
    .nullable(),
);
const whole = later(() => z.strictObject({ ...fields(), base: side(), ours: side(), theirs: side() }));
const example = {
  id: '01kg0example0a0conflict000',
  peer: 'laptop',
  contextId: 'entity:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b',
  oursVersion: 3,
  paths: [{ path: '/entityType', base: 'service', ours: 'team', theirs: 'product' }],
  createdAt: stamp,
  updatedAt: stamp,
  settledAt: null,
  settlement: null,
};
const valueExample = {
  kind: 'memory.entity',
  contentType: 'application/json',
  content: { name: 'checkout', entityType: 'team', observations: [] },
  metadata: {},
  parentId: null,
  expiresAt: null,
  hash: `sha256:${'0'.repeat(64)}`,
  sizeBytes: 57,
};
const resolveBody = later(() =>
  z
    .union([
      z.strictObject({ choose: z.enum(['ours', 'theirs', 'both']) }),
      z.strictObject({ content: rawJson(), contentType: contentType().optional() }),
    ])
    .meta({ id: 'ConflictResolve', description: 'One side, both united, or a content.' }),
);

export const conflictRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/conflicts',
    operationId: 'listConflicts',
    tag,
    summary: 'What synchronisation could not join',
    description: 'Oldest first. Both sides are kept as they are until somebody settles it.',
    scope: 'sync',
    query: () =>
      z.strictObject({
        ...pageQuery(),
        peer: z.string().max(40).optional(),
        status: z.enum(['open', 'settled']).default('open'),
      }),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(listed()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, request, query: { limit, cursor, ...query } }) {
      const binding = ['conflicts', query];
      const [after] = readCursor(binding, cursor, ['id']) ?? [];
      const page = { peer: query.peer, isOpen: query.status === 'open', after, limit: limit + 1 };
      const found = await manager.sync.conflicts.list(request, page);
      return pageAnswer(found, limit, listedMembers, (one) => writeCursor(binding, [one.id]));
    },
  }),

  route({
    method: 'get',
    path: '/v1/conflicts/{conflict}',
    operationId: 'readConflict',
    tag,
    summary: 'A conflict with its sides',
    description: '`base` is what both last agreed on; a side that is null has deleted it, or never had it.',
    scope: 'sync',
    params,
    answers: {
      200: {
        description: 'The conflict.',
        schema: whole,
        example: { ...example, base: valueExample, ours: valueExample, theirs: valueExample },
      },
    },
    problems: ['not_found'],
    async handle({ manager, request, params: { conflict: of } }) {
      const { conflict, seq } = await manager.sync.conflicts.get(request, of);
      return { seq, body: printPlain(conflictMembers(conflict)) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/conflicts/{conflict}/resolve',
    operationId: 'resolveConflict',
    tag,
    summary: 'Settle a conflict',
    description:
      'The context becomes what is chosen, as a new version; the next run of the peer brings it there. What a side has changed since is joined with it then.',
    scope: 'sync',
    params,
    body: { kind: 'json', types: ['application/json'], schema: resolveBody, example: { choose: 'both' } },
    answers: {
      200: {
        description: 'The context; null where what was chosen is that there be none.',
        schema: () => z.strictObject({ context: contextAnswer().nullable() }),
      },
    },
    problems: [
      'not_found',
      'version_conflict',
      'has_children',
      'context_too_large',
      'unprocessable',
      'gone',
      'context_not_found',
      'idempotency_mismatch',
    ],
    async handle({ manager, request, params: { conflict: of }, body, idempotency }) {
      const { limits } = manager.settings;
      const settlement =
        'choose' in body
          ? body
          : { content: toContent(body.content, body.contentType ?? jsonType, limits, '/content') };
      let done: Awaited<ReturnType<Conflicts['resolve']>> | undefined;
      // Under the key stands which version it was, and no content that an erase would not find.
      const recorded = await manager.once(request, idempotency, async () => {
        done = await manager.sync.conflicts.resolve(request, of, settlement);
        const { context } = done;
        return JSON.stringify(context && { id: context.id, version: context.version });
      });
      const { context, seq } = done ?? (await readRecorded(manager, request, recorded));
      return { seq, body: printPlain({ context: context && contextMembers(context, true) }) };
    },
  }),
];

/** The context that a conflict was settled as, by what stands under the key of the request. */
async function readRecorded({ contexts }: UnifiedContextManager, request: RequestContext, recorded: string) {
  const was = JSON.parse(recorded) as { id: string; version: number } | null;
  if (was === null) return { context: null, seq: request.seq };
  const { value, seq } = await contexts.read(request, was.id, { version: was.version });
  return { context: value, seq };
}

/** A conflict as lists tell it. */
export function listedMembers({
  id: of,
  peer,
  contextId: context,
  oursVersion,
  paths,
  createdMs,
  updatedMs,
  settledMs,
  settlement,
}: Omit<StoredConflict, 'base' | 'ours' | 'theirs'>) {
  return {
    id: of,
    peer,
    contextId: context,
    oursVersion,
    paths: paths.map(({ path, ...sides }) => ({
      path,
      ...Object.fromEntries(Object.entries(sides).map(([name, jsonText]) => [name, { jsonText }])),
    })),
    createdAt: toTime(createdMs),
    updatedAt: toTime(updatedMs),
    settledAt: toTime(settledMs),
    settlement,
  };
}

/** A conflict with its sides. */
export function conflictMembers({ base, ours, theirs, ...rest }: Conflict) {
  return { ...listedMembers(rest), base: sideMembers(base), ours: sideMembers(ours), theirs: sideMembers(theirs) };
}

function sideMembers(of: Side | null) {
  if (of === null) return null;
  const { kind, contentType: type, content, metadata, parentId, expiresMs, hash, sizeBytes } = of;
  const text = content && Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString();
  const shown = text === undefined ? undefined : isTextType(type) ? text : { jsonText: text };
  const place = { parentId, expiresAt: toTime(expiresMs) };
  return {
    kind,
    contentType: type,
    content: shown,
    metadata: { jsonText: metadata },
    ...place,
    hash: toHash(hash),
    sizeBytes,
  };
}
