import type { Context } from '../contexts/context.ts';
import { type ContextFilter, filterConditions } from '../contexts/filter.ts';
import { type HeadJson, jsonColumn, type PartsJson, toContext } from '../contexts/rows.ts';
import { type LoadRequest, type Read, readSnapshot, seen } from '../contexts/snapshot.ts';
import type { Database } from '../postgres/database.ts';
import { type Fragment, join, sql } from '../postgres/sql.ts';

/** What a pack begins with, each list newest first. */
export interface PackBase {
  readonly project: Context | null;
  readonly instructions: readonly Context[];
  readonly notes: readonly Context[];
  readonly summaries: readonly Context[];
  /** When the next context of the space expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

interface ItemJson {
  head: HeadJson;
  content: PartsJson;
}

/**
 * The instructions, notes and summaries that a project may see, in one snapshot.
 *
 * @param of.scope leaves out what is another project's.
 * @param of.personal how the ids of notes begin that are for every project.
 * @param of.limit how many instructions and notes, and of.summaries how many of those.
 * @param of.contentBytes larger contents are left out.
 */
export async function readPackBase(
  database: Database,
  request: LoadRequest,
  of: {
    readonly scope: NonNullable<ContextFilter['scope']>;
    readonly personal: string;
    readonly limit: number;
    readonly summaries: number;
    readonly contentBytes: number;
  },
): Promise<Read<PackBase>> {
  const { space } = request;
  const items = (conditions: readonly Fragment[], limit: number) => sql`(
    select jsonb_agg(jsonb_build_object('head', to_head(node), 'content', content_parts((node).hash)) order by (node).updated_at desc, (node).id)
    from (select c as node from context c where ${join(conditions, ' and ')} and c.size_bytes <= ${of.contentBytes}
      order by c.updated_at desc, c.id limit ${limit}) newest)::text`;
  const live = filterConditions(space, {});
  // All ids that begin so are before it.
  const behind = `${of.personal}\uffff`;
  const inProject = sql`c.parent_id in (select p.id from context p where p.space_id = ${space} and p.parent_id = ${of.scope.root} and p.kind = 'session')`;
  const { row, ...read } = await readSnapshot(
    database,
    request,
    sql`select ${seen(request)},
        ${items([...live, sql`c.id = ${of.scope.root}`], 1)} as project,
        ${items([...filterConditions(space, { kind: 'instructions' }), sql`not is_of_others(c.id, ${of.scope.prefix}, ${of.scope.root})`], of.limit)} as instructions,
        ${items([...live, sql`c.kind = 'note' and (c.parent_id = ${of.scope.root} or (c.parent_id is null and c.id >= ${of.personal} and c.id < ${behind}))`], of.limit)} as notes,
        ${items([...live, sql`c.kind = 'summary'`, inProject], of.summaries)} as summaries,
        to_ms((select min(e.expires_at) from context e
          where e.space_id = s.id and e.state = 'live' and e.expires_at > statement_timestamp())) as expires_ms
      from space s where s.id = ${space}`,
  );
  const list = (name: string) =>
    (jsonColumn<ItemJson[]>(row, name) ?? []).map(({ head, content }) => toContext(head, content));
  const value = {
    project: list('project')[0] ?? null,
    instructions: list('instructions'),
    notes: list('notes'),
    summaries: list('summaries'),
    expiresMs: row['expires_ms'] ? Number(row['expires_ms']) : null,
  };
  return { ...read, value };
}
