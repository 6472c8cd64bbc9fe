import { Problem } from '../base/problem.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';

/** What may be sent beside a statement; everything travels as text, binary as base64. */
export type Param = string | number | boolean | null;

export interface Statement {
  /** SQL with `$1`, `$2` … */
  readonly text: string;
  readonly params: readonly Param[];
}

/** A row as PostgreSQL prints it: each column's text, or null. Domain types are made where the statement lives. */
export type Row = Readonly<Record<string, string | null>>;

export interface RunOptions {
  /** Ends the wait; whether a write has happened is then unknown. */
  readonly signal?: (() => AbortSignal) | undefined;
  /** How much longer than others the call may take before it counts as unanswered, in milliseconds. */
  readonly patienceMs?: number | undefined;
  /** Hears of this call, beside whoever hears of all. */
  readonly telemetry?: Telemetry | undefined;
}

/** One way to the database. Each call is one request and one transaction, whatever the number of statements. */
export interface Door {
  /**
   * Runs the statements in order, all or none, and answers with the rows of each.
   *
   * @throws DatabaseError where PostgreSQL refuses a statement.
   * @throws Problem `unavailable` where PostgreSQL cannot be reached or does not answer in time.
   */
  run(statements: readonly Statement[], options?: RunOptions): Promise<Row[][]>;
}

/** Who comes through the door of a space. */
export interface Visitor {
  readonly space: string;
  /** Tells this space from any other that ever had its name; absent enters whichever has the name now. */
  readonly slot?: string | undefined;
  /** The key they show, which must be valid at the time of the call; absent for whoever needs none. */
  readonly keyId?: string | undefined;
}

/** The port to PostgreSQL. Drivers: `pglite.ts` (in the process, in a thread of its own), `neon.ts` (SQL over HTTP). */
export interface Database {
  /**
   * The door of one space: every call first takes the role that row-level security binds, and the space it may see.
   * Its calls throw Problem `unauthenticated` where the space of that slot, or the key, is no more.
   */
  in(visitor: Visitor): Door;
  /** Whether it runs in this process, on WebAssembly. */
  readonly isEmbedded: boolean;
  /** The owner's door, for spaces, the look-up of keys, and migrations alone. */
  readonly owner: Door;
  /** Loads what the first call needs, and asks nothing. */
  load(): Promise<void>;
  close(): Promise<void>;
}

/** PostgreSQL's refusal of a statement; the message is for logs, never for callers. */
export interface DatabaseError extends Error {
  readonly name: 'DatabaseError';
  /** SQLSTATE, five characters: https://www.postgresql.org/docs/current/errcodes-appendix.html */
  readonly sqlState: string;
  readonly detail: string | undefined;
  readonly constraint: string | undefined;
}

export function databaseError(from: RefusalFields): DatabaseError {
  return Object.assign(new Error(from.message), {
    name: 'DatabaseError' as const,
    sqlState: from.sqlState,
    detail: from.detail ?? undefined,
    constraint: from.constraint ?? undefined,
  });
}

interface RefusalFields {
  readonly message: string;
  readonly sqlState: string;
  readonly detail?: string | null | undefined;
  readonly constraint?: string | null | undefined;
}

// Lost connections, exhausted resources, shutdowns and failovers say nothing about the statement.
const unavailableStates = /^(08|53|57)|^25006$|^40003$/;

/** A token whose space was deleted is a token no more. */
export function spaceGone(): Problem {
  return new Problem('unauthenticated', 'The space of this token no longer exists.');
}

/** What a token that is unknown, revoked or expired is told. */
export function tokenInvalid(): Problem {
  return new Problem('unauthenticated', 'The bearer token is not valid: unknown, revoked or expired.');
}

/** Turns what a driver throws into what the port promises: a DatabaseError with its SQLSTATE, or `unavailable`. */
export function refuse(error: unknown): never {
  const { code, message, detail, constraint } = error as Partial<Record<string, string>>;
  // What comes too late for a space that is being removed: its clock moves no more, and no row may refer to it.
  if (code === 'LM003' || (code === '23503' && constraint?.endsWith('_space_id_fkey'))) throw spaceGone();
  if (code === 'LM004') throw tokenInvalid();
  if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code) || unavailableStates.test(code)) {
    throw databaseUnavailable(error);
  }
  throw databaseError({ message: message ?? 'refused', sqlState: code, detail, constraint });
}

export function isDatabaseError(error: unknown): error is DatabaseError {
  return error instanceof Error && error.name === 'DatabaseError';
}

export function databaseUnavailable(cause: unknown): Problem {
  return new Problem('unavailable', 'The database does not answer; try again in a moment.', {}, cause);
}

/** Binds a transaction to its space: row-level security sees its role and its setting, and both end with it. */
export function enterSpace({ space, slot, keyId }: Visitor): Statement {
  return { text: 'select enter($1, $2, $3)', params: [space, slot ?? null, keyId ?? null] };
}

/** Runs one statement and answers with its rows. */
export async function runOne(door: Door, statement: Statement, options?: RunOptions): Promise<Row[]> {
  const [rows = []] = await door.run([statement], options);
  return rows;
}
