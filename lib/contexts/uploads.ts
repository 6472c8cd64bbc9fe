import { createHash } from 'node:crypto';
import type { Ids } from '../base/id.ts';
import { checkJson } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import type { Settings } from '../config/settings.ts';
import { isTextType } from '../merge/document.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { decodeContent, encodeContent, partBytes } from './content.ts';
import type { Contexts } from './contexts.ts';
import { unstorable } from './metadata.ts';
import type { PutOperation } from './operation.ts';
import { contextTooLarge, uploadChanged, uploadUnknown, uploadUsed } from './outcomes.ts';
import type { RequestContext } from './request.ts';
import {
  beginUpload,
  dropUpload,
  listUploads,
  putPart,
  readUpload,
  readUploadPart,
  type UploadJson,
  type UploadOutcome,
} from './uploads.sql.ts';
import { type Idempotency, idempotencyMismatch, replay, type Written } from './written.ts';

/** A content that comes in parts, until a write names it. */
export interface Upload {
  readonly id: string;
  readonly sizeBytes: number;
  readonly contentType: string;
  /** SHA-256 it is to have, 64 hexadecimal digits; null where none was told before it was used. */
  readonly hash: string | null;
  /** How many parts it has, each of `partBytes`, the last shorter. */
  readonly parts: number;
  readonly partBytes: number;
  /** What is there, by number; the first is 1. */
  readonly received: readonly UploadPart[];
  readonly createdMs: number;
  readonly expiresMs: number;
  /** The version that has taken it; its parts are none of it any more. */
  readonly usedBy: { readonly id: string; readonly version: number } | null;
}

export interface UploadPart {
  readonly part: number;
  readonly sizeBytes: number;
  readonly hash: string;
}

/** Contents too large for one request: they come in parts, and a put names them in the place of a content. */
export interface Uploads {
  /**
   * Where there is no room, uploads of which no part has come in ten minutes give way to it.
   *
   * @throws Problem `context_too_large`, or `rate_limited` where the space has too many open already.
   */
  begin(
    request: RequestContext,
    content: { readonly sizeBytes: number; readonly contentType: string; readonly hash?: string | undefined },
    idempotency?: Idempotency,
  ): Promise<{ upload: Upload; seq: number }>;
  /**
   * Keeps a part, in any order; one that is there already is replaced.
   *
   * @throws Problem `not_found` for an upload that is none, expired or used up, `unprocessable` for a part it does not have
   *   or that has another length.
   */
  putPart(
    request: RequestContext,
    id: string,
    part: { readonly part: number; readonly bytes: Uint8Array },
    idempotency?: Idempotency,
  ): Promise<{ part: UploadPart; seq: number }>;
  /** Those that no write has named and whose time is not over, the oldest first. */
  list(
    request: RequestContext,
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<{ items: Upload[]; seq: number }>;
  /** @throws Problem `not_found`. */
  read(request: RequestContext, id: string): Promise<{ upload: Upload; seq: number }>;
  /**
   * Gives an open upload up.
   *
   * @throws Problem `not_found`.
   */
  drop(request: RequestContext, id: string, idempotency?: Idempotency): Promise<{ seq: number }>;
  /**
   * Looks at the whole of an upload, part by part, and runs `write` with what a put needs to take it; the bytes themselves
   * stay in the database. Under a key that was used the first answer is given again.
   *
   * @throws Problem `not_found`, `unprocessable` for a missing part, another hash or what no content may hold, and whatever
   *   `write` throws.
   */
  using(
    request: RequestContext,
    id: string,
    idempotency: Idempotency | undefined,
    write: (upload: NonNullable<PutOperation['upload']>) => Promise<Written>,
  ): Promise<Written>;
  /**
   * The bytes of an upload that {@link using} has looked at, for whoever must join them with others.
   *
   * @throws Problem `unprocessable` where it is not any more what it was.
   */
  readBytes(request: RequestContext, upload: NonNullable<PutOperation['upload']>): Promise<Uint8Array>;
}

export function createUploads(deps: { database: Database; contexts: Contexts; ids: Ids; settings: Settings }): Uploads {
  const { database, contexts, ids, settings } = deps;
  const { contextBytes, uploads, uploadsBytes, uploadHours } = settings.limits;

  /** Hashes and checks the parts one by one; null where one is not any more what it was. */
  async function look(request: RequestContext, upload: UploadJson): Promise<string | null> {
    requireWhole(upload);
    const whole = createHash('sha256');
    const check = createCheck(upload.contentType);
    for (const listed of upload.parts) {
      const found = await readUploadPart(database, request, upload.id, listed);
      if (found === null) return null;
      const bytes = decodeContent(found);
      whole.update(bytes);
      check.take(bytes);
    }
    const hash = whole.digest('hex');
    if (upload.hash !== null && upload.hash !== hash) throw wrongHash(upload.id, upload.hash, hash);
    check.end();
    return hash;
  }

  return {
    async begin(request, { sizeBytes, contentType, hash }, idempotency) {
      if (sizeBytes > contextBytes) throw contextTooLarge(sizeBytes, contextBytes);
      const of = { id: ids.sortable(), sizeBytes, contentType, hash };
      const limits = { hours: uploadHours, uploads, bytes: uploadsBytes };
      const answer = await retryLost(() => beginUpload(database, request, of, limits, idempotency));
      const done = answer.recorded === undefined ? answer : answer.recorded;
      if (done === null) throw idempotencyMismatch();
      if (done.refused) {
        throw new Problem(
          'rate_limited',
          `The space has ${done.refused.uploads} uploads of ${done.refused.bytes} bytes open; it may have ${uploads} of ${uploadsBytes}. GET /v1/uploads lists them: finish some, or give them up by DELETE.`,
          { uploads, uploadsBytes, retryAfterSeconds: done.refused.seconds },
        );
      }
      return { upload: toUpload(done.upload as UploadJson), seq: answer.clock };
    },

    async putPart(request, id, { part, bytes }, idempotency) {
      const { hash, sizeBytes, encoding, parts } = await encodeContent(bytes);
      const sent = { part, sizeBytes, partBytes, hash, encoding, base64: parts.join('') };
      const answer = await retryLost(() => putPart(database, request, id, sent, idempotency));
      requireDone(id, answer.recorded === undefined ? answer : answer.recorded, { part, sizeBytes });
      return { part: { part, sizeBytes, hash }, seq: answer.clock };
    },

    async list(request, page) {
      const { uploads: open, seq } = await listUploads(database, request, page);
      return { items: open.map(toUpload), seq };
    },

    async read(request, id) {
      const { upload, seq } = await readUpload(database, request, id);
      if (upload === null) throw uploadUnknown(id);
      return { upload: toUpload(upload), seq };
    },

    async drop(request, id, idempotency) {
      const answer = await retryLost(() => dropUpload(database, request, id, idempotency));
      requireDone(id, answer.recorded === undefined ? answer : answer.recorded);
      return { seq: answer.clock };
    },

    async using(request, id, idempotency, write) {
      // Twice, since a part may go while it is looked at: it was replaced, or another write has taken the upload.
      for (let attempt = 1; attempt <= 2; attempt++) {
        const { upload, recorded } = await readUpload(database, request, id, idempotency?.key);
        if (recorded !== null && idempotency) return replay(contexts, request, recorded, idempotency.fingerprint);
        if (upload === null) throw uploadUnknown(id);
        const { sizeBytes, contentType, parts } = upload;
        // What was used up has no parts: the write itself decides whether it has what was in them.
        const hash = upload.usedBy === null ? await look(request, upload) : upload.hash;
        if (hash !== null) return write({ id, hash, sizeBytes, contentType, parts: parts.map(([, of]) => of) });
      }
      throw uploadChanged();
    },

    async readBytes(request, { id, parts }) {
      const pieces: Uint8Array[] = [];
      for (const [at, hash] of parts.entries()) {
        const found = await readUploadPart(database, request, id, [at + 1, hash]);
        if (found === null) throw uploadChanged();
        pieces.push(decodeContent(found));
      }
      return Buffer.concat(pieces);
    },
  };
}

/** Takes the bytes of a content one piece after another, and refuses what no content of the type may hold. */
function createCheck(contentType: string) {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const isText = isTextType(contentType);
  let json = '';
  const decode = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw unstorable('', 'is not valid UTF-8');
    }
  };
  const add = (text: string) => {
    if (!isText) json += text;
    else if (text.includes('\u0000')) throw unstorable('', 'U+0000 cannot be kept in text');
  };
  return {
    take: (bytes: Uint8Array) => add(decode(bytes)),
    end() {
      add(decode());
      if (!isText) checkJson(json);
    },
  };
}

