import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../lib/unified-context-manager.ts';

type Task = 'warm' | 'cleanup' | 'reconcile' | 'index' | 'synchronise' | 'work';

// Time to answer those who waited for the start before the caches are filled for the others.
const firstWarmMs = 2000;
const firstIndexMs = 500;
const firstSyncMs = 1000;
const firstWorkMs = 200;

/**
 * Runs the schedules of a process that stays: cleanup, warming, reconciliation, indexing, synchronisation and the work on hook
 * events, each in its own period, and the last three and warming once soon after the start; what is written here is indexed as it
 * is written, and brought to the peers soon after, and events received here are worked at once. A run that is still going when the next is due is not doubled.
 *
 * @returns what stops them, and waits for the runs that are going on.
 */
export function runSchedules(manager: UnifiedContextManager, telemetry: Telemetry): () => Promise<void> {
  const { schedules } = manager.settings;
  const { cleanupMinutes, warmMinutes, reconcileMinutes, indexMinutes, syncMinutes, factoryMinutes } = schedules;
  const running = new Map<Task, Promise<void>>();
  const timers: NodeJS.Timeout[] = [];

  async function run(task: Task, budgetMs: number): Promise<void> {
    try {
      await manager[task]({ budgetMs });
    } catch (error) {
      telemetry.log({ level: 'error', event: `${task}.failed`, error });
    }
    running.delete(task);
  }

  function every(task: Task, minutes: number, firstMs?: number): void {
    if (minutes === 0) return;
    const periodMs = minutes * 60_000;
    const begin = () => {
      if (!running.has(task)) running.set(task, run(task, Math.min(periodMs / 2, 60_000)));
    };
    timers.push(setInterval(begin, periodMs));
    if (firstMs !== undefined) timers.push(setTimeout(begin, firstMs));
  }

  every('cleanup', cleanupMinutes);
  every('warm', warmMinutes, firstWarmMs);
  every('reconcile', reconcileMinutes);
  every('index', indexMinutes, firstIndexMs);
  every('synchronise', syncMinutes, firstSyncMs);
  every('work', factoryMinutes, firstWorkMs);
  const stops = [manager.search.indexing.follow(), manager.sync.follow(), manager.factory.follow()];
  return async () => {
    for (const timer of timers) clearTimeout(timer);
    await Promise.all([...running.values(), ...stops.map((stop) => stop())]);
  };
}
