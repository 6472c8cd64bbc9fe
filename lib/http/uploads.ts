import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { partBytes } from '../contexts/content.ts';
import type { Upload, UploadPart } from '../contexts/uploads.ts';
import { toHash, toTime } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { pageAnswer } from './pages.ts';
import { type Route, route } from './route.ts';
import { pageOf, pageQuery, uploadAnswer, uploadBody, uploadId, uploadPartAnswer } from './schemas.ts';

const tag = 'Uploads';
const params = later(() => z.object({ uploadId: uploadId() }));
const partParams = later(() =>
  params().extend({
    part: z
      .string()
      .regex(/^[1-9]\d{0,5}$/, 'is the number of a part; the first is 1')
      .transform(Number),
  }),
);
const hash = 'sha256:3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7';
const example = {
  uploadId: '01k9x7q2m4v8c3t6r1w5y0z9ab',
  partBytes,
  parts: 3,
  sizeBytes: 10_485_760,
  contentType: 'text/markdown',
  hash: null,
  received: [{ part: 2, sizeBytes: partBytes, hash }],
  missing: [1, 3],
  createdAt: '2026-01-30T09:00:00.000Z',
  expiresAt: '2026-01-31T09:00:00.000Z',
  usedBy: null,
} as const;

export const uploadRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/uploads',
    operationId: 'beginUpload',
    tag,
    summary: 'Begin an upload',
    description:
      'For a content that is too large for one request. Send its parts, in any order and as often as you like; then put the context with `upload` in the place of `content`. Nothing is written before, and an upload that no write has named in time is gone. A space may have so many open (`limits.uploads`, `limits.uploadsBytes`): beyond it one gives way of which no part has come in ten minutes, or else it is 429.',
    scope: 'write',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: uploadBody,
      example: { sizeBytes: example.sizeBytes, contentType: example.contentType },
    },
    answers: {
      201: {
        description: 'What to send.',
        schema: uploadAnswer,
        example: { ...example, received: [], missing: [1, 2, 3] },
      },
    },
    problems: ['context_too_large', 'rate_limited', 'idempotency_mismatch'],
    async handle({ manager, request, body, idempotency }) {
      const content = { ...body, hash: body.hash?.replace('sha256:', '') };
      const { upload, seq } = await manager.uploads.begin(request, content, idempotency);
      return {
        status: 201,
        seq,
        headers: { location: `/v1/uploads/${upload.id}` },
        body: printPlain(uploadMembers(upload)),
      };
    },
  }),

  route({
    method: 'get',
    path: '/v1/uploads',
    operationId: 'listUploads',
    tag,
    summary: 'List the open uploads',
    description:
      'Those of the space that no write has named yet, the oldest first: to go on with one, or to give it up.',
    scope: 'write',
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(uploadAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const [after] = readCursor('uploads', query.cursor, ['id']) ?? [];
      const found = await manager.uploads.list(request, { after, limit: query.limit + 1 });
      return pageAnswer(found, query.limit, uploadMembers, ({ id }) => writeCursor('uploads', [id]));
    },
  }),

  route({
    method: 'get',
    path: '/v1/uploads/{uploadId}',
    operationId: 'readUpload',
    tag,
    summary: 'Which parts are there',
    description: 'To go on where it was interrupted: each part that is there with its SHA-256, and what is missing.',
    scope: 'write',
    params,
    answers: { 200: { description: 'The upload.', schema: uploadAnswer, example } },
    problems: ['not_found'],
    async handle({ manager, request, params: { uploadId: id } }) {
      const { upload, seq } = await manager.uploads.read(request, id);
      return { seq, body: printPlain(uploadMembers(upload)) };
    },
  }),

  route({
    method: 'put',
    path: '/v1/uploads/{uploadId}/parts/{part}',
    operationId: 'putPart',
    tag,
    summary: 'Send a part',
    description:
      'Its raw bytes, whatever the request calls them: `partBytes` of them, the rest in the last. A part that is there already is replaced.',
    scope: 'write',
    params: partParams,
    body: { kind: 'bytes', types: ['application/octet-stream'], isAnyType: true, bytesMax: partBytes },
    answers: {
      200: { description: 'It is there.', schema: uploadPartAnswer, example: example.received[0] },
    },
    problems: ['not_found', 'context_too_large', 'unprocessable', 'idempotency_mismatch'],
    async handle({ manager, request, params: { uploadId: id, part }, body, idempotency }) {
      const sent = { part, bytes: body as Uint8Array };
      const kept = await manager.uploads.putPart(request, id, sent, idempotency);
      return { seq: kept.seq, body: printPlain(partMembers(kept.part)) };
    },
  }),

  route({
    method: 'delete',
    path: '/v1/uploads/{uploadId}',
    operationId: 'dropUpload',
    tag,
    summary: 'Give an upload up',
    description: 'What is not given up is removed when its time is over.',
    scope: 'write',
    params,
    answers: {
      200: {
        description: 'It is gone.',
        schema: () => z.strictObject({ uploadId: uploadId(), removed: z.literal(true) }),
        example: { uploadId: example.uploadId, removed: true },
      },
    },
    problems: ['not_found', 'idempotency_mismatch'],
    async handle({ manager, request, params: { uploadId: id }, idempotency }) {
      const { seq } = await manager.uploads.drop(request, id, idempotency);
      return { seq, body: printPlain({ uploadId: id, removed: true }) };
    },
  }),
];

function uploadMembers(upload: Upload) {
  const { id, parts, received } = upload;
  const there = new Set(received.map(({ part }) => part));
  const missing = Array.from({ length: parts }, (_, at) => at + 1).filter((part) => !there.has(part));
  return {
    uploadId: id,
    partBytes: upload.partBytes,
    parts,
    sizeBytes: upload.sizeBytes,
    contentType: upload.contentType,
    hash: toHash(upload.hash),
    received: received.map(partMembers),
    missing: upload.usedBy === null ? missing : [],
    createdAt: toTime(upload.createdMs),
    expiresAt: toTime(upload.expiresMs),
    usedBy: upload.usedBy,
  };
}

const partMembers = (part: UploadPart) => ({ ...part, hash: toHash(part.hash) });
