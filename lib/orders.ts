import type { SpaceRef } from './contexts/request.ts';
import type { RunOrder } from './sync/sync.ts';

/** What one process asks another to do in a space. */
export type Order = SpaceRef &
  ({ readonly task: 'index' | 'synchronise' | 'work' } | ({ readonly task: 'run' } & RunOrder));

/** Where work is asked for that this process does not do itself; the schedules are the net below it. */
export interface Orders {
  /** Says what is to be done; said twice, it is no harm. */
  send(order: Order): Promise<void>;
}
