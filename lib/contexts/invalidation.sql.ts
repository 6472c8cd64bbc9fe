import { type Database, runOne } from '../postgres/database.ts';
import { sql, toStatement } from '../postgres/sql.ts';
import type { RequestContext } from './request.ts';
import { type ChangeJson, jsonColumn, spaceRow } from './rows.ts';
import type { Idempotency } from './written.ts';

/** What an invalidation is told of: items, everything, or a regular expression over ids in a range. */
export type Covered =
  | { readonly items: readonly string[] }
  | { readonly all: true }
  | { readonly pattern: string; readonly from: string; readonly below: string | null };

export interface InvalidateAnswer {
  readonly clock: number;
  readonly changes?: ChangeJson[];
  readonly recorded?: { readonly clock: number } | null;
}

/** One tick that touches what is covered; see `migrations/functions/09-invalidation.sql`. */
export async function invalidate(
  database: Database,
  request: RequestContext,
  covered: Covered,
  idempotency: Idempotency | undefined,
): Promise<InvalidateAnswer> {
  const options = { ...idempotency, actor: request.actor, origin: request.actor.kind };
  const rows = await runOne(
    database.in(request),
    toStatement(
      sql`select invalidate(${JSON.stringify(covered)}::jsonb, ${JSON.stringify(options)}::jsonb)::text as answer`,
    ),
    request,
  );
  return jsonColumn<InvalidateAnswer>(spaceRow(rows, request), 'answer') as InvalidateAnswer;
}
