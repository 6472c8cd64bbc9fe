import { type Database, runOne } from '../postgres/database.ts';
import { type Fragment, sql, toStatement } from '../postgres/sql.ts';
import type { RequestContext } from './request.ts';
import { jsonColumn } from './rows.ts';
import type { Idempotency } from './written.ts';

/** What is recorded under a key: the first answer, or until when the work for it is under way. */
export type Recorded = { readonly body: string } | { readonly until: number };

const ask = (database: Database, request: RequestContext, fragment: Fragment) =>
  runOne(database.in(request), toStatement(fragment), request);

/**
 * Takes the key for work that may take so long, see `begin_work` of `migrations/functions/03-keys-of-requests.sql`.
 *
 * @returns what another request has recorded for the same work, null where that was other work; undefined where the key is taken now.
 */
export async function beginWork(
  database: Database,
  request: RequestContext,
  idempotency: Idempotency,
  seconds: number,
): Promise<Recorded | null | undefined> {
  const [row = {}] = await ask(
    database,
    request,
    sql`select begin_work(${JSON.stringify(idempotency)}::jsonb, ${seconds}::double precision)::text as answer`,
  );
  return jsonColumn<{ recorded: Recorded | null }>(row, 'answer')?.recorded;
}

export async function endWork(
  database: Database,
  request: RequestContext,
  idempotency: Idempotency,
  body: string,
): Promise<void> {
  const answer = JSON.stringify({ body });
  await ask(database, request, sql`select keep_answer(${JSON.stringify(idempotency)}::jsonb, ${answer}::jsonb)`);
}

/** Lets the key be used again. */
export async function dropWork(database: Database, request: RequestContext, idempotency: Idempotency): Promise<void> {
  await ask(database, request, sql`select release_key(${JSON.stringify(idempotency)}::jsonb)`);
}
