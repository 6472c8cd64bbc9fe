import { type Database, runOne, type Statement } from '../postgres/database.ts';
import { sql, toStatement } from '../postgres/sql.ts';
import type { RequestContext } from './request.ts';

/** Where the follower stands; 0 for one that never moved. */
export async function readCursor(database: Database, request: RequestContext, name: string): Promise<number> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select cursor from follower where space_id = ${request.space} and name = ${name}`),
    request,
  );
  return Number(rows[0]?.['cursor'] ?? 0);
}

/** Moves the cursor, or breaks the transaction it stands in when another instance has moved it first. */
export function moveCursor(name: string, from: number, to: number): Statement {
  return toStatement(sql`select move_cursor(${name}, ${from}::bigint, ${to}::bigint)`);
}
