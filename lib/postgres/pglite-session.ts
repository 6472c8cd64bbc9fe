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

/** The session of a PGlite in this thread. */
export function createPgliteSession(pglite: PGliteInterface): PgliteSession {
  return {
    run: (statements) =>
      pglite.transaction(async (transaction) => {
        const answers: Row[][] = [];
        for (const statement of statements) answers.push(await query(transaction, statement));
        return answers;
      }),
    close: () => pglite.close(),
  };
}

async function query(transaction: Transaction, statement: Statement): Promise<Row[]> {
  const params = statement.params.map((param) => (param === null ? null : String(param)));
  const result = await transaction.query<Row>(statement.text, params, { parsers: asText, serializers });
  return result.rows;
}
