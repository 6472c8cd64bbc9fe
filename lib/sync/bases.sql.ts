import { decodeContent, encodeContent } from '../contexts/content.ts';
import type { RequestContext } from '../contexts/request.ts';
import { jsonColumn, type PartsJson, spaceRow } from '../contexts/rows.ts';
import { isLiveNow } from '../contexts/snapshot.ts';
import type { PrintedConflict } from '../merge/conflict.ts';
import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { Base } from './decision.ts';
import type { Value } from './value.ts';

/** A value as it is kept: its content is in the table of contents, by hash. */
export interface StoredValue {
  readonly hash: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly kind: string;
  readonly parentId: string | null;
  readonly metadata: string;
  readonly expiresMs: number | null;
}

/** What is known of an item from earlier runs. */
export interface KnownItem {
  readonly base: Base;
  readonly fingerprint: string | null;
  readonly value: StoredValue | null;
  /** The open conflict, and the fingerprints of the sides it is between; null for a side that has nothing. */
  readonly conflict: {
    readonly id: string;
    readonly oursVersion: number;
    readonly fingerprints: { readonly ours: string | null; readonly theirs: string | null };
  } | null;
}

const list = (ids: readonly string[]) => sql`array(select jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb))`;

/** What earlier runs know of these items, and which of the contexts `within` are alive and in the subtree: one request. */
export async function readItems(
  database: Database,
  request: RequestContext,
  wanted: {
    readonly peer: string;
    readonly ids: readonly string[];
    readonly within: readonly string[];
    readonly subtree: string | undefined;
  },
): Promise<{ items: ReadonlyMap<string, KnownItem>; within: ReadonlySet<string> }> {
  const { peer, subtree = null } = wanted;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select (
        select jsonb_agg(jsonb_build_array(asked.id, b.state, b.fingerprint, b.value, c.id, c.ours_version, c.fingerprints))
        from unnest(${list(wanted.ids)}) asked (id)
        left join lateral (select * from peer_base where space_id = s.id and peer = ${peer} and id = asked.id offset 0) b on true
        left join lateral (select * from conflict where space_id = s.id and peer = ${peer} and context_id = asked.id
          and settled_at is null offset 0) c on true
      )::text as items, to_jsonb(ids_within(${list(wanted.within)}, ${subtree}))::text as within
      from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  type Sides = { ours: string | null; theirs: string | null };
  type Found = [string, Base | null, string | null, StoredValue | null, string | null, number, Sides];
  const items = new Map<string, KnownItem>();
  for (const [id, base, fingerprint, value, conflictId, oursVersion, fingerprints] of jsonColumn<Found[]>(
    row,
    'items',
  ) ?? []) {
    const conflict = conflictId === null ? null : { id: conflictId, oursVersion, fingerprints };
    items.set(id, { base: base ?? 'none', fingerprint, value, conflict });
  }
  return { items, within: new Set(jsonColumn<string[]>(row, 'within')) };
}

/**
 * The fingerprints of all that the peer is known to have held, by id: of what was agreed on, and of its side of conflicts over
 * what never was, null where that is nothing. One request.
 */
export async function readAgreed(
  database: Database,
  request: RequestContext,
  peer: string,
): Promise<ReadonlyMap<string, string | null>> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select (select jsonb_agg(jsonb_build_array(id, fingerprint)) from (
        select id, fingerprint from peer_base where space_id = s.id and peer = ${peer} and state = 'known'
        union all select context_id, fingerprints ->> 'theirs' from conflict
          where space_id = s.id and peer = ${peer} and settled_at is null and not exists (
            select from peer_base b where b.space_id = s.id and b.peer = ${peer} and b.id = context_id and b.state = 'known')
      ) held)::text as agreed from space s where s.id = ${request.space}`),
    request,
  );
  return new Map(jsonColumn<[string, string | null][]>(spaceRow(rows, request), 'agreed') ?? []);
}

/** How many of these ids are agreed on with a peer. */
export async function countAgreed(
  database: Database,
  request: RequestContext,
  peer: string,
  ids: readonly string[],
): Promise<number> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select count(*) as agreed from peer_base where space_id = ${request.space} and peer = ${peer} and state = 'known'
        and id = any (${list(ids)})`),
    request,
  );
  return Number(rows[0]?.['agreed'] ?? 0);
}

/** Contents by hash; those that are no longer there are left out. */
export async function readContents(
  database: Database,
  request: RequestContext,
  hashes: readonly string[],
): Promise<ReadonlyMap<string, Uint8Array>> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select hash, content_parts(decode(hash, 'hex'))::text as parts
        from jsonb_array_elements_text(${JSON.stringify([...new Set(hashes)])}::jsonb) asked (hash)`),
    request,
  );
  return new Map(
    rows.flatMap((row) => {
      const parts = jsonColumn<NonNullable<PartsJson>>(row, 'parts');
      return parts ? [[String(row['hash']), decodeContent(parts)] as const] : [];
    }),
  );
}

/** Ids of live contexts of these kinds (null: all), in the subtree with its root, a page after `after`: one request. */
export async function readIds(
  database: Database,
  request: RequestContext,
  page: {
    readonly kinds: readonly string[] | null;
    readonly subtree: string | undefined;
    readonly after: string;
    readonly limit: number;
  },
): Promise<string[]> {
  const { kinds, subtree } = page;
  const ofKind = kinds === null ? raw('') : sql` and c.kind = any (${list(kinds)})`;
  const from =
    subtree === undefined
      ? sql`from context c where c.space_id = ${request.space}`
      : sql`from (
          with recursive below (id) as (
            select ${subtree}::text collate "C"
            union
            select c.id from below join context c on c.space_id = ${request.space} and c.parent_id = below.id and ${isLiveNow}
          ) select id from below) below join context c on c.space_id = ${request.space} and c.id = below.id where true`;
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select c.id ${from} and c.id > ${page.after}${ofKind} and ${isLiveNow} order by c.id limit ${page.limit}`,
    ),
    request,
  );
  return rows.map((row) => String(row['id']));
}

