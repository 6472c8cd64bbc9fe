import { sha256 } from '../base/hash.ts';
import type { Ids } from '../base/id.ts';
import type { Settings } from '../config/settings.ts';
import type { RequestContext } from '../contexts/request.ts';
import { type Idempotency, idempotencyMismatch } from '../contexts/written.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { noteOf } from './effects.ts';
import type { HookEvent } from './events.ts';
import { type Received, readPosition, receiveEvent } from './inbox.sql.ts';
import { memoryCallOf, nodesOf } from './memory-calls.ts';
import { noteId } from './notes.ts';
import { sessionContext, summaryContext } from './project.ts';
import type { Piece } from './transcript.ts';

/** An event as a door took it in. */
export interface Sent {
  readonly event: HookEvent;
  readonly piece?: Piece | undefined;
  /** SHA-256 of the request's body and what else tells it from another. */
  readonly digest: string;
  readonly idempotency?: Idempotency | undefined;
}

// So long the same body for the same session is the same event, unless another came between.
const againSeconds = 600;

/** Commits events, each once. */
export type Receive = (request: RequestContext, sent: Sent) => Promise<Omit<Received, 'clock'>>;

export function createReceiving(deps: { database: Database; ids: Ids; settings: Settings }): Receive {
  const { database, ids, settings } = deps;
  const { capture, ownServers } = settings.factory;

  return async (request, { event, piece, digest, idempotency }) => {
    const { name, session, project, masked } = event;
    const source = sha256(event.source);
    const row = { event: name, payload: { event: masked, messages: [] } };
    const note = noteOf(row);
    const call = memoryCallOf(row, ownServers);
    const isKept = capture === 'all' || (capture === 'asked' && (note !== undefined || call !== undefined));
    if (!isKept) {
      // What is not kept is not asked for again either.
      const position = piece?.to ?? (await readPosition(database, request, { session, source }));
      return { outcome: 'received', id: ids.sortable(), project: project.id, position };
    }
    const received = await retryLost(() =>
      receiveEvent(
        database,
        request,
        {
          id: ids.sortable(),
          session,
          project: project.id,
          event: name,
          actor: request.actor.id,
          digest,
          payload: { event: masked, project },
          contexts: [
            project.id,
            sessionContext(session),
            summaryContext(session),
            ...(note === undefined ? [] : [noteId(project.id, note)]),
            ...(call === undefined ? [] : nodesOf(call)),
          ],
          source,
          piece: capture === 'all' ? piece : piece && { ...piece, messages: [] },
        },
        { idempotency, againSeconds },
      ),
    );
    if (received === null) throw idempotencyMismatch();
    return received;
  };
}
