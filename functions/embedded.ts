import { Worker } from 'node:worker_threads';
import type { Database, Row } from '../lib/postgres/database.ts';
import { createPgliteDatabase, type PgliteSession } from '../lib/postgres/pglite.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import type { Asked, Failure, Opening, Told } from './embedded-thread.ts';

/** PostgreSQL in the process, its schema up to date. */
export interface Embedded {
  readonly database: Database;
  readonly session: PgliteSession;
}

/**
 * Opens the embedded database in `folder`, or in memory where there is none, in a thread of its own: while it works, this
 * one answers what the caches know. The process may end while it is open, unless something is waited for.
 *
 * @throws Error where it cannot be opened.
 */
export async function openEmbedded(deps: {
  folder?: string | undefined;
  migrations: string;
  snapshots: string;
  telemetry: Telemetry;
  /** Hears what is being waited for. */
  progress?: (what: string) => void;
}): Promise<Embedded> {
  const { folder, migrations, snapshots, telemetry, progress = () => {} } = deps;
  const opening: Opening = { folder, migrations, snapshots };
  const thread = new Worker(new URL('./embedded-thread.ts', import.meta.url), { workerData: opening });
  const onEnd = (error: Error) => telemetry.log({ level: 'error', event: 'database.ended', error });
  const session = await openSession(thread, { progress, onEnd });
  return { database: createPgliteDatabase({ session, telemetry }), session };
}

/**
 * The session of a PGlite in `thread`, once that has opened it.
 *
 * @param of.onEnd hears of the end of a thread that was not closed.
 * @throws Error where it cannot be opened.
 */
export async function openSession(
  thread: Worker,
  { progress, onEnd }: { progress: (what: string) => void; onEnd: (error: Error) => void },
): Promise<PgliteSession> {
  const waiting = new Map<number, PromiseWithResolvers<Row[][]>>();
  const opened = Promise.withResolvers<void>();
  let last = 0;
  let ended: Error | undefined;
  let isOpen = false;

  function settle(id: number, how: (one: PromiseWithResolvers<Row[][]>) => void): void {
    const one = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0 && isOpen) thread.unref();
    if (one !== undefined) how(one);
  }

  function end(error: Error): void {
    ended ??= error;
    opened.reject(error);
    if (isOpen) onEnd(error);
    isOpen = false;
    for (const id of waiting.keys()) settle(id, ({ reject }) => reject(error));
  }

  thread.on('error', end);
  thread.on('exit', () => end(new Error('The embedded database has ended.')));
  thread.on('message', (told: Told) => {
    if ('progress' in told) progress(told.progress);
    else if ('opened' in told) told.opened === null ? opened.resolve() : opened.reject(toError(told.opened));
    else if ('failure' in told) settle(told.id, ({ reject }) => reject(toError(told.failure)));
    else settle(told.id, ({ resolve }) => resolve(told.answers));
  });
  await opened.promise;
  isOpen = true;
  thread.unref();

  const ask = (asked: Asked) => thread.postMessage(asked);
  return {
    run(statements) {
      if (ended !== undefined) return Promise.reject(ended);
      const answer = Promise.withResolvers<Row[][]>();
      waiting.set(++last, answer);
      thread.ref();
      ask({ id: last, statements });
      return answer.promise;
    },
    async close() {
      if (!isOpen) return;
      isOpen = false;
      ended = new Error('The embedded database is closed.');
      const exit = new Promise((resolve) => thread.once('exit', resolve));
      thread.ref();
      ask('close');
      await exit;
    },
  };
}

const toError = ({ message, ...fields }: Failure) => Object.assign(new Error(message), fields);
