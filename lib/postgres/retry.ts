import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../base/problem.ts';
import { isDatabaseError } from './database.ts';

// Deadlocks and serialisation failures say "again"; each time the wait doubles and is spread at random.
const retryableStates = ['40001', '40P01'];
export const attemptsMax = 5;

/**
 * Runs work that is one transaction, and again where it lost against another, up to five times.
 *
 * @throws Problem `unavailable` where it lost every time.
 */
export async function retryLost<Value>(work: () => Promise<Value>): Promise<Value> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isDatabaseError(error) || !retryableStates.includes(error.sqlState)) throw error;
      if (attempt === attemptsMax) {
        throw new Problem('unavailable', 'Too many writers collided here; try again.', {}, error);
      }
      await backOff(attempt);
    }
  }
}

/** Waits 2–10 ms after the first loss, twice as long after each further one. */
export function backOff(attempt: number): Promise<void> {
  return sleep((2 + Math.random() * 8) * 2 ** (attempt - 1));
}
