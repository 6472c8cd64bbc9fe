import * as z from 'zod';
import { reaches } from '../access/scopes.ts';
import { printPlain } from '../base/json.ts';
import { invalid, Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import type { ContextFilter } from '../contexts/filter.ts';
import type { Precondition } from '../contexts/operation.ts';
import { contextTooLarge } from '../contexts/outcomes.ts';
import { type Written, writeOne } from '../contexts/written.ts';
import { conflictMembers, listedMembers } from '../http/conflicts.ts';
import { contextMembers, versionMembers } from '../http/context-json.ts';
import { readCursor, writeCursor } from '../http/cursor.ts';
import { toContent, toPut } from '../http/put.ts';
import { contentType, contextId, kind, message, time, versionNumber } from '../http/schemas.ts';
import { hitMembers } from '../http/search.ts';
import { filterFields, queryText, readMetadata, searchMode, toFilter } from '../http/search-query.ts';
import { type PrintedConflict, printConflicts } from '../merge/conflict.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import { preferences, strategies } from '../merge/merge.ts';
import type { MergeSource } from '../versions/revisions.ts';
import { contextUri, readPart, toLink, toRawJson } from './content.ts';
import { type Session, type Tool, type ToolAnswer, tool } from './tool.ts';
import { tellConflicts } from './tool-error.ts';

const anyJson = z.unknown();
const version = z.int();
const conflicts = z
  .array(z.looseObject({ path: z.string() }))
  .describe('Changes that collided, with JSON Pointer or lines');

const contextShape = {
  id: z.string(),
  parentId: z.string().nullable(),
  kind: z.string(),
  contentType: z.string().nullable(),
  metadata: z.record(z.string(), anyJson),
  version,
  hash: z.string().nullable(),
  sizeBytes: z.int(),
  createdAt: z.string(),
  updatedAt: z.string(),
  expiresAt: z.string().nullable(),
  actor: z.object({ kind: z.string(), id: z.string() }),
  deleted: z.boolean().optional(),
};
const content = anyJson
  .optional()
  .describe('Any JSON, or a string for text/*; absent where it is too large or was not asked for');
const outcome = {
  created: z.boolean().optional(),
  unchanged: z.boolean().optional().describe('Nothing was written: it was like that already'),
};

const expectedVersion = z
  .int()
  .min(0)
  .max(999_999_999)
  .optional()
  .describe(
    'The version your change is based on, from context_get; refused with the current one where it has moved on. 0: it must not exist yet.',
  );
const page = {
  limit: z.int().min(1).max(200).default(50).describe('At most so many'),
  cursor: z.string().max(2000).optional().describe('nextCursor of the page before'),
};
const nextCursor = z.string().nullable().describe('Null at the end');

/** Where a page ends at the latest, beside `limits.toolBytes` for contents; in bytes. */
const pageBytesMax = 1_048_576;

const structure = (members: Record<string, unknown>): ToolAnswer => {
  const text = printPlain(members);
  return { text, structured: JSON.parse(text) as Record<string, unknown> };
};

/** A context with its content as far as that may be told; otherwise a link to it. */
function tell({ manager }: Session, context: Context, extra: Record<string, unknown> = {}): ToolAnswer {
  const isTold = context.content !== undefined && context.content.length <= manager.settings.limits.toolBytes;
  const members = { ...contextMembers(context, isTold), ...extra };
  if (isTold || context.hash === null) return structure(members);
  const note = `The content has ${context.sizeBytes} bytes, too many to be told here: read parts of it with start and length, or the linked resource.`;
  return { ...structure({ ...members, note }), links: [toLink(context)] };
}

function tellWritten({ context, outcome: how }: Written, extra: Record<string, unknown> = {}): ToolAnswer {
  const flags = {
    ...(how === 'created' ? { created: true } : {}),
    ...(how === 'unchanged' ? { unchanged: true } : {}),
  };
  return structure({ ...contextMembers(context, false), ...flags, ...extra });
}

/** Shows the open conflicts of synchronisation, or one of them, or settles it. */
async function settleConflict(
  { manager, request, scopes }: Session,
  id: string,
  choose: 'ours' | 'theirs' | 'both' | undefined,
) {
  const { conflicts: all } = manager.sync;
  if (!reaches(scopes, 'sync')) throw new Problem('forbidden', 'Conflicts need the scope sync.', { needed: 'sync' });
  if (id === 'open') {
    const { items } = await all.list(request, { isOpen: true, limit: openMax });
    return structure({ open: items.map(listedMembers) });
  }
  if (choose === undefined) {
    const { conflict } = await all.get(request, id);
    const sizeBytes = [conflict.base, conflict.ours, conflict.theirs].reduce(
      (sum, side) => sum + (side?.sizeBytes ?? 0),
      0,
    );
    const limitBytes = manager.settings.limits.toolBytes;
    const told = sizeBytes <= limitBytes ? conflictMembers(conflict) : listedMembers(conflict);
    const note = `Its sides have ${sizeBytes} bytes, too many to be told here; paths say where they differ.`;
    return structure({ conflict: told, ...(sizeBytes <= limitBytes ? {} : { note }) });
  }
  const { context } = await all.resolve(request, id, { choose });
  return structure({ written: context && contextMembers(context, false) });
}

// Conflicts that one answer lists.
const openMax = 50;

/** A context as a list tells it; a content that is too large by its URI. */
function listMembers(context: Context, isWithContent: boolean): Record<string, unknown> {
  const isLinked = isWithContent && context.content === undefined && context.hash !== null;
  const members = contextMembers(context, isWithContent && !isLinked);
  return isLinked ? { ...members, contentUrl: contextUri(context.id, context.version) } : members;
}

const toPrecondition = (expected: number | undefined): Precondition =>
  expected === undefined ? {} : { ifVersion: expected };

/** Items as many as fit, and where the next page begins. */
function tellPage(
  items: readonly { readonly members: Record<string, unknown>; readonly place: readonly (string | number)[] }[],
  of: { readonly asked: unknown; readonly hasMore: boolean },
): ToolAnswer {
  const texts: string[] = [];
  let bytes = 0;
  for (const { members } of items) {
    const text = printPlain(members);
    bytes += Buffer.byteLength(text);
    if (texts.length > 0 && bytes > pageBytesMax) break;
    texts.push(text);
  }
  const last = items[texts.length - 1];
  const isAtEnd = last === undefined || (texts.length === items.length && !of.hasMore);
  return structure({
    items: { jsonText: `[${texts.join(',')}]` },
    nextCursor: isAtEnd ? null : writeCursor(of.asked, last.place),
  });
}

const mergeSource = z
  .strictObject({
    id: contextId().optional(),
    version: versionNumber().optional(),
    content: anyJson.optional(),
    contentType: contentType().optional(),
  })
  .describe('A context by id (the newest version, or the one named), or a content of your own');

function toMergeSource({ manager }: Session, source: z.output<typeof mergeSource>, path: string): MergeSource {
  const { id, content: own } = source;
  if ((id === undefined) === (own === undefined)) throw invalid(path, 'names either an id or a content');
  if (id !== undefined) return { id, version: source.version };
  return toContent(toRawJson(own), source.contentType ?? jsonType, manager.settings.limits, `${path}/content`);
}

export const contextTools: readonly Tool[] = [
  tool({
    name: 'context_get',
    title: 'Get Context',
    description:
      'Read a stored context (note, instructions, session summary …) by its id, now or as it was: by version, or at a time. For a large content read parts with start and length.',
    scope: 'read',
    hints: { isIdempotent: true },
    input: z.strictObject({
      id: contextId(),
      version: versionNumber().optional().describe('An old version instead of the newest'),
      at: time().optional().describe('As it was at this time (ISO 8601)'),
      resolve: z
        .enum(['ancestors'])
        .optional()
        .describe('Fold in the contents of its parents, as an agent should follow them'),
      start: z.int().min(0).optional().describe('First byte of the part to read'),
      length: z.int().min(16).optional().describe('At most so many bytes'),
    }),
    output: z.object({
      ...contextShape,
      content,
      note: z.string().optional(),
      range: z
        .object({ start: z.int(), end: z.int(), sizeBytes: z.int() })
        .optional()
        .describe('The part that content holds as text; the next begins at end'),
      resolvedFrom: z.array(z.object({ id: z.string(), version })).optional(),
    }),
    async handle(session, { id, version: wanted, at, resolve, start, length }) {
      const { manager, request } = session;
      const asked = [wanted, at, resolve].filter((one) => one !== undefined);
      if (asked.length > 1) throw invalid('/version', 'version, at and resolve exclude each other');
      const isPart = start !== undefined || length !== undefined;
      if (resolve !== undefined) {
        if (isPart) throw invalid('/start', 'start and length do not go with resolve');
        const { value } = await manager.contexts.readEffective(request, id);
        const { content: folded = new Uint8Array() } = value.context;
        const { toolBytes } = manager.settings.limits;
        // There is nothing that a link could name: it is made for this answer.
        if (folded.length > toolBytes) throw contextTooLarge(folded.length, toolBytes);
        return tell(session, value.context, { resolvedFrom: value.resolvedFrom });
      }
      const moment =
        wanted !== undefined ? { version: wanted } : at !== undefined ? { atMs: Date.parse(at) } : undefined;
      const { value } = await manager.contexts.read(request, id, moment);
      if (!isPart) return tell(session, value);
      const { toolBytes } = manager.settings.limits;
      const part = await readPart(session, value, {
        start: start ?? 0,
        length: Math.min(length ?? toolBytes, toolBytes),
      });
      const range = { start: part.start, end: part.end, sizeBytes: value.sizeBytes };
      return structure({ ...contextMembers(value, false), content: part.text, range });
    },
  }),

  tool({
    name: 'context_put',
    title: 'Put Context',
    description:
      'Store a context, or the next version of one. What you name is replaced, what you leave out stays; every version is kept. Pass expectedVersion when you change what you have read, so that nobody is overwritten.',
    scope: 'write',
    hints: { isIdempotent: true },
    input: z.strictObject({
      id: contextId().optional().describe('Such as checkout:notes; left out, a new one is made'),
      content: anyJson.optional().describe('Any JSON; with a contentType of text/*, a string'),
      contentType: contentType().optional().describe('application/json (the default), or such as text/markdown'),
      kind: kind().optional().describe('Such as note, instructions, session.summary'),
      parentId: contextId().nullable().optional().describe('The context it belongs under; null takes it out'),
      metadata: z
        .record(z.string(), anyJson)
        .nullable()
        .optional()
        .describe('A JSON object to find it by; null clears it'),
      ttlSeconds: z
        .number()
        .positive()
        .max(315_360_000)
        .nullable()
        .optional()
        .describe('Forget it after so many seconds; null never'),
      expiresAt: time().nullable().optional().describe('Forget it at this time; null never'),
      message: message().optional().describe('Why you made this version, for the history'),
      expectedVersion,
      onConflict: z
        .enum(['fail', ...strategies])
        .default('fail')
        .describe('What to do where expectedVersion is no longer the newest: refuse, or merge what you send with it'),
    }),
    output: z.object({
      ...contextShape,
      ...outcome,
      merge: z
        .object({ strategy: z.string(), base: version, head: version, conflicts })
        .optional()
        .describe('What was merged, where it was'),
    }),
    async handle({ manager, request }, { id, expectedVersion: expected, onConflict, ...fields }) {
      const { content: sent, metadata, ...rest } = fields;
      const body = {
        ...rest,
        ...(sent === undefined ? {} : { content: toRawJson(sent) }),
        ...(metadata === undefined ? {} : { metadata: toRawJson(metadata) }),
      };
      if (body.ttlSeconds !== undefined && body.expiresAt !== undefined) {
        throw invalid('/ttlSeconds', 'ttlSeconds and expiresAt exclude each other');
      }
      if (body.contentType !== undefined && sent === undefined) throw invalid('/contentType', 'goes with a content');
      if (id === undefined) {
        if (expected !== undefined) throw invalid('/expectedVersion', 'goes with an id');
        if (onConflict !== 'fail') throw invalid('/onConflict', 'goes with an id');
        const put = { ...toPut(manager.ids.sortable(), body, manager.settings.limits), ifAbsent: true as const };
        return tellWritten(await writeOne(manager.contexts, request, put));
      }
      const put = toPut(id, body, manager.settings.limits);
      if (onConflict === 'fail') {
        return tellWritten(await writeOne(manager.contexts, request, { ...put, ...toPrecondition(expected) }));
      }
      if (expected === undefined)
        throw invalid('/onConflict', 'needs expectedVersion, the version your change is based on');
      const written = await manager.revisions.putMerging(request, { ...put, ifVersion: expected }, onConflict);
      const { extra } = written as { extra?: { conflicts: readonly PrintedConflict[] } };
      const merge = extra && { ...extra, conflicts: tellConflicts(extra.conflicts) };
      return tellWritten(written, { merge });
    },
  }),

  tool({
    name: 'context_list',
    title: 'List Contexts',
    description: 'List stored contexts, by kind, parent, metadata or time of change. Tells no contents unless asked.',
    scope: 'read',
    hints: { isIdempotent: true },
    input: z.strictObject({
      kind: kind().optional(),
      parentId: contextId().optional().describe('Only those right under this one'),
      subtreeOf: contextId().optional().describe('Only those anywhere below this one'),
      metadata: z
        .record(z.string().regex(/^[^.]+(\.[^.]+){0,15}$/), z.string().max(1000))
        .optional()
        .describe('Path → text it must have there, such as {"team": "payments", "tags": "urgent"}'),
      updatedSince: time().optional().describe('Only those changed since (ISO 8601)'),
      order: z.enum(['id', 'updated']).default('id').describe('By id, or newest first'),
      includeContent: z.boolean().default(false),
      ...page,
    }),
    output: z.object({
      items: z.array(
        z.object({
          ...contextShape,
          content,
          contentUrl: z.string().optional().describe('Where to read a content that is too large'),
        }),
      ),
      nextCursor,
    }),
    async handle({ manager, request }, args) {
      const filter: ContextFilter = {
        kind: args.kind,
        parentId: args.parentId,
        subtreeOf: args.subtreeOf,
        updatedSinceMs: args.updatedSince === undefined ? undefined : Date.parse(args.updatedSince),
        metadata: Object.entries(args.metadata ?? {}).map(([path, value]) => ({ path: path.split('.'), value })),
      };
      const asked = { filter, order: args.order };
      const [id, updatedMs] = readCursor(asked, args.cursor, ['id', 'ms']) ?? [];
      const { value } = await manager.contexts.list(request, {
        filter,
        order: args.order,
        limit: args.limit,
        after: id === undefined || updatedMs === undefined ? undefined : { id, updatedMs },
        contentBytes: args.includeContent ? manager.settings.limits.toolBytes : undefined,
      });
      const items = value.items.map((context) => ({
        members: listMembers(context, args.includeContent),
        place: [context.id, context.updatedMs],
      }));
      return tellPage(items, { asked, hasMore: value.hasMore });
    },
  }),

  tool({
    name: 'context_search',
    title: 'Search Contexts',
    description:
      'Find stored contexts by what they say: ask a question or give a few words. Use it when you do not know the id; read the whole with context_get, or the part around a hit with its start and length.',
    scope: 'read',
    hints: { isIdempotent: true },
    input: z.strictObject({
      query: queryText().describe('A question or a few words; "…" must be there word for word, -word must not'),
      mode: searchMode().default('hybrid').describe('By words and meaning, or by one of them alone'),
      limit: z.int().min(1).max(50).default(10).describe('At most so many'),
      ...filterFields(),
      metadata: z
        .record(z.string(), anyJson)
        .optional()
        .describe('Path → value, or → {"gt", "gte", "lt", "lte"}, such as {"team": "payments", "build": {"gte": 7}}'),
      groupBy: z.enum(['context', 'chunk']).default('context').describe('The best part of each context, or every part'),
    }),
    output: z.object({
      hits: z.array(
        z.object({
          id: z.string(),
          version,
          score: z.number(),
          snippet: z.string(),
          chunk: z.object({ ordinal: z.int(), start: z.int(), end: z.int() }).describe('start and end in bytes'),
          title: z.string().optional(),
          kind: z.string(),
          metadata: z.record(z.string(), anyJson),
        }),
      ),
      pending: z.int().describe('Writes that are not searchable yet'),
      degraded: z.array(z.string()).describe('Ways of searching that are down'),
    }),
    async handle({ manager, request }, { query, mode, limit, groupBy, metadata, ...fields }) {
      const filter = toFilter(fields, metadata === undefined ? undefined : readMetadata(toRawJson(metadata)));
      const found = await manager.search.search(request, { query, mode, limit, filter, groupBy, isIndexed: false });
      const { hits, pending, degraded } = found;
      return structure({ hits: hits.map(hitMembers), pending, degraded });
    },
  }),

  tool({
    name: 'context_history',
    title: 'Context History',
    description: 'List the versions of a context, newest first: when, by whom, and why each was made.',
    scope: 'read',
    hints: { isIdempotent: true },
    input: z.strictObject({ id: contextId(), ...page }),
    output: z.object({
      items: z.array(
        z.looseObject({ version, operation: z.string(), createdAt: z.string(), message: z.string().optional() }),
      ),
      nextCursor,
    }),
    async handle({ manager, request }, { id, limit, cursor }) {
      const asked = { versionsOf: id };
      const [before] = readCursor(asked, cursor, ['count']) ?? [];
      const { items, hasMore } = await manager.history.versions(request, { id, limit, before });
      const told = items.map((entry) => ({ members: versionMembers(entry), place: [entry.version] }));
      return tellPage(told, { asked, hasMore });
    },
  }),

  tool({
    name: 'context_diff',
    title: 'Diff Context',
    description: 'Show what changed from one version of a context to another.',
    scope: 'read',
    hints: { isIdempotent: true },
    input: z.strictObject({ id: contextId(), from: versionNumber(), to: versionNumber() }),
    output: z.object({
      from: version,
      to: version,
      patch: z.unknown().describe('A JSON Patch (RFC 6902) between JSON, a unified diff between texts'),
    }),
    async handle({ manager, request }, { id, from, to }) {
      const { patch } = await manager.history.diff(request, id, { from, to });
      const text = 'json' in patch ? patch.json : patch.text;
      const { toolBytes } = manager.settings.limits;
      const bytes = Buffer.byteLength(text);
      if (bytes > toolBytes) throw contextTooLarge(bytes, toolBytes);
      return structure({ from, to, patch: 'json' in patch ? { jsonText: patch.json } : patch.text });
    },
  }),

  tool({
    name: 'context_restore',
    title: 'Restore Context',
    description: 'Make an old version of a context its newest again; what came between stays in the history.',
    scope: 'write',
    hints: { isIdempotent: true },
    input: z.strictObject({
      id: contextId(),
      version: versionNumber().describe('The version to bring back'),
      expectedVersion,
    }),
    output: z.object({ ...contextShape, ...outcome }),
    async handle({ manager, request }, { id, version: wanted, expectedVersion: expected }) {
      return tellWritten(await manager.history.restore(request, { id, version: wanted, ...toPrecondition(expected) }));
    },
  }),

  tool({
    name: 'context_merge',
    title: 'Merge Contexts',
    description:
      'Merge two or more contexts or contents: latest, union, intersection, or three-way from a common base. Shows the result; with target it is written there. Or see and settle what synchronisation with a peer could not merge: conflict alone shows it, with choose it is settled.',
    scope: 'read',
    hints: { mayWrite: true },
    input: z.strictObject({
      sources: z.array(mergeSource).min(2).max(16).optional().describe('For three-way exactly two: ours, theirs'),
      base: mergeSource.optional().describe('What both grew from; three-way needs it'),
      strategy: z.enum(strategies).optional().describe('Goes with sources'),
      prefer: z.enum(preferences).default('fail').describe('What settles colliding changes of a three-way merge'),
      target: z
        .strictObject({ id: contextId(), expectedVersion })
        .optional()
        .describe('Where to write the result; left out, nothing is written'),
      conflict: z
        .string()
        .max(26)
        .optional()
        .describe('Without sources: the id of a conflict, or open to list those there are'),
      choose: z.enum(['ours', 'theirs', 'both']).optional().describe('Settles the conflict: one side, or both united'),
    }),
    output: z.object({
      strategy: z.string().optional(),
      contentType: z.string().optional(),
      content,
      conflicts: conflicts.optional(),
      open: z
        .array(z.looseObject({ id: z.string() }))
        .optional()
        .describe('Conflicts that wait to be settled'),
      conflict: z.looseObject({ id: z.string() }).optional().describe('With base, ours and theirs; null is a delete'),
      written: z
        .object({ ...contextShape, ...outcome })
        .nullable()
        .optional()
        .describe('Null where it is deleted'),
      note: z.string().optional(),
    }),
    async handle(session, { sources, base, strategy, prefer, target, conflict, choose }) {
      const { manager, request, scopes } = session;
      if (conflict !== undefined && sources === undefined) return settleConflict(session, conflict, choose);
      if (sources === undefined || strategy === undefined || conflict !== undefined || choose !== undefined)
        throw invalid('/sources', 'go with a strategy, or leave both out and name a conflict');
      if (target !== undefined && !reaches(scopes, 'write')) {
        throw new Problem('forbidden', 'Writing the result needs the scope write.', { needed: 'write' });
      }
      const plan = {
        strategy,
        prefer,
        sources: sources.map((source, index) => toMergeSource(session, source, `/sources/${index}`)),
        base: base && toMergeSource(session, base, '/base'),
        target: target && { id: target.id, ifVersion: target.expectedVersion },
      };
      const { merged, written } = await manager.revisions.merge(request, plan);
      const { toolBytes } = manager.settings.limits;
      const { bytes = new Uint8Array(), contentType: type = jsonType } = merged?.document ?? {};
      const isTold = bytes.length <= toolBytes;
      if (!isTold && written === null) throw contextTooLarge(bytes.length, toolBytes);
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
      const members = {
        strategy,
        contentType: type,
        ...(isTold ? { content: isTextType(type) ? text : { jsonText: text } } : {}),
        conflicts: tellConflicts(printConflicts(merged?.conflicts ?? [])),
        ...(written === null ? {} : { written: tellWritten(written).structured }),
      };
      if (isTold || written === null) return structure(members);
      return { ...structure(members), links: [toLink(written.context)] };
    },
  }),

  tool({
    name: 'context_delete',
    title: 'Delete Context',
    description: 'Delete a context. Its history stays, and context_restore brings it back.',
    scope: 'write',
    hints: { isDestructive: true, isIdempotent: true },
    input: z.strictObject({
      id: contextId(),
      expectedVersion,
      children: z
        .enum(['fail', 'delete', 'orphan'])
        .default('fail')
        .describe('What becomes of those under it: refuse, delete them too, or let them stand alone'),
    }),
    output: z.object(contextShape),
    async handle({ manager, request }, { id, expectedVersion: expected, children }) {
      const operation = { op: 'delete' as const, id, children, ...toPrecondition(expected) };
      return tellWritten(await writeOne(manager.contexts, request, operation));
    },
  }),
];
