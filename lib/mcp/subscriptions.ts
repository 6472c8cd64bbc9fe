import type { ServerEvent, ServerEventBus } from '@modelcontextprotocol/server';
import { Problem } from '../base/problem.ts';
import type { Change } from '../contexts/context.ts';
import { readNodeId } from '../contexts/node-ids.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { contextUri } from './content.ts';
import { graphUri } from './resources.ts';

// How long one look at the feed waits for a change, and how long after a failed one the next begins.
const waitMs = 20_000;
const pauseMs = 1000;
const changesMax = 200;

/** What the subscribers of one space listen to. */
export interface Bus extends ServerEventBus {
  /** Looks where the feed stands: whoever subscribes after this misses nothing that follows. */
  look(): Promise<void>;
}

/**
 * Tells the subscribers of one space which resources have changed, whichever instance and door has changed them. It reads
 * the feed for as long as anybody listens, and does nothing otherwise.
 */
export function createBus(deps: { manager: UnifiedContextManager; request: RequestContext }): Bus {
  const { manager, request } = deps;
  const listeners = new Set<(event: ServerEvent) => void>();
  let watching: AbortController | undefined;
  let since: number | 'latest' = 'latest';

  const publish = (event: ServerEvent) => {
    for (const listener of [...listeners]) listener(event);
  };

  async function watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const page = { since, limit: changesMax, waitMs: since === 'latest' ? 0 : waitMs };
        const { changes, next } = await manager.feed.read({ ...request, signal: () => signal }, page);
        if (signal.aborted) return;
        for (const event of toEvents(changes)) publish(event);
        since = next;
      } catch (error) {
        if (signal.aborted) return;
        // What retention took is past telling; whatever else went wrong may be over in a moment.
        if (error instanceof Problem && error.code === 'cursor_expired') since = 'latest';
        await manager.nudges.wait(request.space, manager.nudges.count(request.space), pauseMs, signal);
      }
    }
  }

  return {
    publish,
    async look() {
      const { next } = await manager.feed.read(request, { since: 'latest', limit: 1, waitMs: 0 });
      // Whoever listens already may still have to hear what came before.
      if (watching === undefined) since = next;
    },
    subscribe(listener) {
      listeners.add(listener);
      if (watching === undefined) {
        watching = new AbortController();
        void watch(watching.signal);
      }
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0) return;
        watching?.abort();
        watching = undefined;
      };
    },
  };
}

/** What subscribers hear of changes: each resource once. */
export function toEvents(changes: readonly Change[]): ServerEvent[] {
  const uris = new Set<string>();
  for (const { id } of changes) {
    if (id === null) continue;
    // However the subscriber has spelled it.
    uris.add(contextUri(id)).add(`context://${id}`);
    if (readNodeId(id) !== undefined) uris.add(graphUri);
  }
  const updated = [...uris].map((uri): ServerEvent => ({ kind: 'resource_updated', uri }));
  const isListed = changes.some(({ version, operation }) => version === 1 || operation !== 'put');
  return isListed ? [...updated, { kind: 'resources_list_changed' }] : updated;
}
