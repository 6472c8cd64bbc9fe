import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../lib/unified-context-manager.ts';

/**
 * Runs the schedules of a process that stays: cleanup every `schedules.cleanupMinutes`. A run that is still going when
 * the next is due is not doubled.
 *
 * @returns what stops them, and waits for the run that is going on.
 */
export function runSchedules(manager: UnifiedContextManager, telemetry: Telemetry): () => Promise<void> {
  const periodMs = manager.settings.schedules.cleanupMinutes * 60_000;
  let running: Promise<void> | undefined;
  const run = async () => {
    try {
      await manager.cleanup({ budgetMs: Math.min(periodMs / 2, 60_000) });
    } catch (error) {
      telemetry.log({ level: 'error', event: 'cleanup.failed', error });
    }
    running = undefined;
  };
  if (periodMs === 0) return async () => {};
  const timer = setInterval(() => {
    running ??= run();
  }, periodMs);
  return async () => {
    clearInterval(timer);
    await running;
  };
}
