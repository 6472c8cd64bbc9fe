import { noTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import { type Database, type Door, enterSpace, type Row, refuse, type Statement } from './database.ts';
import { metered } from './metered.ts';

/** The one session that a PGlite has, in whichever thread it runs. */
export interface PgliteSession {
  /**
   * Runs the statements in one transaction, after those of earlier calls.
   *
   * @throws Error with the SQLSTATE as `code`, and without where PGlite itself has failed.
   */
  run(statements: readonly Statement[]): Promise<Row[][]>;
  close(): Promise<void>;
}

/** The database on PGlite: one session, so calls wait for one another. */
export function createPgliteDatabase(deps: { session: PgliteSession; telemetry?: Telemetry }): Database {
  const { session, telemetry = noTelemetry } = deps;

  function door(first: Statement | undefined): Door {
    return metered(telemetry, {
      async run(statements, options) {
        const work = session.run(first === undefined ? statements : [first, ...statements]);
        const answers = await unlessAborted(work, options?.signal?.()).catch(refuse);
        return first === undefined ? answers : answers.slice(1);
      },
    });
  }

  return {
    in: (visitor) => door(enterSpace(visitor)),
    owner: door(undefined),
    isEmbedded: true,
    load: async () => {},
    close: () => session.close(),
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
