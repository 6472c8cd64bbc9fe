import type { LogEvent, Telemetry } from '../lib/telemetry/telemetry.ts';

/** An event as it is printed. */
export type Line = { readonly level: LogEvent['level'] } & Readonly<Record<string, unknown>>;

/** Logs as one JSON line an event on standard error; engine calls are left to whoever counts them. */
export function createConsoleTelemetry(
  print: (line: Line) => void = (line) => console.error(JSON.stringify(line)),
): Telemetry {
  return {
    engineCall() {},
    cacheRead() {},
    syncRun() {},
    hookEvent() {},
    log(event: LogEvent) {
      const { error, facts, ...rest } = event;
      print({ at: new Date().toISOString(), ...rest, ...facts, ...(error === undefined ? {} : describe(error)) });
    },
  };
}

// A driver's error may carry the statement and its values, and what a server has answered it: the name, the code and where it
// arose are enough.
function describe(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { error: typeof error };
  const { name, stack } = error;
  const sqlState = 'sqlState' in error ? error.sqlState : undefined;
  const told = name === 'NeonDbError' ? /HTTP status \d{3}/.exec(error.message)?.[0] : error.message.slice(0, 300);
  const message = 'sqlState' in error ? undefined : told;
  const frames = stack?.split('\n').filter((line) => line.startsWith('    at '));
  return { error: { name, message, sqlState, stack: frames?.slice(0, 6).map((line) => line.trim()) } };
}
