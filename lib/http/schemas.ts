import * as z from 'zod';
import { scopes } from '../access/scopes.ts';
import type { RawJson } from '../base/json-parse.ts';
import { preferences, strategies } from '../merge/merge.ts';
import { later } from './later.ts';

/** Any JSON value, kept as the text it was sent as. */
export const rawJson = later(() =>
  z
    .custom<RawJson>((value) => typeof value === 'object' && value !== null && 'raw' in value, 'is a JSON value')
    .meta({ description: 'Any JSON value, kept byte for byte; for `text/*` a string.', rawJson: true }),
);

export const contextId = later(() =>
  z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$/,
      'is 1 to 200 of A–Z a–z 0–9 . _ : ~ -, beginning with a letter or digit',
    )
    .meta({ description: 'Names a context within its space.', examples: ['checkout:notes'] }),
);
export const kind = later(() =>
  z
    .string()
    .regex(/^[a-z0-9.-]{1,64}$/, 'is 1 to 64 of a–z 0–9 . -')
    .meta({ description: 'What sort of document it is; `note` unless said otherwise.', examples: ['note'] }),
);
export const contentType = later(() =>
  z
    .string()
    .regex(
      /^(application\/json|text\/[a-z0-9!#$&^_.+-]{1,100})(\s*;\s*charset="?utf-?8"?)?$/i,
      'is application/json or text/*, in UTF-8',
    )
    .transform((type) => (type.split(';')[0] ?? '').trim().toLowerCase())
    .meta({ description: '`application/json` or `text/*`.', examples: ['text/markdown'] }),
);
const metadata = later(() =>
  rawJson().meta({
    description: 'A JSON object of at most 64 KiB; null clears it.',
    examples: [{ team: 'payments' }],
  }),
);
export const versionNumber = later(() => z.int('is a whole number').min(1).max(999_999_999));
// JavaScript and PostgreSQL read times differently at the edges (offsets, fractions, years), so one reading is passed on.
export const time = later(() =>
  z.iso
    .datetime({ offset: true, error: 'is a time in ISO 8601, such as 2026-01-31T12:00:00Z' })
    .max(40, 'is a time to the millisecond')
    .refine((text) => {
      const ms = Date.parse(text);
      return ms >= Date.parse('0001-01-01T00:00:00Z') && ms <= Date.parse('9999-12-31T23:59:59.999Z');
    }, 'lies in the years 1 to 9999')
    .transform((text) => new Date(text).toISOString()),
);
const ttlSeconds = later(() =>
  z
    .number()
    .positive()
    .max(315_360_000)
    .nullable()
    .meta({ description: 'Seconds from the write until it expires; not together with `expiresAt`; null is never.' }),
);

export const message = later(() =>
  z
    .string()
    .min(1)
    .max(1000)
    .refine((text) => !text.includes('\u0000') && text.isWellFormed(), 'holds what is no character')
    .meta({ description: 'Why this version was made, for whoever reads the history.', examples: ['after the review'] }),
);

const isOneExpiry = (body: { ttlSeconds?: unknown; expiresAt?: unknown }) =>
  body.ttlSeconds === undefined || body.expiresAt === undefined;
const expiryMessage = { error: 'ttlSeconds and expiresAt exclude each other', path: ['ttlSeconds'] };
const isTyped = (body: { content?: unknown; contentType?: unknown }) =>
  body.content !== undefined || body.contentType === undefined;
const typeMessage = { error: 'goes with a content', path: ['contentType'] };

const putFields = later(() => ({
  parentId: contextId().nullable().optional(),
  kind: kind().optional(),
  contentType: contentType().optional(),
  content: rawJson().optional(),
  metadata: metadata().optional(),
  ttlSeconds: ttlSeconds().optional(),
  expiresAt: time().nullable().optional(),
  message: message().optional(),
}));
export type PutFields = z.output<z.ZodObject<ReturnType<typeof putFields>>>;

export const uploadId = later(() =>
  z
    .string()
    .regex(/^[0-9a-z]{1,64}$/, 'is the id of an upload')
    .meta({ description: 'Names an upload.', examples: ['01k9x7q2m4v8c3t6r1w5y0z9ab'] }),
);

export const putBody = later(() =>
  z
    .strictObject({
      ...putFields(),
      upload: uploadId().optional().meta({
        description: 'The content, sent before in parts: its id in the place of `content` and `contentType`.',
      }),
    })
    .refine(isOneExpiry, expiryMessage)
    .refine(isTyped, typeMessage)
    .refine(({ content, upload }) => content === undefined || upload === undefined, {
      error: 'takes the place of a content',
      path: ['upload'],
    })
    .meta({ id: 'ContextPut', description: 'What is named is replaced; what is absent keeps what the head has.' }),
);

export const createBody = later(() =>
  z
    .strictObject({ id: contextId().optional(), ...putFields(), content: rawJson() })
    .refine(isOneExpiry, expiryMessage)
    .meta({ id: 'ContextCreate', description: 'A new context; without `id` a sortable one is made.' }),
);

const operation = later(() =>
  z.discriminatedUnion('op', [
    z
      .strictObject({
        op: z.literal('put'),
        id: contextId(),
        ifVersion: versionNumber().or(z.literal(0)).optional(),
        ...putFields(),
      })
      .refine(isOneExpiry, expiryMessage)
      .refine(isTyped, typeMessage),
    z.strictObject({
      op: z.literal('delete'),
      id: contextId(),
      ifVersion: versionNumber().optional(),
      children: z.enum(['fail', 'delete', 'orphan']).default('fail'),
    }),
  ]),
);

export const batchWriteBody = later(() =>
  z
    .strictObject({
      operations: z
        .array(operation())
        .min(1)
        .max(100)
        .refine((list) => new Set(list.map(({ id }) => id)).size === list.length, 'name each id once'),
      atomic: z
        .boolean()
        .default(false)
        .meta({ description: 'All or none; otherwise each operation stands for itself.' }),
    })
    .meta({ id: 'BatchWrite' }),
);

export const batchGetBody = later(() =>
  z.strictObject({ ids: z.array(contextId()).min(1).max(100) }).meta({ id: 'BatchGet' }),
);

const source = later(() =>
  z.union([
    z.strictObject({ id: contextId(), version: versionNumber().optional() }),
    z.strictObject({ content: rawJson(), contentType: contentType().optional() }),
  ]),
);

export const mergeBody = later(() =>
  z
    .strictObject({
      sources: z.array(source()).min(2).max(16),
      base: source().optional().meta({ description: 'What both sides grew from; `three-way` needs it.' }),
      strategy: z.enum(strategies),
      prefer: z.enum(preferences).default('fail').meta({ description: 'Settles three-way conflicts.' }),
      target: z.strictObject({ id: contextId(), ifVersion: versionNumber().or(z.literal(0)).optional() }).optional(),
    })
    .meta({ id: 'MergeRequest' }),
);

export const idParams = later(() => z.object({ id: contextId() }));
export const versionParams = later(() =>
  z.object({
    id: contextId(),
    version: z
      .string()
      .regex(/^[1-9]\d{0,8}$/, 'is a version number')
      .transform(Number),
  }),
);

const wholeNumber = (name: string) =>
  z
    .string()
    .regex(/^\d{1,9}$/, `${name} is a whole number`)
    .transform(Number);
export const versionQuery = later(() => wholeNumber('a version').pipe(versionNumber()));
export const pageQuery = later(() => ({
  limit: wholeNumber('limit')
    .pipe(z.int().min(1).max(200))
    .default(50)
    .meta({ description: 'Items on a page, 1–200.' }),
  cursor: z.string().max(2000).optional().meta({ description: '`nextCursor` of the page before.' }),
}));
export const timeQuery = later(() => time().transform((text) => Date.parse(text)));
export const conflictQuery = later(() => z.enum(['fail', ...strategies]));
export const childrenQuery = later(() => z.enum(['fail', 'delete', 'orphan']).default('fail'));
export const flag = later(() => z.enum(['true', 'false']).transform((text) => text === 'true'));

export const keyBody = later(() =>
  z
    .strictObject({
      name: z.string().min(1).max(200).refine(isPrintable, 'has no control characters'),
      scopes: z.array(z.enum(scopes)).min(1).max(4),
      expiresAt: time().nullable().default(null),
    })
    .meta({ id: 'KeyCreate' }),
);

export const spaceName = later(() =>
  z
    .string()
    .regex(
      /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/,
      'is 1 to 40 of a–z 0–9 -, beginning and ending with a letter or digit',
    ),
);
export const spaceBody = later(() => z.strictObject({ name: spaceName() }).meta({ id: 'SpaceCreate' }));

export const restoreBody = later(() => z.strictObject({ version: versionNumber() }).meta({ id: 'Restore' }));
export const pinBody = later(() => z.strictObject({ pinned: z.boolean() }).meta({ id: 'Pin' }));
export const maintenanceBody = later(() =>
  z.strictObject({ task: z.enum(['warm', 'cleanup', 'reconcile', 'index', 'reindex']) }).meta({ id: 'MaintenanceRun' }),
);

function isPrintable(text: string): boolean {
  return !/\p{Cc}/u.test(text);
}

// What answers look like: documentation, and what the tests hold every answer against.

const actor = later(() =>
  z.strictObject({ kind: z.enum(['api', 'mcp', 'factory', 'sync', 'system']), id: z.string() }),
);
const hash = later(() =>
  z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable()
    .meta({ description: 'SHA-256 of the content bytes.' }),
);
const stamp = later(() => z.iso.datetime());

const contextFields = later(() => ({
  id: contextId(),
  parentId: contextId().nullable(),
  kind: kind(),
  contentType: z.string().nullable(),
  content: z.json().optional().meta({
    description: 'Absent where it was not asked for; null with a `contentUrl` where it is too large for this answer.',
  }),
  contentUrl: z.string().optional(),
  metadata: z.record(z.string(), z.json()),
  version: versionNumber(),
  hash: hash(),
  sizeBytes: z.int().min(0),
  createdAt: stamp(),
  updatedAt: stamp(),
  expiresAt: stamp().nullable(),
  actor: actor(),
  deleted: z.literal(true).optional().meta({ description: 'Set on a tombstone.' }),
  unchanged: z
    .literal(true)
    .optional()
    .meta({ description: 'Set where the write equalled the head and made no version.' }),
}));

const partNumber = later(() => z.int().min(1));

export const uploadBody = later(() =>
  z
    .strictObject({
      sizeBytes: z
        .int()
        .min(1)
        .meta({ description: 'Bytes of the whole content.', examples: [10_485_760] }),
      hash: z
        .string()
        .regex(/^sha256:[0-9a-f]{64}$/, 'is sha256: and 64 hexadecimal digits in lower case')
        .optional()
        .meta({ description: 'SHA-256 that the whole content must have.' }),
      contentType: contentType(),
    })
    .meta({ id: 'UploadCreate' }),
);

export const uploadPartAnswer = later(() =>
  z.strictObject({
    part: partNumber(),
    sizeBytes: z.int().min(1),
    hash: z.string().meta({ description: 'SHA-256 of the part.' }),
  }),
);

export const uploadAnswer = later(() =>
  z
    .strictObject({
      uploadId: uploadId(),
      partBytes: z.int().meta({ description: 'How long each part is; the last has the rest.' }),
      parts: partNumber().meta({ description: 'How many parts there are; the first is number 1.' }),
      sizeBytes: z.int().min(1),
      contentType: z.string(),
      hash: hash().meta({
        description: 'SHA-256 as it was announced, null where it was not; once used, what was found.',
      }),
      received: z.array(uploadPartAnswer()).meta({ description: 'The parts that are there.' }),
      missing: z.array(partNumber()).meta({ description: 'The numbers of those that are not.' }),
      createdAt: stamp(),
      expiresAt: stamp(),
      usedBy: z
        .strictObject({ id: contextId(), version: versionNumber() })
        .nullable()
        .meta({ description: 'The version whose content it has become.' }),
    })
    .meta({ id: 'Upload' }),
);

export const conflict = later(() =>
  z
    .strictObject({
      path: z.string().meta({
        description: 'JSON Pointer, or for text the lines of the base: `L3-L5`; `L4` is an insertion before line 4.',
      }),
      base: z.json().optional(),
      ours: z.json().optional(),
      theirs: z.json().optional(),
      chosen: z.enum(['ours', 'theirs']).optional(),
    })
    .meta({ id: 'Conflict' }),
);

export const contextAnswer = later(() =>
  z
    .strictObject({
      ...contextFields(),
      merge: z
        .strictObject({
          strategy: z.enum(strategies),
          base: versionNumber(),
          head: versionNumber(),
          conflicts: z.array(conflict()),
        })
        .optional(),
      resolvedFrom: z.array(z.strictObject({ id: contextId(), version: versionNumber() })).optional(),
    })
    .meta({ id: 'Context' }),
);

export const problemAnswer = later(() =>
  z
    .looseObject({
      type: z.string(),
      title: z.string(),
      status: z.int(),
      detail: z.string(),
      code: z.string(),
      requestId: z.string().optional(),
      errors: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
    })
    .meta({ id: 'Problem', description: 'RFC 9457; `code` is stable, `detail` is one sentence for a person.' }),
);

export const pageOf = (item: z.ZodType) => z.strictObject({ items: z.array(item), nextCursor: z.string().nullable() });

export const versionAnswer = later(() =>
  z
    .strictObject({
      version: versionNumber(),
      hash: hash(),
      sizeBytes: z.int(),
      contentType: z.string().nullable(),
      actor: actor(),
      operation: z.string(),
      createdAt: stamp(),
      pinned: z.boolean(),
      mergedFrom: z.json().optional(),
      message: z.string().optional(),
    })
    .meta({ id: 'Version' }),
);

export const changeAnswer = later(() =>
  z
    .strictObject({
      cursor: z.string(),
      id: contextId(),
      version: versionNumber(),
      operation: z.enum(['put', 'delete', 'expire', 'restore', 'merge', 'erase']),
      hash: hash(),
      actor: actor().nullable(),
      at: stamp(),
    })
    .meta({ id: 'Change' }),
);

export const treeAnswer: () => z.ZodType = later(() =>
  z
    .lazy(() =>
      z.strictObject({ ...contextFields(), children: z.array(treeAnswer()), truncated: z.boolean().optional() }),
    )
    .meta({ id: 'Tree' }),
);

export const keyAnswer = later(() =>
  z
    .strictObject({
      id: z.string(),
      name: z.string(),
      scopes: z.array(z.enum(scopes)),
      createdAt: stamp(),
      expiresAt: stamp().nullable(),
      revokedAt: stamp().nullable(),
      token: z.string().optional().meta({ description: 'Told once, when the key is made.' }),
    })
    .meta({ id: 'Key' }),
);
