import type { Telemetry } from '../telemetry/telemetry.ts';
import { type Door, isDatabaseError, type Row, type Statement } from './database.ts';

/** A door that reports each request: one event a call, whatever the number of statements. */
export function metered(telemetry: Telemetry, door: Door): Door {
  return {
    async run(statements, options) {
      const started = performance.now();
      let outcome: 'ok' | 'refused' | 'unavailable' = 'unavailable';
      let receivedBytes = 0;
      try {
        const answers = await door.run(statements, options);
        outcome = 'ok';
        receivedBytes = answers.reduce((sum, rows) => sum + rows.reduce((inner, row) => inner + rowBytes(row), 0), 0);
        return answers;
      } catch (error) {
        if (isDatabaseError(error)) outcome = 'refused';
        throw error;
      } finally {
        const durationMs = performance.now() - started;
        const sentBytes = statements.reduce((sum, statement) => sum + statementBytes(statement), 0);
        const call = { engine: 'postgres', durationMs, sentBytes, receivedBytes, outcome } as const;
        telemetry.engineCall(call);
        options?.telemetry?.engineCall(call);
      }
    },
  };
}

function statementBytes(statement: Statement): number {
  return statement.params.reduce<number>(
    (sum, param) => sum + (typeof param === 'string' ? param.length : 8),
    statement.text.length,
  );
}

function rowBytes(row: Row): number {
  let bytes = 0;
  for (const column in row) bytes += row[column]?.length ?? 0;
  return bytes;
}
