import { type Database, runOne } from '../postgres/database.ts';
import { type Fragment, join, raw, sql, toStatement } from '../postgres/sql.ts';
import type { Context, ContextHead } from './context.ts';
import { type ContextFilter, filterConditions, toTime } from './filter.ts';
import { type HeadJson, jsonColumn, type PartsJson, toContext, toHead } from './rows.ts';
import { isLiveNow, type LoadRequest, type Read, readSnapshot, seen } from './snapshot.ts';

interface ItemJson {
  head: HeadJson;
  content: PartsJson;
}

/** The head, with its content where that is at most `inlineBytes`; null where there is no row or it was erased. */
export function readHead(database: Database, request: LoadRequest, id: string, inlineBytes: number) {
  return readItem(
    database,
    request,
    sql`select ${seen(request)}, to_head(c)::text as head,
          case when c.size_bytes <= ${inlineBytes} then content_parts(c.hash) end::text as content
        from space s left join context c on c.space_id = s.id and c.id = ${id}
        where s.id = ${request.space}`,
  );
}

/** Version `version`; null where it never was or retention has taken it. `head` is null where there is no context. */
export function readVersion(
  database: Database,
  request: LoadRequest,
  id: string,
  version: number,
  inlineBytes: number,
) {
  return readItem(
    database,
    request,
    sql`select ${seen(request)}, to_version(v, c)::text as head, c.version is not null and c.state <> 'erased' as is_known,
          case when v.size_bytes <= ${inlineBytes} then content_parts(v.hash) end::text as content
        from space s left join context c on c.space_id = s.id and c.id = ${id}
        left join context_version v on v.space_id = s.id and v.id = ${id} and v.version = ${version}
        where s.id = ${request.space}`,
  );
}

/**
 * The version that was the head at `atMs`; null where nothing was there yet, or where retention has taken it: a kept
 * version vouches for the time until its successor, which must be kept to tell when that was.
 */
export function readVersionAt(database: Database, request: LoadRequest, id: string, atMs: number, inlineBytes: number) {
  return readItem(
    database,
    request,
    sql`select ${seen(request)}, to_version(v, c)::text as head, c.version is not null and c.state <> 'erased' as is_known,
          case when v.size_bytes <= ${inlineBytes} then content_parts(v.hash) end::text as content
        from space s left join context c on c.space_id = s.id and c.id = ${id}
        left join lateral (
          select * from context_version
          where space_id = s.id and id = ${id} and created_at <= to_timestamp(${atMs}::double precision / 1000)
          order by created_at desc limit 1
        ) v on v.version = c.version
          or exists (select from context_version n where n.space_id = s.id and n.id = v.id and n.version = v.version + 1)
        where s.id = ${request.space}`,
  );
}

/**
 * The context and its live ancestors, root first, each with its content as far as `inlineBytes` reach. The chain ends
 * at an ancestor that is no longer alive.
 */
export async function readAncestry(
  database: Database,
  request: LoadRequest,
  id: string,
  inlineBytes: number,
): Promise<Read<Context[]>> {
  const rows = await readSnapshot(
    database,
    request,
    sql`${ancestry(request, id)} select ${seen(request)}, ${ancestors(inlineBytes)}::text as items
        from space s where s.id = ${request.space}`,
  );
  return { ...rows, value: toItems(jsonColumn(rows.row, 'items')) };
}

/**
 * What layer 3 holds under `kind` and the id as far as it is true in this snapshot, as text; where it holds nothing, the
 * context and its live ancestors as {@link readAncestry} has them.
 */
export async function readAncestryOrEntry(
  database: Database,
  request: LoadRequest,
  id: string,
  options: { readonly kind: string; readonly inlineBytes: number },
): Promise<Read<{ readonly entry: string } | { readonly chain: Context[] }>> {
  const rows = await readSnapshot(
    database,
    request,
    sql`${ancestry(request, id)} select ${seen(request)}, e.body as entry,
          case when e.body is null then ${ancestors(options.inlineBytes)} end::text as items
        from space s cross join lateral (select cached_entry(${options.kind}, ${id}) as body offset 0) e
        where s.id = ${request.space}`,
  );
  const entry = rows.row['entry'];
  return { ...rows, value: entry ? { entry } : { chain: toItems(jsonColumn(rows.row, 'items')) } };
}

const ancestry = ({ space }: LoadRequest, id: string) => sql`with recursive up as (
      select c as node, 0 as level from context c where c.space_id = ${space} and c.id = ${id}
      union all
      select c, up.level + 1 from up
      join context c on c.space_id = ${space} and c.id = (up.node).parent_id and ${isLiveNow}
      where up.level < 32
    )`;

const ancestors = (inlineBytes: number) => sql`(
      select jsonb_agg(jsonb_build_object('head', to_head(node),
        'content', case when (node).size_bytes <= ${inlineBytes} then content_parts((node).hash) end) order by level desc)
      from up)`;