/** What was agreed on with a peer of these contexts and of what lay below them then: one request. */
export async function readAgreedBelow(
  database: Database,
  request: RequestContext,
  peer: string,
  ids: readonly string[],
): Promise<string[]> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select to_jsonb(agreed_below(${peer}, ${list(ids)}))::text as ids`),
    request,
  );
  return jsonColumn<string[]>(rows[0] ?? {}, 'ids') ?? [];
}

/**
 * What may have come over the edge of a subtree with contexts that were moved here: what lies below them now, and of what was
 * agreed on with the peer below them that which lies outside by now. One request.
 */
export async function readMoved(
  database: Database,
  request: RequestContext,
  of: { readonly peer: string; readonly subtree: string; readonly ids: readonly string[] },
): Promise<{ below: string[]; gone: string[] }> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`with agreed as materialized (select agreed_below(${of.peer}, ${list(of.ids)}) as ids)
      select to_jsonb(live_below(${list(of.ids)}))::text as below, to_jsonb(array(
        select unnest(ids) except select unnest(ids_within(ids, ${of.subtree}))))::text as gone from agreed`),
    request,
  );
  const row = rows[0] ?? {};
  return { below: jsonColumn<string[]>(row, 'below') ?? [], gone: jsonColumn<string[]>(row, 'gone') ?? [] };
}

/** What a run has found out about an item; see `settle_bases` in `migrations/functions/13-sync.sql`. */
export interface Settling {
  readonly id: string;
  /** What is agreed on now: a value, null for nothing any more; undefined leaves it as it was. */
  readonly agree?: Value | null | undefined;
  readonly fingerprint?: string | undefined;
  /** Only where the transaction it stands in has written the context for the peer. */
  readonly isApplied?: true | undefined;
  /** Whatever conflict was open is none any more. */
  readonly isSettled?: true | undefined;
  /** The conflict that was open when the item was looked at: where somebody has settled it since, nothing is noted. */
  readonly seen?: string | undefined;
  readonly isDue?: boolean | undefined;
  readonly note?: string | undefined;
  readonly conflict?: {
    readonly id: string;
    readonly base: Value | null;
    readonly ours: Value | null;
    readonly theirs: Value | null;
    readonly oursVersion: number;
    readonly fingerprints: { readonly ours: string | null; readonly theirs: string | null };
    readonly paths: readonly PrintedConflict[];
  };
}

/** Which run of which peer writes, and for how long it is held after that. */
export interface RunRef {
  readonly peer: string;
  readonly runId: string;
  readonly leaseMs: number;
}

/**
 * The statement that notes them, for a transaction of its own or beside the write it tells of. It breaks with `LM005`
 * where another run has taken over, with `LM006` where a content that was not sent is gone.
 *
 * @param isStored whether a content of this hash is in the database already and need not be sent.
 */
export async function settleBases(
  { peer, runId, leaseMs }: RunRef,
  settlings: readonly Settling[],
  isStored: (hash: string) => boolean,
): Promise<Statement> {
  const parts: string[] = [];
  const encode = async (value: Value | null | undefined) => {
    if (!value) return value;
    const { hash, sizeBytes, encoding, parts: own } = await encodeContent(value.bytes);
    const { kind, contentType, parentId, metadata, expiresMs } = value;
    const stored: StoredValue = { hash, contentType, sizeBytes, kind, parentId, metadata, expiresMs };
    if (isStored(hash)) return stored;
    const first = parts.length + 1;
    parts.push(...own);
    return { ...stored, encoding, first, parts: own.length };
  };
  const items: unknown[] = [];
  for (const { agree, conflict, ...settling } of settlings) {
    const state = agree === undefined ? undefined : agree === null ? 'gone' : 'known';
    items.push({
      ...settling,
      state,
      value: (await encode(agree)) ?? undefined,
      conflict: conflict && {
        ...conflict,
        base: await encode(conflict.base),
        ours: await encode(conflict.ours),
        theirs: await encode(conflict.theirs),
        paths: conflict.paths.map(({ path, ...sides }) => ({ path, ...textsOf(sides) })),
      },
    });
  }
  const literal = `{${parts.map((part) => `"${part}"`).join(',')}}`;
  return toStatement(
    sql`select settle_bases(${peer}, ${runId}, ${leaseMs}, ${JSON.stringify(items)}::jsonb, ${literal}::text[])`,
  );
}

/** The sides of a printed conflict as JSON texts, which jsonb would otherwise spell anew. */
function textsOf(sides: Omit<PrintedConflict, 'path'>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(sides).flatMap(([name, value]) =>
      typeof value === 'object' ? [[name, value.jsonText] as const] : [],
    ),
  );
}
