import type { RequestContext } from '../contexts/request.ts';
import { jsonColumn, spaceRow } from '../contexts/rows.ts';
import type { Idempotency } from '../contexts/written.ts';
import { type Database, isDatabaseError, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { Scope } from './scopes.ts';

/** A key as its owner may see it. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdMs: number;
  readonly expiresMs: number | null;
  readonly revokedMs: number | null;
}

export interface StoredKey extends ApiKey {
  /** SHA-256 of the secret, 64 hexadecimal digits. */
  readonly secretHash: string;
}

export interface ChangeOptions extends Partial<Idempotency> {
  readonly actor: RequestContext['actor'];
  readonly auditId: string;
}

interface KeyAnswer {
  clock: number;
  key?: ApiKey | null;
  recorded?: { key: ApiKey } | null;
}

/** The key that a token names, by the owner's door, since the token has proved nothing yet. */
export async function findKey(database: Database, spaceId: string, id: string): Promise<StoredKey | null> {
  const rows = await runOne(
    database.owner,
    toStatement(
      sql`select to_key(k)::text as key, k.secret_hash from api_key k where k.space_id = ${spaceId} and k.id = ${id}`,
    ),
  );
  const [row] = rows;
  if (row === undefined) return null;
  return { ...(jsonColumn<ApiKey>(row, 'key') as ApiKey), secretHash: String(row['secret_hash']) };
}

export async function createKey(
  database: Database,
  request: RequestContext,
  key: {
    readonly id: string;
    readonly name: string;
    readonly scopes: readonly Scope[];
    readonly expiresAt: string | null;
    readonly secretHash: string;
    readonly isFirst?: true;
  },
  options: ChangeOptions,
): Promise<KeyAnswer> {
  const rows = await runOne(
    database.in(request.space),
    toStatement(
      sql`select create_key(${JSON.stringify(key)}::jsonb, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  return jsonColumn<KeyAnswer>(spaceRow(rows), 'answer') as KeyAnswer;
}

export async function revokeKey(
  database: Database,
  request: RequestContext,
  id: string,
  options: ChangeOptions,
): Promise<KeyAnswer> {
  const rows = await runOne(
    database.in(request.space),
    toStatement(sql`select revoke_key(${id}, ${JSON.stringify(options)}::jsonb)::text as answer`),
    request,
  );
  return jsonColumn<KeyAnswer>(spaceRow(rows), 'answer') as KeyAnswer;
}

/** One page of keys by id, after `after`. */
export async function readKeys(
  database: Database,
  request: RequestContext,
  page: { readonly after?: string | undefined; readonly limit: number },
): Promise<ApiKey[]> {
  const after = page.after === undefined ? raw('') : sql` and k.id > ${page.after}`;
  const rows = await runOne(
    database.in(request.space),
    toStatement(sql`select to_key(k)::text as key from api_key k where k.space_id = ${request.space}${after}
      order by k.id limit ${page.limit}`),
    request,
  );
  return rows.map((row) => jsonColumn<ApiKey>(row, 'key') as ApiKey);
}

/** A line of the audit. */
export interface AuditEntry {
  readonly id: string;
  readonly atMs: number;
  readonly actor: { readonly kind: string; readonly id: string };
  readonly action: string;
  readonly target: string | null;
}

/** One page of the audit, newest first, before `before`. */
export async function readAudit(
  database: Database,
  request: RequestContext,
  page: { readonly before?: string | undefined; readonly limit: number },
): Promise<AuditEntry[]> {
  const before = page.before === undefined ? raw('') : sql` and id < ${page.before}`;
  const rows = await runOne(
    database.in(request.space),
    toStatement(sql`select id, to_ms(at) as at_ms, actor_kind, actor_id, action, target from audit
      where space_id = ${request.space}${before} order by id desc limit ${page.limit}`),
    request,
  );
  return rows.map((row) => ({
    id: String(row['id']),
    atMs: Number(row['at_ms']),
    actor: { kind: String(row['actor_kind']), id: String(row['actor_id']) },
    action: String(row['action']),
    target: row['target'] ?? null,
  }));
}

export interface Space {
  readonly id: string;
  readonly createdMs: number;
  readonly clock: number;
}

export async function readSpaces(
  database: Database,
  page: { readonly after?: string | undefined; readonly limit: number },
): Promise<Space[]> {
  const after = page.after === undefined ? raw('') : sql` where id > ${page.after}`;
  const rows = await runOne(
    database.owner,
    toStatement(
      sql`select id, clock, to_ms(created_at) as created_ms from space${after} order by id limit ${page.limit}`,
    ),
  );
  return rows.map((row) => ({
    id: String(row['id']),
    createdMs: Number(row['created_ms']),
    clock: Number(row['clock']),
  }));
}

/** Makes the space unless it exists; false where it did. */
export async function insertSpace(database: Database, id: string): Promise<boolean> {
  const rows = await runOne(
    database.owner,
    toStatement(sql`insert into space (id) values (${id}) on conflict do nothing returning id`),
  );
  return rows.length > 0;
}

/** Removes everything of a space, then the space; false where there is none. */
export async function dropSpace(database: Database, id: string): Promise<boolean> {
  const tables = ['idempotency', 'follower', 'change', 'content', 'context_version', 'context', 'audit'];
  await database.in(id).run(tables.map((table) => toStatement(sql`delete from ${raw(table)} where space_id = ${id}`)));
  try {
    const [, rows = []] = await database.owner.run([
      toStatement(sql`delete from api_key where space_id = ${id}`),
      toStatement(sql`delete from space where id = ${id} returning id`),
    ]);
    return rows.length > 0;
  } catch (error) {
    // A write that came between has left rows behind: go round once more.
    if (isDatabaseError(error) && error.sqlState === '23503') return dropSpace(database, id);
    throw error;
  }
}