/** The contexts in the order asked, null where there is none; contents until together they exceed `inlineBytes`. */
export async function readMany(
  database: Database,
  request: LoadRequest,
  ids: readonly string[],
  inlineBytes: number,
): Promise<Read<(Context | null)[]>> {
  const rows = await readSnapshot(
    database,
    request,
    sql`with wanted as (
          select id, ordinality as position from jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb) with ordinality as w (id, ordinality)
        ), found as (
          select position, c as node, sum(c.size_bytes) filter (where c.size_bytes <= ${inlineBytes}) over (order by position) as total
          from wanted join context c on c.space_id = ${request.space} and c.id = wanted.id
        )
        select ${seen(request)}, (
          select jsonb_agg(jsonb_build_object('position', position, 'head', to_head(node),
            'content', case when (node).size_bytes <= ${inlineBytes} and total <= ${inlineBytes} then content_parts((node).hash) end))
          from found)::text as items
        from space s where s.id = ${request.space}`,
  );
  const value: (Context | null)[] = ids.map(() => null);
  for (const { position, head, content } of jsonColumn<(ItemJson & { position: number })[]>(rows.row, 'items') ?? []) {
    if (head.state !== 'erased') value[position - 1] = toContext(head, content);
  }
  return { ...rows, value };
}

/** Names a version; without `version`, the head. */
export interface Reference {
  readonly id: string;
  readonly version?: number | undefined;
}

/**
 * The versions named, in order, null where there is none (`known` tells whether there is the context); contents until
 * together they exceed `inlineBytes`. Where a key is given, also what an earlier request under it was answered.
 */
export async function readExact(
  database: Database,
  request: LoadRequest,
  references: readonly Reference[],
  options: { readonly inlineBytes: number; readonly key?: string | undefined },
): Promise<Read<(Context | null)[]> & { known: boolean[]; recorded: { fingerprint: string; answer: unknown } | null }> {
  const wanted = references.map(({ id, version }) => ({ id, version: version ?? null }));
  const recorded =
    options.key === undefined
      ? raw('null')
      : sql`(select jsonb_build_object('fingerprint', fingerprint, 'answer', answer) from idempotency
          where space_id = ${request.space} and key = ${options.key} and created_at >= clock_timestamp() - interval '24 hours')`;
  const rows = await readSnapshot(
    database,
    request,
    sql`with wanted as (
          select w.id, w.version, row_number() over () as position
          from jsonb_to_recordset(${JSON.stringify(wanted)}::jsonb) as w (id text, version integer)
        ), found as (
          select position, v as row, c as node, sum(v.size_bytes) over (order by position) as total
          from wanted join context c on c.space_id = ${request.space} and c.id = wanted.id and c.state <> 'erased'
          left join context_version v on v.space_id = c.space_id and v.id = c.id and v.version = coalesce(wanted.version, c.version)
        )
        select ${seen(request)}, ${recorded}::text as recorded, (
          select jsonb_agg(jsonb_build_object('position', position, 'head', to_version(row, node),
            'content', case when total <= ${options.inlineBytes} then content_parts((row).hash) end))
          from found)::text as items
        from space s where s.id = ${request.space}`,
  );
  const value: (Context | null)[] = references.map(() => null);
  const known = references.map(() => false);
  for (const { position, head, content } of jsonColumn<(Partial<ItemJson> & { position: number })[]>(
    rows.row,
    'items',
  ) ?? []) {
    known[position - 1] = true;
    if (head) value[position - 1] = toContext(head, content);
  }
  return { ...rows, value, known, recorded: jsonColumn(rows.row, 'recorded') };
}

export interface ListPage {
  readonly filter: ContextFilter;
  readonly order: 'id' | 'updated';
  /** Where the page before ended: the last id, and for `updated` its time. */
  readonly after?: { readonly id: string; readonly updatedMs: number } | undefined;
  readonly limit: number;
  /** How many bytes of contents the page may carry; absent asks for none. */
  readonly contentBytes?: number | undefined;
  /** Also tell the head of this context, for lists that make no sense without it. */
  readonly of?: string | undefined;
}

/**
 * One page of live contexts, whether more follow, and when the next context of the space expires, since each may have its part
 * in the list without standing in it.
 */
