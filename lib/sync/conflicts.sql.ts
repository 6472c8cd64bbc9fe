import type { RequestContext } from '../contexts/request.ts';
import { jsonColumn, spaceRow } from '../contexts/rows.ts';
import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';
import type { StoredValue } from './bases.sql.ts';

/** Where the sides of a conflict collide, values as JSON text. */
export interface CollisionEntry {
  readonly path: string;
  readonly base?: string;
  readonly ours?: string;
  readonly theirs?: string;
}

/** A conflict as it is kept. */
export interface StoredConflict {
  readonly id: string;
  readonly peer: string;
  readonly contextId: string;
  /** The values, null for a side that has nothing; all null once it is settled. */
  readonly base: StoredValue | null;
  readonly ours: StoredValue | null;
  readonly theirs: StoredValue | null;
  /** The version that ours was; 0 where there was none. */
  readonly oursVersion: number;
  readonly paths: readonly CollisionEntry[];
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly settledMs: number | null;
  readonly settlement: { readonly choose: string | null; readonly actor?: RequestContext['actor'] } | null;
}

/** One page of conflicts, oldest first, or the one of an id: one request. */
export async function readConflicts(
  database: Database,
  request: RequestContext,
  page:
    | {
        readonly peer?: string | undefined;
        readonly isOpen: boolean;
        readonly after?: string | undefined;
        readonly limit: number;
      }
    | { readonly id: string },
): Promise<{ items: StoredConflict[]; seq: number }> {
  const which =
    'id' in page
      ? sql` and c.id = ${page.id}`
      : sql` and (c.settled_at is null) = ${page.isOpen}${page.after === undefined ? raw('') : sql` and c.id > ${page.after}`}${
          page.peer === undefined ? raw('') : sql` and c.peer = ${page.peer}`
        }`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, (select jsonb_agg(jsonb_build_object('id', id, 'peer', peer, 'contextId', context_id, 'base', base,
          'ours', ours, 'theirs', theirs, 'oursVersion', ours_version, 'paths', paths, 'createdMs', to_ms(created_at),
          'updatedMs', to_ms(updated_at), 'settledMs', to_ms(settled_at), 'settlement', settlement) order by id) from (
        select * from conflict c where c.space_id = s.id${which} order by c.id limit ${'id' in page ? 1 : page.limit}
      ) page)::text as conflicts from space s where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  return { items: jsonColumn<StoredConflict[]>(row, 'conflicts') ?? [], seq: Number(row['clock']) };
}

/**
 * The statement that settles a conflict, where `version` is not null only if its own transaction has made that version, for a transaction of its own or beside the write that settles it. It breaks with
 * `LM007` where somebody else has settled it.
 */
export function settleConflict(
  id: string,
  settlement: { readonly choose: string; readonly actor: RequestContext['actor'] },
  version: number | null,
): Statement {
  return toStatement(sql`select settle_conflict(${id}, ${JSON.stringify(settlement)}::jsonb, ${version}::integer)`);
}
