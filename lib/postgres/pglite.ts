import { type PGliteInterface, type Transaction, types } from '@electric-sql/pglite';
import { noTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import { type Database, type Door, enterSpace, type Row, refuse, type Statement } from './database.ts';
import { metered } from './metered.ts';

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

/** The database in the process, on PGlite: one session, so calls wait for one another. */
export function createPgliteDatabase(deps: { pglite: PGliteInterface; telemetry?: Telemetry }): Database {
  const { pglite, telemetry = noTelemetry } = deps;

  function door(first: Statement | undefined): Door {
    return metered(telemetry, {
      run(statements, options) {
        const work = pglite.transaction(async (transaction) => {
          if (first !== undefined) await query(transaction, first);
          const answers: Row[][] = [];
          for (const statement of statements) answers.push(await query(transaction, statement));
          return answers;
        });
        return unlessAborted(work, options?.signal?.()).catch(refuse);
      },
    });
  }

  return {
    in: (visitor) => door(enterSpace(visitor)),
    owner: door(undefined),
    isEmbedded: true,
    load: async () => {},
    close: () => pglite.close(),
  };
}

/** Ends the wait, not the work: what has begun in the one session goes on. */
function unlessAborted<Value>(work: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

async function query(transaction: Transaction, statement: Statement): Promise<Row[]> {
  const params = statement.params.map((param) => (param === null ? null : String(param)));
  const result = await transaction.query<Row>(statement.text, params, { parsers: asText, serializers });
  return result.rows;
}
