import { type Database, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { Recorded } from './contexts.ts';
import type { RequestContext } from './request.ts';
import { jsonColumn, type PartsJson, spaceRow } from './rows.ts';
import type { Idempotency } from './written.ts';

/** The shape that the SQL function `to_upload` prints. */
export interface UploadJson {
  id: string;
  sizeBytes: number;
  contentType: string;
  hash: string | null;
  createdMs: number;
  expiresMs: number;
  usedBy: string | null;
  usedVersion: number | null;
  parts: [part: number, hash: string][];
}

/** How the space stands that has too many uploads open. */
export interface UploadsOpen {
  readonly uploads: number;
  readonly bytes: number;
  /** Until the first of them expires, or may have to give way. */
  readonly seconds: number;
}

type Answer<Done> = { readonly clock: number } & (
  | (Done & { readonly recorded?: undefined })
  | { readonly recorded: Done | null }
);

/** How a part or a removal ended. */
export type UploadOutcome =
  | { readonly outcome: 'kept' | 'dropped' | 'unknown' }
  | { readonly outcome: 'used'; readonly usedBy: string; readonly usedVersion: number }
  | { readonly outcome: 'no_part'; readonly parts: number }
  | { readonly outcome: 'wrong_size'; readonly sizeBytes: number };

/** Begins an upload; see `migrations/functions/03-uploads.sql` for this and what follows. */
export function beginUpload(
  database: Database,
  request: RequestContext,
  upload: { id: string; sizeBytes: number; contentType: string; hash: string | undefined },
  limits: { hours: number; uploads: number; bytes: number },
  idempotency: Idempotency | undefined,
): Promise<Answer<{ readonly upload?: UploadJson; readonly refused?: UploadsOpen }>> {
  const [of, within] = [JSON.stringify(upload), JSON.stringify(limits)];
  return ask(database, request, sql`begin_upload(${of}::jsonb, ${within}::jsonb, ${toOptions(idempotency)}::jsonb)`);
}

export function putPart(
  database: Database,
  request: RequestContext,
  id: string,
  part: { part: number; sizeBytes: number; partBytes: number; hash: string; encoding: string; base64: string },
  idempotency: Idempotency | undefined,
): Promise<Answer<UploadOutcome>> {
  const { base64, ...facts } = part;
  return ask(
    database,
    request,
    sql`put_part(${id}, ${JSON.stringify(facts)}::jsonb, ${base64}, ${toOptions(idempotency)}::jsonb)`,
  );
}

export function dropUpload(
  database: Database,
  request: RequestContext,
  id: string,
  idempotency: Idempotency | undefined,
): Promise<Answer<UploadOutcome>> {
  return ask(database, request, sql`drop_upload(${id}, ${toOptions(idempotency)}::jsonb)`);
}

/** An upload whose time is not over, null where there is none; and what an earlier request under the key was answered. */
export async function readUpload(
  database: Database,
  request: RequestContext,
  id: string,
  key?: string,
): Promise<{ seq: number; upload: UploadJson | null; recorded: Recorded | null }> {
  const recorded =
    key === undefined
      ? raw('null')
      : sql`(select jsonb_build_object('fingerprint', fingerprint, 'answer', answer) from idempotency
          where space_id = ${request.space} and key = ${key} and created_at >= clock_timestamp() - interval '24 hours')`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, to_upload(u)::text as upload, ${recorded}::text as recorded
      from space s left join upload u on u.space_id = s.id and u.id = ${id} and u.expires_at > clock_timestamp()
      where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { seq: Number(row['clock']), upload: jsonColumn(row, 'upload'), recorded: jsonColumn(row, 'recorded') };
}

/** The open uploads by id, which is the order they were begun in. */
export async function listUploads(
  database: Database,
  request: RequestContext,
  page: { readonly after?: string | undefined; readonly limit: number },
): Promise<{ seq: number; uploads: UploadJson[] }> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, coalesce((select jsonb_agg(to_upload(open.u) order by (open.u).id) from (
        select u from upload u where space_id = ${request.space} and used_by is null and expires_at > clock_timestamp()
          and id > ${page.after ?? ''} order by id limit ${page.limit}) open), '[]')::text as uploads
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { seq: Number(row['clock']), uploads: jsonColumn<UploadJson[]>(row, 'uploads') ?? [] };
}

/** The bytes of a part as `content_parts` gives them, if they still have this hash; null otherwise. */
export async function readUploadPart(
  database: Database,
  request: RequestContext,
  id: string,
  [part, hash]: UploadJson['parts'][number],
): Promise<NonNullable<PartsJson> | null> {
  const [row] = await runOne(
    database.in(request),
    toStatement(sql`select encoding, encode(bytes, 'base64') as base64 from upload_part
      where space_id = ${request.space} and upload_id = ${id} and part = ${part} and hash = decode(${hash}, 'hex')`),
    request,
  );
  return row === undefined ? null : [[String(row['encoding']), String(row['base64'])]];
}

const toOptions = (idempotency: Idempotency | undefined) => JSON.stringify(idempotency ?? {});

async function ask<Done>(
  database: Database,
  request: RequestContext,
  call: ReturnType<typeof sql>,
): Promise<Answer<Done>> {
  const rows = await runOne(database.in(request), toStatement(sql`select ${call}::text as answer`), request);
  return jsonColumn<Answer<Done>>(spaceRow(rows, request), 'answer') as Answer<Done>;
}
