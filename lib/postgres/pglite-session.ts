import { type PGliteInterface, type Transaction, types } from '@electric-sql/pglite';
import type { Row, Statement } from './database.ts';
import type { PgliteSession } from './pglite.ts';

// PGlite would turn columns into JavaScript values and parameters into text by their types; here both are text already.
const asText = Object.fromEntries(
  Object.values(types)
    .filter((type) => typeof type === 'number')
    .map((oid) => [oid, (text: string) => text]),
);
// PGlite counts the bytes of a text one by one. Those of these two types are the same in PostgreSQL's binary form, which it
// takes as it is, whatever its declaration says.
const toBytes = (text: string) => Buffer.from(text) as unknown as string;
const serializers = { ...asText, [types.TEXT]: toBytes, [types.JSON]: toBytes };

// What is looked at once in so many transactions. PostgreSQL leaves it to processes of which PGlite has none.
const looksEach = 100;
// The log may grow by this much before a checkpoint.
const logBytesMax = 67_108_864;
// Tables whose file, or that of their large values, has grown by half, and by 64 KiB, since it was last looked through.
const grownTables = `select quote_ident(c.relname) as name from pg_class c left join pg_class t on t.oid = c.reltoastrelid
  where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and (pg_relation_size(c.oid) > 8192 * (8 + 1.5 * c.relpages)
    or pg_relation_size(t.oid) > 8192 * (8 + 1.5 * t.relpages))`;

/** The session of a PGlite in this thread. */
export function createPgliteSession(pglite: PGliteInterface): PgliteSession {
  let transactions = 0;
  let isMaintaining = false;

  /** One after another, each again at the next look where it has failed. */
  async function maintain(): Promise<void> {
    if (isMaintaining) return;
    isMaintaining = true;
    await checkpoint().catch(() => {});
    await vacuum().catch(() => {});
    isMaintaining = false;
  }

  /** Without, the log would grow until it is closed, and so would a recovery. */
  async function checkpoint(): Promise<void> {
    const { rows } = await pglite.query<{ bytes: number }>(
      'select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn)::float8 as bytes from pg_control_checkpoint()',
    );
    if ((rows[0]?.bytes ?? 0) >= logBytesMax) await pglite.exec('checkpoint');
  }

  /** Without, the room of what was replaced would never be used again, and the planner would take each space for a few rows. */
  async function vacuum(): Promise<void> {
    const { rows } = await pglite.query<{ name: string }>(grownTables);
    if (rows.length === 0) return;
    // A tenth of the usual sample, which takes a tenth of the time, in which nobody is answered.
    await pglite.exec('set default_statistics_target = 10');
    for (const { name } of rows) await pglite.exec(`vacuum (analyze) ${name}`).catch(() => {});
  }

  return {
    run(statements) {
      const answer = pglite.transaction(async (transaction) => {
        const answers: Row[][] = [];
        for (const statement of statements) answers.push(await query(transaction, statement));
        return answers;
      });
      // Nobody waits for it, and where it fails nothing is lost: the log has it all, and room is only used later.
      if (++transactions % looksEach === 0) answer.then(maintain, maintain);
      return answer;
    },
    close: () => pglite.close(),
  };
}

async function query(transaction: Transaction, statement: Statement): Promise<Row[]> {
  const params = statement.params.map((param) => (param === null ? null : String(param)));
  const result = await transaction.query<Row>(statement.text, params, { parsers: asText, serializers });
  return result.rows;
}
