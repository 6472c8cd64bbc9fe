import type { Ids } from '../base/id.ts';
import { Problem } from '../base/problem.ts';
import { within } from '../base/within.ts';
import type { Cache } from '../cache/cache.ts';
import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { RequestContext, SpaceRef } from '../contexts/request.ts';
import type { Memory } from '../memory/memory.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import type { Search } from '../search/search.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { textOf } from './events.ts';
import { type EventEntry, readEvents, replayEvent } from './inbox.sql.ts';
import { createPacks } from './packs.ts';
import { createReceiving, type Sent } from './receiving.ts';
import { createWorking, type Working, type WorkReport } from './working.ts';

/** What whoever sent an event is answered. */
export interface EventAnswer {
  readonly id: string;
  /** `known` where the same event was received before: it is applied once. */
  readonly outcome: 'received' | 'known';
  /** Up to which byte nothing of the session's transcript is missing. */
  readonly position: number;
  /** What the agent is told; null where there is nothing, or the event is none that can tell it. */
  readonly pack: string | null;
}

/** Factory's Droid: hook events in, context packs out. */
export interface Factory {
  /**
   * Commits an event and answers; what it amounts to is made of it afterwards, by {@link Factory.work}.
   *
   * @throws Problem `idempotency_mismatch`.
   */
  receive(request: RequestContext, sent: Sent): Promise<EventAnswer>;
  /** Newest first, by state where that is asked for. */
  listEvents(
    request: RequestContext,
    page: {
      readonly state?: EventEntry['state'] | undefined;
      readonly before?: string | undefined;
      readonly limit: number;
    },
  ): Promise<{ readonly items: readonly EventEntry[]; readonly seq: number }>;
  /** Has a dead event worked again. @throws Problem `not_found`, or `unprocessable` where it was done. */
  replay(request: RequestContext, id: string): Promise<EventEntry>;
  work: Working['work'];
  follow: Working['follow'];
  /** Ends when nothing of a pack that came too late is under way any more, for a runtime that freezes behind its answers. */
  settled(): Promise<void>;
}

/** Where work is asked for when this process will not do it, such as a queue. */
export interface Queue {
  /** Says that something waits in the inbox of a space; said twice, it is no harm. */
  send(space: SpaceRef): Promise<void>;
}

export function createFactory(deps: {
  database: Database;
  cache: Cache;
  contexts: Contexts;
  memory: Memory;
  search: Search;
  ids: Ids;
  settings: Settings;
  telemetry: Telemetry;
  /** Absent where this process works itself, or a schedule does. */
  queue?: Queue | undefined;
}): Factory {
  const { database, settings, telemetry, queue } = deps;
  const receive = createReceiving(deps);
  const packs = createPacks(deps);
  const working = createWorking(deps);
  const underWay = new Set<Promise<unknown>>();

  /** The schedule is the net below: an event is never lost for a queue that is away. */
  async function ask(space: SpaceRef): Promise<void> {
    working.wake(space);
    await queue?.send(space).catch((error: unknown) => {
      telemetry.log({ level: 'warn', event: 'factory.queue', facts: { space: space.space }, error });
    });
  }

  /** A session begins, and a prompt is answered, without it rather than late. */
  async function tell(request: RequestContext, { event }: Sent, project: string): Promise<string | null> {
    if (event.name !== 'SessionStart' && event.name !== 'UserPromptSubmit') return null;
    const startedMs = performance.now();
    const isForgetful = ['compact', 'resume', 'clear'].includes(textOf(event.masked, 'source') ?? '');
    const query = { project, session: event.session, prompt: event.prompt, isForgetful };
    const finish = (outcome: 'done' | 'failed') =>
      telemetry.hookEvent({ stage: 'pack', event: event.name, outcome, durationMs: performance.now() - startedMs });
    try {
      const { packMs } = settings.factory;
      const signal = AbortSignal.timeout(packMs);
      const pack = packs.pack({ ...request, signal: () => signal }, query);
      const forget = () => underWay.delete(pack);
      underWay.add(pack);
      pack.then(forget, forget);
      const text = await within(packMs, pack);
      finish('done');
      return text;
    } catch (error) {
      finish('failed');
      telemetry.log({ level: 'warn', event: 'factory.pack', facts: { space: request.space }, error });
      return null;
    }
  }

  return {
    async receive(request, sent) {
      const startedMs = performance.now();
      const { id, outcome, position, project } = await receive(request, sent);
      telemetry.hookEvent({
        stage: 'receipt',
        event: sent.event.name,
        outcome: 'done',
        durationMs: performance.now() - startedMs,
      });
      const [pack] = await Promise.all([tell(request, sent, project), queue ? ask(request) : undefined]);
      // In this process the work begins behind the pack, which the session waits for.
      if (queue === undefined) await ask(request);
      return { id, outcome, position, pack };
    },

    listEvents: (request, page) => readEvents(database, request, page),

    async replay(request, id) {
      const replayed = await retryLost(() => replayEvent(database, request, id));
      if (replayed === null) throw new Problem('not_found', `There is no event ${id}.`, { id });
      const { event, isBegun } = replayed;
      if (!isBegun && event.state === 'done')
        throw new Problem('unprocessable', `Event ${id} is done; only a dead one is replayed.`, { id });
      await ask(request);
      return event;
    },

    work: working.work,
    follow: working.follow,
    async settled() {
      await Promise.allSettled(underWay);
    },
  };
}

export type { EventEntry, Sent, WorkReport };
