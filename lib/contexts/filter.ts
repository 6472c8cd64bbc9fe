import { sha256 } from '../base/hash.ts';
import { type JsonNumber, printJson } from '../base/json.ts';
import { type Fragment, sql } from '../postgres/sql.ts';
import { isLiveNow } from './snapshot.ts';

/** A number as it was spelled, within 10^±308, so that nothing of it is rounded. */
export type FilterNumber = JsonNumber;

/** What a member of metadata may be compared with; numbers with numbers, texts with texts by their bytes. */
export interface Range {
  readonly gt?: string | FilterNumber | undefined;
  readonly gte?: string | FilterNumber | undefined;
  readonly lt?: string | FilterNumber | undefined;
  readonly lte?: string | FilterNumber | undefined;
}

/** What contexts may be narrowed by; every member narrows further. */
export interface ContextFilter {
  readonly ids?: readonly string[] | undefined;
  readonly parentId?: string | undefined;
  readonly subtreeOf?: string | undefined;
  /**
   * Leaves out what belongs to others: contexts whose ids begin with `prefix`, and whatever lies below them, but for `root` and
   * what lies below that.
   */
  readonly scope?: { readonly prefix: string; readonly root: string } | undefined;
  readonly kind?: string | undefined;
  readonly updatedSinceMs?: number | undefined;
  readonly updatedBeforeMs?: number | undefined;
  /** Text at a path of the metadata, or membership of an array there. */
  readonly metadata?: readonly { readonly path: readonly string[]; readonly value: string }[] | undefined;
  /** A scalar at a path, or in an array there, numbers by their value. */
  readonly equal?:
    | readonly { readonly path: readonly string[]; readonly value: string | FilterNumber | boolean }[]
    | undefined;
  readonly ranges?: readonly { readonly path: readonly string[]; readonly range: Range }[] | undefined;
}

/** The conditions that a row `c` of the table of contexts has to meet, that it is alive among them. */
export function filterConditions(space: string, filter: ContextFilter): Fragment[] {
  const conditions = [sql`c.space_id = ${space} and ${isLiveNow}`];
  const { ids, parentId, subtreeOf, kind, updatedSinceMs, updatedBeforeMs } = filter;
  if (ids !== undefined) {
    conditions.push(sql`c.id = any (array(select jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb)))`);
  }
  if (parentId !== undefined) conditions.push(sql`c.parent_id = ${parentId}`);
  if (kind !== undefined) conditions.push(sql`c.kind = ${kind}`);
  if (updatedSinceMs !== undefined) conditions.push(sql`c.updated_at >= ${toTime(updatedSinceMs)}`);
  if (updatedBeforeMs !== undefined) conditions.push(sql`c.updated_at < ${toTime(updatedBeforeMs)}`);
  for (const { path, value } of filter.metadata ?? []) conditions.push(textCondition(space, path, value));
  for (const { path, value } of filter.equal ?? []) conditions.push(equalCondition(space, path, value));
  for (const { path, range } of filter.ranges ?? []) conditions.push(...rangeConditions(path, range));
  if (subtreeOf !== undefined) conditions.push(subtreeCondition(space, subtreeOf));
  if (filter.scope !== undefined) conditions.push(scopeCondition(filter.scope));
  return conditions;
}

export const toTime = (ms: number) => sql`to_timestamp(${ms}::double precision / 1000)`;

const keysOf = (path: readonly string[]) =>
  sql`array(select jsonb_array_elements_text(${JSON.stringify(path)}::jsonb))`;

// The terms can be looked up; the comparison after them is the exact meaning.
const hasTerm = (space: string, path: readonly string[], value: string) =>
  sql`c.id in (select m.id from context_term m where m.space_id = ${space} and m.term = ${toTerm(path, value)})`;

function textCondition(space: string, path: readonly string[], value: string): Fragment {
  const keys = keysOf(path);
  return sql`${hasTerm(space, path, value)} and (
    c.metadata #>> ${keys} = ${value}
    or jsonb_typeof(c.metadata #> ${keys}) = 'array'
      and exists (select from jsonb_array_elements_text(c.metadata #> ${keys}) as element where element = ${value}))`;
}

function equalCondition(space: string, path: readonly string[], value: string | FilterNumber | boolean): Fragment {
  const isEqual = sql`(c.metadata #> ${keysOf(path)}) @> ${printJson(value)}::jsonb`;
  // A number has many spellings, of which the terms know the one that was written.
  return typeof value === 'object' ? isEqual : sql`${hasTerm(space, path, String(value))} and ${isEqual}`;
}

function rangeConditions(path: readonly string[], range: Range): Fragment[] {
  const keys = keysOf(path);
  const [gt, gte, lt, lte] = [sql`>`, sql`>=`, sql`<`, sql`<=`];
  const bounds = [
    [gt, range.gt],
    [gte, range.gte],
    [lt, range.lt],
    [lte, range.lte],
  ] as const;
  return bounds.flatMap(([operator, bound]) => {
    if (bound === undefined) return [];
    return typeof bound === 'object'
      ? sql`case jsonb_typeof(c.metadata #> ${keys}) when 'number' then (c.metadata #>> ${keys})::numeric ${operator} ${bound.number}::numeric else false end`
      : sql`case jsonb_typeof(c.metadata #> ${keys}) when 'string' then (c.metadata #>> ${keys}) collate "C" ${operator} ${bound} else false end`;
  });
}

function subtreeCondition(space: string, root: string): Fragment {
  return sql`c.id in (
    with recursive under (id) as (
      select c.id from context c where c.space_id = ${space} and c.parent_id = ${root} and ${isLiveNow}
        and exists (select from context c where c.space_id = ${space} and c.id = ${root} and ${isLiveNow})
      union
      select c.id from under join context c on c.space_id = ${space} and c.parent_id = under.id and ${isLiveNow}
    ) select id from under)`;
}

// A function, so that the planner takes them for few, and looks each up in a hash.
const scopeCondition = ({ prefix, root }: NonNullable<ContextFilter['scope']>): Fragment =>
  sql`c.id not in (select ids_of_others(${prefix}, ${root}))`;

/** As the SQL function `metadata_terms` makes them. */
function toTerm(path: readonly string[], value: string): string {
  const term = `${path.join('.')}=${value}`;
  return Buffer.byteLength(term) > 200 ? sha256(term) : term;
}
