import type { Change } from '../contexts/context.ts';
import { type RequestContext, type SpaceRef, slotOf } from '../contexts/request.ts';
import { type ChangeJson, feedColumn, feedTicksMax, jsonColumn, spaceRow } from '../contexts/rows.ts';
import type { Idempotency } from '../contexts/written.ts';
import { type Database, runOne } from '../postgres/database.ts';
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

/** A key made or revoked; `recorded` where the idempotency key was used before, null for another request. */
export interface KeyAnswer {
  clock: number;
  /** What the feed tells of it. */
  changes?: ChangeJson[];
  key?: ApiKey | null;
  recorded?: { key: ApiKey } | null;
}

/** The key that a token names, by the owner's door, since the token has proved nothing yet. */
export async function findKey(
  database: Database,
  spaceId: string,
  id: string,
): Promise<(StoredKey & { readonly slot: string }) | null> {
  const rows = await runOne(
    database.owner,
    toStatement(
      sql`select to_key(k)::text as key, k.secret_hash, to_ms(s.created_at) as created_ms
        from api_key k join space s on s.id = k.space_id where k.space_id = ${spaceId} and k.id = ${id}`,
    ),
  );
  const [row] = rows;
  if (row === undefined) return null;
  const slot = slotOf(spaceId, Number(row['created_ms']));
  return { ...(jsonColumn<ApiKey>(row, 'key') as ApiKey), secretHash: String(row['secret_hash']), slot };
}

/** A key of a space whose slot is known, with the clock of the same snapshot and the feed after a tick. */
export async function readKey(
  database: Database,
  space: SpaceRef,
  id: string,
  feedAfter: number,
): Promise<{ key: StoredKey | null; seq: number; feed: Change[] | null }> {
  const rows = await runOne(
    database.in(space),
    toStatement(
      sql`select s.clock, feed_after(s, ${feedAfter}::bigint, ${feedTicksMax + 1})::text as feed, to_key(k)::text as key, k.secret_hash
        from space s left join api_key k on k.space_id = s.id and k.id = ${id} where s.id = ${space.space}`,
    ),
  );
  const row = spaceRow(rows, { seq: 0 });
  const secretHash = row['secret_hash'];
  const key = secretHash ? { ...(jsonColumn<ApiKey>(row, 'key') as ApiKey), secretHash } : null;
  return { key, seq: Number(row['clock']), feed: feedColumn(row) };
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
  },
  options: ChangeOptions,
): Promise<KeyAnswer> {
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select create_key(${JSON.stringify(key)}::jsonb, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  return jsonColumn<KeyAnswer>(spaceRow(rows, request), 'answer') as KeyAnswer;
}

export async function revokeKey(
  database: Database,
  request: RequestContext,
  id: string,
  options: ChangeOptions,
): Promise<KeyAnswer> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select revoke_key(${id}, ${JSON.stringify(options)}::jsonb)::text as answer`),
    request,
  );
  return jsonColumn<KeyAnswer>(spaceRow(rows, request), 'answer') as KeyAnswer;
}

/** One page of keys by id, after `after`. */
export async function readKeys(
  database: Database,
  request: RequestContext,
  page: { readonly after?: string | undefined; readonly limit: number },
): Promise<{ items: ApiKey[]; seq: number }> {
  const after = page.after === undefined ? raw('') : sql` and k.id > ${page.after}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (
        select jsonb_agg(to_key(row) order by (row).id) from (
          select k as row from api_key k where k.space_id = s.id${after} order by k.id limit ${page.limit}
        ) page)::text as items
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { items: jsonColumn<ApiKey[]>(row, 'items') ?? [], seq: Number(row['clock']) };
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
): Promise<{ items: AuditEntry[]; seq: number }> {
  const before = page.before === undefined ? raw('') : sql` and a.id < ${page.before}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (
        select jsonb_agg(jsonb_build_object('id', (row).id, 'atMs', to_ms((row).at), 'action', (row).action, 'target', (row).target,
          'actor', jsonb_build_object('kind', (row).actor_kind, 'id', (row).actor_id)) order by (row).id desc) from (
          select a as row from audit a where a.space_id = s.id${before} order by a.id desc limit ${page.limit}
        ) page)::text as items
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { items: jsonColumn<AuditEntry[]>(row, 'items') ?? [], seq: Number(row['clock']) };
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
  const after = page.after === undefined ? raw('') : sql` and id > ${page.after}`;
  const rows = await runOne(
    database.owner,
    toStatement(
      sql`select id, clock, to_ms(created_at) as created_ms from space where closed_at is null${after} order by id limit ${page.limit}`,
    ),
  );
  return rows.map((row) => ({
    id: String(row['id']),
    createdMs: Number(row['created_ms']),
    clock: Number(row['clock']),
  }));
}

/** Makes the space unless it exists; answers with the name of its state in the caches. */
export async function insertSpace(database: Database, id: string): Promise<string> {
  const [, rows = []] = await database.owner.run([
    toStatement(sql`insert into space (id) values (${id}) on conflict do nothing`),
    toStatement(sql`select to_ms(created_at) as created_ms from space where id = ${id}`),
  ]);
  return slotOf(id, Number(rows[0]?.['created_ms']));
}

/** Makes a space and its first key in one transaction; `key` is null where there is a space of that name. */
export async function createSpace(
  database: Database,
  request: RequestContext,
  space: { readonly name: string; readonly key: object },
  options: ChangeOptions,
): Promise<Omit<KeyAnswer, 'clock'>> {
  const rows = await runOne(
    database.owner,
    toStatement(
      sql`select create_space(${request.space}, ${space.name}, ${JSON.stringify(space.key)}::jsonb, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  return jsonColumn<KeyAnswer>(rows[0] ?? {}, 'answer') as KeyAnswer;
}

const emptiedRowsMax = 20_000;

/**
 * Closes a space, so that nobody finds it any more, its keys with it; answers when it was made, null where there is none,
 * or what the same request was answered before.
 */
export async function sealSpace(
  database: Database,
  request: RequestContext,
  name: string,
  options: ChangeOptions,
): Promise<{ createdMs: number | null; recorded?: { dropped: true } | null }> {
  const seal = sql`select seal_space(${request.space}, ${name}, ${JSON.stringify(options)}::jsonb)::text as answer`;
  const [row = {}] = await runOne(database.owner, toStatement(seal), request);
  return (
    jsonColumn<{ createdMs: number | null; recorded?: { dropped: true } | null }>(row, 'answer') ?? { createdMs: null }
  );
}

/** Removes a closed space: empties it in batches, then drops it with what came between. */
export async function dropSpace(
  database: Database,
  request: RequestContext,
  space: { readonly name: string; readonly createdMs: number },
  options: ChangeOptions,
): Promise<{ dropped?: boolean; recorded?: { dropped: true } | null }> {
  const { name, createdMs } = space;
  for (let removed = 1; removed > 0; ) {
    const empty = toStatement(sql`select empty_space(${emptiedRowsMax}) as removed`);
    const [row] = await runOne(database.in({ space: name }), empty, request);
    removed = Number(row?.['removed'] ?? 0);
  }
  const drop = sql`select drop_space(${request.space}, ${name}, ${createdMs}::bigint, ${JSON.stringify(options)}::jsonb)::text as answer`;
  const [row = {}] = await runOne(database.owner, toStatement(drop), request);
  return jsonColumn<{ dropped?: boolean; recorded?: { dropped: true } | null }>(row, 'answer') ?? {};
}
