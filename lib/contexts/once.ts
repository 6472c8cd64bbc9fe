import { Problem } from '../base/problem.ts';
import type { Database } from '../postgres/database.ts';
import { beginWork, dropWork, endWork } from './once.sql.ts';
import type { RequestContext } from './request.ts';
import { type Idempotency, idempotencyMismatch } from './written.ts';

// Longer than such work takes: where its process ended in the midst of it, it may be begun again after this.
const workSeconds = 60;

/**
 * Carries out, once under its idempotency key, work of more than one transaction, and answers with its answer, now as later.
 * Without a key it is simply carried out. What fails is not remembered.
 *
 * @throws Problem `idempotency_mismatch` where the key was used for other work, `unavailable` while the same work is under way.
 */
export async function runOnce(
  database: Database,
  request: RequestContext,
  idempotency: Idempotency | undefined,
  work: () => Promise<string>,
): Promise<string> {
  if (idempotency === undefined) return work();
  const recorded = await beginWork(database, request, idempotency, workSeconds);
  if (recorded === null) throw idempotencyMismatch();
  if (recorded !== undefined) {
    if ('body' in recorded) return recorded.body;
    throw new Problem('unavailable', 'The first request under this Idempotency-Key is not done yet; ask again.');
  }
  try {
    const body = await work();
    await endWork(database, request, idempotency, body);
    return body;
  } catch (error) {
    // Where even this fails, the key waits for its time to be over.
    await dropWork(database, request, idempotency).catch(() => {});
    throw error;
  }
}
