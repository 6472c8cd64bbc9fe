import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../lib/unified-context-manager.ts';

/**
 * Runs the schedules of a process that stays: cleanup every `schedules.cleanupMinutes`. A run that is still going when
 * the next is due is not doubled.
 *
 * @returns what stops them.
 */
export function runSchedules(manager: UnifiedContextManager, telemetry: Telemetry): () => void {
  const periodMs = manager.settings.schedules.cleanupMinutes * 60_000;
  if (periodMs === 0) return () => {};
  let isRunning = false;
  const timer = setInterval(async () => {
    if (isRunning) return;
    isRunning = true;
    try {
      await manager.cleanup({ budgetMs: Math.min(periodMs / 2, 60_000) });
    } catch (error) {
      telemetry.log({ level: 'error', event: 'cleanup.failed', error });
    } finally {
      isRunning = false;
    }
  }, periodMs);
  return () => clearInterval(timer);
}
