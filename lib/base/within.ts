import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from './problem.ts';

/**
 * Ends as the work does, or fails after so long, and lets it go on.
 *
 * @throws Problem `unavailable` where the work takes longer.
 */
export async function within<Done>(ms: number, work: Promise<Done>): Promise<Done> {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Problem('unavailable', 'It takes too long.');
  });
  return Promise.race([work, late]);
}