export async function readList(
  database: Database,
  request: LoadRequest,
  page: ListPage,
): Promise<Read<{ items: Context[]; hasMore: boolean; of: ContextHead | null; expiresMs: number | null }>> {
  const { filter, after, limit } = page;
  const of =
    page.of === undefined
      ? raw('null')
      : sql`(select to_head(c) from context c where c.space_id = ${request.space} and c.id = ${page.of})`;
  const conditions = filterConditions(request.space, filter);
  if (after !== undefined) {
    const time = toTime(after.updatedMs);
    conditions.push(
      page.order === 'id'
        ? sql`c.id > ${after.id}`
        : // The first comparison is the one the index can begin at.
          sql`c.updated_at <= ${time} and (c.updated_at < ${time} or c.id > ${after.id})`,
    );
  }
  const order = page.order === 'id' ? raw('c.id') : raw('c.updated_at desc, c.id');
  const content =
    page.contentBytes === undefined
      ? raw('null')
      : sql`case when (node).size_bytes <= ${page.contentBytes} and total <= ${page.contentBytes} then content_parts((node).hash) end`;
  const rows = await readSnapshot(
    database,
    request,
    sql`with page as (
          select node, row_number() over () as position, sum((node).size_bytes) filter (where (node).size_bytes <= ${page.contentBytes ?? 0}) over (rows unbounded preceding) as total
          from (select c as node from context c where ${join(conditions, ' and ')} order by ${order} limit ${limit + 1}) ordered
        )
        select ${seen(request)}, (
          select jsonb_agg(jsonb_build_object('head', to_head(node), 'content', ${content}) order by position)
          from page where position <= ${limit})::text as items,
          (select count(*) from page) > ${limit} as has_more, ${of}::text as of_head, to_ms((
            select min(e.expires_at) from context e
            where e.space_id = ${request.space} and e.state = 'live' and e.expires_at > statement_timestamp())) as expires_ms
        from space s where s.id = ${request.space}`,
  );
  const ofHead = jsonColumn<HeadJson>(rows.row, 'of_head');
  const value = {
    items: toItems(jsonColumn(rows.row, 'items')),
    hasMore: rows.row['has_more'] === 't',
    of: ofHead === null ? null : toHead(ofHead),
    expiresMs: rows.row['expires_ms'] ? Number(rows.row['expires_ms']) : null,
  };
  return { ...rows, value };
}

/** The live subtree in breadth-first order, its root first, at most `nodesMax + 1` contexts; empty without a root. */
export async function readTree(
  database: Database,
  request: LoadRequest,
  id: string,
  bounds: { readonly levels: number; readonly nodesMax: number },
): Promise<Read<ContextHead[]>> {
  const rows = await readSnapshot(
    database,
    request,
    sql`with recursive under as (
          select c as node, 0 as level from context c where c.space_id = ${request.space} and c.id = ${id}
          union all
          select c, under.level + 1 from under
          join context c on c.space_id = ${request.space} and c.parent_id = (under.node).id and ${isLiveNow}
          where under.level < ${bounds.levels}
        )
        select ${seen(request)}, (
          select jsonb_agg(jsonb_build_object('head', to_head(node)) order by level, (node).id)
          from (select * from under limit ${bounds.nodesMax + 1}) bounded)::text as items
        from space s where s.id = ${request.space}`,
  );
  return { ...rows, value: toItems(jsonColumn(rows.row, 'items')) };
}

/** A piece of a part as it is stored. */
export interface Slice {
  readonly encoding: string;
  /** How many bytes the whole part has as it is stored. */
  readonly storedBytes: number;
  readonly base64: string;
}

/** At most `bytesMax` of the stored bytes of a content's part (0 is the first), from `start` on; null where there is no such part. */
export async function readContentSlice(
  database: Database,
  request: LoadRequest,
  of: { readonly hash: string; readonly part: number },
  at: { readonly start: number; readonly bytesMax: number },
): Promise<Slice | null> {
  const [row] = await runOne(
    database.in(request),
    toStatement(sql`select encoding, octet_length(bytes) as stored_bytes,
        encode(substring(bytes from ${at.start + 1}::integer for ${at.bytesMax}::integer), 'base64') as base64
      from content where space_id = ${request.space} and hash = decode(${of.hash}, 'hex') and part = ${of.part}`),
    request,
  );
  if (row === undefined) return null;
  return {
    encoding: String(row['encoding']),
    storedBytes: Number(row['stored_bytes']),
    base64: String(row['base64']),
  };
}

async function readItem(database: Database, request: LoadRequest, fragment: Fragment) {
  const { row, seq, nowMs, feed } = await readSnapshot(database, request, fragment);
  const head = jsonColumn<HeadJson>(row, 'head');
  const isKnown = row['is_known'] === undefined ? head !== null && head.state !== 'erased' : row['is_known'] === 't';
  const value = head === null || !isKnown ? null : toContext(head, jsonColumn<NonNullable<PartsJson>>(row, 'content'));
  return { value, isKnown, seq, nowMs, feed };
}

function toItems(items: ItemJson[] | null): Context[] {
  return (items ?? [])
    .filter(({ head }) => head.state !== 'erased')
    .map(({ head, content }) => (content ? toContext(head, content) : toHead(head)));
}
