import { createFunction, type Made } from './functions.ts';
import { ordering, type Running } from './running.ts';
import type { Stage } from './stage.ts';

// A step that was begun before the budget of its run was over is carried out; what is killed, the next run goes on with.
const runSeconds = 300;

/** What `npm start` runs on its own timers, by EventBridge Scheduler, in the same periods: see functions/schedules.ts. */
export function createSchedules(stage: Stage, running: Running): Made {
  const { settings, isProduction } = stage;
  const made = createFunction(stage, 'Schedule', {
    ...ordering(running),
    entry: 'schedule',
    description: 'Runs a task of the schedules in all spaces',
    memory: '1024 MB',
    seconds: runSeconds,
    // The next run of the same task comes by itself.
    retries: 0,
  });
  const { cleanupMinutes, warmMinutes, reconcileMinutes, indexMinutes, syncMinutes, factoryMinutes } =
    settings.schedules;
  const every = (name: string, task: string, minutes: number) => {
    if (minutes === 0) return;
    const whole = Math.max(Math.round(minutes), 1);
    new sst.aws.CronV2(name, {
      function: made.fn,
      schedule: whole === 1 ? 'rate(1 minute)' : `rate(${whole} minutes)`,
      event: { task, budgetMs: Math.min((whole * 60_000) / 2, 60_000) },
      retries: 2,
      dlq: running.queues.scheduleDead.arn,
      // A database that is asked every few minutes never sleeps, and is paid for day and night. Elsewhere orders have to do.
      enabled: isProduction || task === 'cleanup',
    });
  };
  every('Cleanup', 'cleanup', cleanupMinutes);
  every('Warm', 'warm', warmMinutes);
  every('Reconcile', 'reconcile', reconcileMinutes);
  every('Index', 'index', indexMinutes);
  every('Synchronise', 'synchronise', syncMinutes);
  every('Work', 'work', factoryMinutes);
  return made;
}
