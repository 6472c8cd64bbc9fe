import type { Database, Row, Statement } from '../../lib/postgres/database.ts';

/** A database whose doors leave each call to `around`: it runs the call, before, after or instead of what else it does. */
export function intercept(
  database: Database,
  around: (run: () => Promise<Row[][]>, statements: readonly Statement[]) => Promise<Row[][]>,
): Database {
  return {
    ...database,
    in(visitor) {
      const door = database.in(visitor);
      return { run: async (statements, options) => around(() => door.run(statements, options), statements) };
    },
  };
}

/** A call that others wait to see begin, and that goes on when they let it. */
export interface Gate {
  /** For the call: says that it has come this far, and waits. */
  pass(): Promise<void>;
  /** For the others. */
  readonly isReached: Promise<void>;
  release(): void;
}

export function createGate(): Gate {
  const [reached, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  return {
    pass() {
      reached.resolve();
      return held.promise;
    },
    isReached: reached.promise,
    release: held.resolve,
  };
}
