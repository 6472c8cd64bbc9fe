import type { VersionEntry } from '../contexts/context.ts';
import type { Precondition } from '../contexts/operation.ts';
import type { RequestContext } from '../contexts/request.ts';
import { type ChangeJson, type HeadJson, jsonColumn, spaceRow, toVersionEntry } from '../contexts/rows.ts';
import type { Idempotency } from '../contexts/written.ts';
import { type Database, runOne } from '../postgres/database.ts';
import { raw, sql, toStatement } from '../postgres/sql.ts';

/** One page of versions, newest first, from below `before` on. */
export async function readVersions(
  database: Database,
  request: RequestContext,
  page: { readonly id: string; readonly before?: number | undefined; readonly limit: number },
): Promise<{ seq: number; isKnown: boolean; items: VersionEntry[]; hasMore: boolean }> {
  const below = page.before === undefined ? raw('') : sql` and v.version < ${page.before}`;
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, c.version is not null and c.state <> 'erased' as is_known, (
        select jsonb_agg(to_version(row, c) order by (row).version desc) from (
          select v as row from context_version v where v.space_id = s.id and v.id = ${page.id}${below}
          order by v.version desc limit ${page.limit + 1}
        ) page)::text as versions
      from space s left join context c on c.space_id = s.id and c.id = ${page.id} where s.id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  const items = (jsonColumn<HeadJson[]>(row, 'versions') ?? []).map(toVersionEntry);
  return {
    seq: Number(row['clock']),
    isKnown: row['is_known'] === 't',
    items: items.slice(0, page.limit),
    hasMore: items.length > page.limit,
  };
}

/** Pins a version or lets it go; `version` is null where there is none, `isRecorded` when the key was used before. */
export async function pinVersion(
  database: Database,
  request: RequestContext,
  pin: { readonly id: string; readonly version: number; readonly isPinned: boolean },
  options: Partial<Idempotency>,
): Promise<{ seq: number; isKnown: boolean; version: VersionEntry | null; recorded?: unknown }> {
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select pin_version(${pin.id}, ${pin.version}, ${pin.isPinned}, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  const answer = jsonColumn<{ clock: number; known?: boolean; version?: HeadJson | null; recorded?: unknown }>(
    spaceRow(rows, request),
    'answer',
  );
  return {
    seq: answer?.clock ?? 0,
    isKnown: answer?.known ?? false,
    version: answer?.version ? toVersionEntry(answer.version) : null,
    ...(answer !== null && 'recorded' in answer ? { recorded: answer.recorded } : {}),
  };
}

export interface EraseOptions extends Partial<Idempotency> {
  readonly actor: RequestContext['actor'];
  readonly origin: string;
  readonly auditId: string;
  readonly retained: number;
  readonly retainedDays: number | null;
  readonly cascade: number;
}

export type EraseAnswer = {
  readonly clock: number;
  readonly children?: string[];
  readonly head?: HeadJson;
  readonly changes?: ChangeJson[];
} & (
  | {
      readonly outcome: 'erased';
      readonly versions: number;
      readonly entries: number;
      readonly chunks: number;
      readonly peers: string[];
    }
  | { readonly outcome: 'not_found' | 'has_children' | 'stale' | 'cascade_too_large' }
  | {
      readonly outcome?: undefined;
      readonly recorded: {
        outcome: 'erased';
        versions: number;
        entries?: number;
        chunks?: number;
        peers?: string[];
      } | null;
    }
);

/** Erases a context for good; see `migrations/functions/05-history.sql`. */
export async function eraseContext(
  database: Database,
  request: RequestContext,
  erase: Precondition & { readonly id: string; readonly children: 'fail' | 'delete' | 'orphan' },
  options: EraseOptions,
): Promise<EraseAnswer> {
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select erase_context(${JSON.stringify(erase)}::jsonb, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  return jsonColumn<EraseAnswer>(spaceRow(rows, request), 'answer') as EraseAnswer;
}
