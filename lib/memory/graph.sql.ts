import { decodeContent } from '../contexts/content.ts';
import { jsonColumn } from '../contexts/rows.ts';
import { isLiveNow, type LoadRequest, type Read, readSnapshot, seen } from '../contexts/snapshot.ts';
import type { Database, Row } from '../postgres/database.ts';
import { type Fragment, raw, sql } from '../postgres/sql.ts';

/** A context that belongs to the graph, with its content. */
export interface Node {
  readonly id: string;
  readonly version: number;
  readonly content: Uint8Array;
}

/** Which nodes: all; entities alone; or entities with every relation that begins or ends at one of them. */
export type Wanted = 'all' | { readonly entities: readonly string[]; readonly withRelations: boolean };

export interface Nodes {
  /** In order of creation; empty where they are too large together. */
  readonly nodes: readonly Node[];
  /** What all contents take. */
  readonly bytes: number;
  /** When the first of them expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

// Everything is found by its keys, one after another (`offset 0` sees to it): the planner may know nothing yet of tables
// that have just grown, and would compare all with all.
const withContext = ({ space }: LoadRequest) => sql`
  cross join lateral (select * from context c where c.space_id = ${space} and c.id = n.id offset 0) c`;
const withContent = ({ space }: LoadRequest) => sql`
  cross join lateral (select * from content p where p.space_id = ${space} and p.hash = node.hash offset 0) p`;

function nodesOf({ space }: LoadRequest, wanted: Wanted): Fragment {
  const of = sql`from memory_node n where n.space_id = ${space}`;
  if (wanted === 'all') return sql`(select n.id, n.position ${of})`;
  const { entities, withRelations } = wanted;
  const relations = sql`
    union all select n.id, n.position ${of} and n.from_id = asked.id
    union all select n.id, n.position ${of} and n.to_id = asked.id`;
  return sql`(
    select distinct n.* from jsonb_array_elements_text(${JSON.stringify(entities)}::jsonb) asked (id)
    cross join lateral (
      select n.id, n.position ${of} and n.id = asked.id ${withRelations ? relations : raw('')} offset 0
    ) n)`;
}

/** Reads nodes of the graph with their contents, as far as these are at most `bytesMax` together: one request. */
export async function readNodes(
  database: Database,
  request: LoadRequest,
  wanted: Wanted,
  bytesMax: number,
): Promise<Read<Nodes>> {
  const { row, ...read } = await readSnapshot(
    database,
    request,
    sql`with node as (
          select n.position, c.id, c.version, c.hash, c.size_bytes, c.expires_at
          from ${nodesOf(request, wanted)} n ${withContext(request)} where ${isLiveNow}
        ), total as (
          select coalesce(sum(size_bytes), 0) as bytes, min(expires_at) as expires_at from node
        )
        select ${seen(request)}, total.bytes, to_ms(total.expires_at) as expires_ms, case when total.bytes <= ${bytesMax} then (
          select jsonb_agg(jsonb_build_array(node.id, node.version, p.encoding, encode(p.bytes, 'base64')) order by node.position, p.part)
          from node ${withContent(request)}) end::text as parts
        from space s cross join total where s.id = ${request.space}`,
  );
  const expiresMs = row['expires_ms'] ? Number(row['expires_ms']) : null;
  return { ...read, value: { nodes: join(row), bytes: Number(row['bytes']), expiresMs } };
}

/** The ids of the relations that begin or end at one of the entities: one request. */
export async function readRelationIds(
  database: Database,
  request: LoadRequest,
  entityIds: readonly string[],
): Promise<readonly string[]> {
  const isEnd = sql`= any (array(select jsonb_array_elements_text(${JSON.stringify(entityIds)}::jsonb)))`;
  const of = sql`from memory_node n where n.space_id = ${request.space}`;
  const ids = sql`select n.id ${of} and n.from_id ${isEnd} union select n.id ${of} and n.to_id ${isEnd}`;
  const { row } = await readSnapshot(
    database,
    request,
    sql`select ${seen(request)}, (select jsonb_agg(id) from (${ids}) found)::text as ids
        from space s where s.id = ${request.space}`,
  );
  return jsonColumn<string[]>(row, 'ids') ?? [];
}

/** A stretch of the graph in order of creation. */
export interface NodePage {
  readonly nodes: readonly Node[];
  /** Where the next page begins; null at the end. */
  readonly next: number | null;
}

// What a page holds: so many nodes, and so many bytes unless the first has more.
const pageNodesMax = 1000;
const pageBytesMax = 4_194_304;

/** Reads entities, or relations, after a position, as many as a page holds: one request. */
export async function readNodePage(
  database: Database,
  request: LoadRequest,
  { of, after }: { readonly of: 'entities' | 'relations'; readonly after: number },
): Promise<NodePage> {
  const { row } = await readSnapshot(
    database,
    request,
    sql`with node as (
          select n.position, c.id, c.version, c.hash, sum(c.size_bytes) over (order by n.position) - c.size_bytes as before
          from memory_node n ${withContext(request)}
          where n.space_id = ${request.space} and n.position > ${after} and (n.from_id is null) = ${of === 'entities'}
            and ${isLiveNow}
          order by n.position limit ${pageNodesMax}
        ), page as (
          select * from node where before < ${pageBytesMax}
        )
        select ${seen(request)}, (select max(position) from page) as last, (
          select jsonb_agg(jsonb_build_array(node.id, node.version, p.encoding, encode(p.bytes, 'base64')) order by node.position, p.part)
          from page node ${withContent(request)})::text as parts
        from space s where s.id = ${request.space}`,
  );
  return { nodes: join(row), next: row['last'] ? Number(row['last']) : null };
}

/** The nodes of a row's `parts`; the parts of one content follow one another. */
function join(row: Row): Node[] {
  const parts = jsonColumn<[id: string, version: number, encoding: string, base64: string][]>(row, 'parts') ?? [];
  const nodes: { id: string; version: number; parts: [string, string][] }[] = [];
  for (const [id, version, encoding, base64] of parts) {
    const last = nodes.at(-1);
    if (last?.id === id) last.parts.push([encoding, base64]);
    else nodes.push({ id, version, parts: [[encoding, base64]] });
  }
  return nodes.map((node) => ({ id: node.id, version: node.version, content: decodeContent(node.parts) }));
}
