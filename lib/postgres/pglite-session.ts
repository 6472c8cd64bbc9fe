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

// The log may grow by this much before a checkpoint, which is looked at once in so many transactions.
const logBytesMax = 67_108_864;
const looksEach = 100;

/** The session of a PGlite in this thread. */
export function createPgliteSession(pglite: PGliteInterface): PgliteSession {
  let transactions = 0;

  /** PostgreSQL leaves this to a process that PGlite has none of: the log would grow until it is closed, and so would a recovery. */
  async function checkpoint(): Promise<void> {
    const { rows } = await pglite.query<{ bytes: number }>(
      'select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn)::float8 as bytes from pg_control_checkpoint()',
    );
    if ((rows[0]?.bytes ?? 0) >= logBytesMax) await pglite.exec('checkpoint');
  }

  return {
    run(statements) {
      const answer = pglite.transaction(async (transaction) => {
        const answers: Row[][] = [];
        for (const statement of statements) answers.push(await query(transaction, statement));
        return answers;
      });
      // Nobody waits for it, and where it fails nothing is lost: the log has it all.
      if (++transactions % looksEach === 0) answer.then(checkpoint).catch(() => {});
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
