import { Problem, problemTable } from '../../lib/base/problem.ts';
import { systemRequest } from '../../lib/contexts/request.ts';
import type { Order, Orders } from '../../lib/orders.ts';
import type { UnifiedContextManager } from '../../lib/unified-context-manager.ts';

/**
 * Carries out an order; what is left of it when its budget ends is ordered again.
 *
 * @throws Problem where it has to be carried out once more.
 */
export async function carryOut(
  { manager, orders }: { manager: UnifiedContextManager; orders: Orders },
  order: Order,
  budgetMs: number,
): Promise<void> {
  const { space, slot } = order;
  const only = { space, slot };
  const again = (isLeft: boolean | undefined) => (isLeft ? orders.send(order) : undefined);
  try {
    if (order.task === 'run') {
      const { peer, runId, isForced } = order;
      const wanted = { trigger: 'request', runId, isForced, limitMs: budgetMs };
      await again((await manager.sync.run(systemRequest(only, 'sync'), peer, wanted)).isUnfinished);
    } else if (order.task === 'index') {
      const { [space]: report } = await manager.index({ only, budgetMs });
      // Where nothing moves, such as with the embedder away, the schedule tries again.
      await again(report?.isUnfinished && report.contexts + report.chunks + report.embedded > 0);
      // Whoever wrote did not know whether a peer wants to hear of it.
      if (await manager.sync.isFollowed(only)) await orders.send({ ...only, task: 'synchronise' });
    } else {
      const reports =
        order.task === 'work'
          ? manager.work({ only, budgetMs })
          : manager.synchronise({ only, budgetMs, limitMs: budgetMs, isNudged: true });
      await again((await reports)[space]?.nextMs === 0);
    }
  } catch (error) {
    if (!isSettled(error, order)) throw error;
  }
}

/** Whether to try again would change nothing: the space is gone, or the run has ended or been refused. */
function isSettled(error: unknown, { task }: Order): boolean {
  if (!(error instanceof Problem)) return false;
  return error.code === 'unauthenticated' || (task === 'run' && !problemTable[error.code].retry);
}