function countParts(sizeBytes: number): number {
  return Math.ceil(sizeBytes / partBytes);
}

function sizeOf(part: number, sizeBytes: number): number {
  return Math.min(partBytes, sizeBytes - (part - 1) * partBytes);
}

function toUpload(json: UploadJson): Upload {
  const { usedBy, usedVersion, parts, ...rest } = json;
  return {
    ...rest,
    parts: countParts(json.sizeBytes),
    partBytes,
    received: parts.map(([part, hash]) => ({ part, sizeBytes: sizeOf(part, json.sizeBytes), hash })),
    usedBy: usedBy === null || usedVersion === null ? null : { id: usedBy, version: usedVersion },
  };
}

function requireWhole({ id, sizeBytes, parts }: UploadJson): void {
  const there = new Set(parts.map(([part]) => part));
  const missing = Array.from({ length: countParts(sizeBytes) }, (_, at) => at + 1).filter((part) => !there.has(part));
  if (missing.length > 0) {
    throw new Problem('unprocessable', `Upload ${id} lacks the parts ${missing.join(', ')}.`, { upload: id, missing });
  }
}

function requireDone(
  id: string,
  done: UploadOutcome | null,
  sent?: { readonly part: number; readonly sizeBytes: number },
): void {
  if (done === null) throw idempotencyMismatch();
  switch (done.outcome) {
    case 'unknown':
      throw uploadUnknown(id);
    case 'used':
      throw uploadUsed(id, { id: done.usedBy, version: done.usedVersion });
    case 'no_part':
      throw new Problem('unprocessable', `Upload ${id} has ${done.parts} parts, and none of number ${sent?.part}.`, {
        upload: id,
        parts: done.parts,
      });
    case 'wrong_size':
      throw new Problem(
        'unprocessable',
        `Part ${sent?.part} of upload ${id} has ${done.sizeBytes} bytes, not ${sent?.sizeBytes}.`,
        { upload: id, part: sent?.part, sizeBytes: done.sizeBytes },
      );
  }
}

function wrongHash(upload: string, announced: string, found: string): Problem {
  return new Problem('unprocessable', `The parts of upload ${upload} are not the content that was announced.`, {
    upload,
    announcedHash: `sha256:${announced}`,
    hash: `sha256:${found}`,
  });
}
