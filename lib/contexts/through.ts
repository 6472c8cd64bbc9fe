import { andThen, type MaybePromise } from '../base/maybe-promise.ts';
import type { Cached, Loaded } from '../cache/answers.ts';
import type { Cache } from '../cache/cache.ts';
import type { Kind } from '../cache/kind.ts';
import { toTouches } from './items.ts';
import type { RequestContext } from './request.ts';
import type { LoadRequest, Read } from './snapshot.ts';

/** A value and the tick as of which it is true. */
export interface At<Value> {
  readonly value: Value;
  readonly seq: number;
}

/** Reads through the caches, each loaded by one request to PostgreSQL where no layer has it; at once where layer 1 does. */
export interface Through {
  toLoad(request: RequestContext, feedAfter: number | null): LoadRequest;
  through<Value>(
    request: RequestContext,
    kind: Kind<Value>,
    ids: readonly string[],
    load: (request: LoadRequest, ids: readonly string[]) => Promise<Loaded<Value>>,
  ): MaybePromise<Cached<Value>>;
  throughOne<Value>(
    request: RequestContext,
    kind: Kind<Value>,
    id: string,
    load: (request: LoadRequest) => Promise<Loaded<Value>>,
  ): MaybePromise<At<Value>>;
}

// A value made of more than this is for one answer alone: looking through its items would cost more than it saves.
const depsMax = 512;

/** @param deps.originMs how long PostgreSQL is waited for. */
export function createThrough({ cache, originMs }: { cache: Cache; originMs: number }): Through {
  /** The request of a load: others may be waiting for it, so it goes on when whoever asked first has gone away. */
  function toLoad(request: RequestContext, feedAfter: number | null): LoadRequest {
    const signal = AbortSignal.timeout(originMs);
    return { ...request, signal: () => signal, ...(feedAfter === null ? {} : { feedAfter }) };
  }

  function through<Value>(
    request: RequestContext,
    kind: Kind<Value>,
    ids: readonly string[],
    load: (request: LoadRequest, ids: readonly string[]) => Promise<Loaded<Value>>,
  ): MaybePromise<Cached<Value>> {
    const read = cache.read(request, kind, ids, (wanted, after) => load(toLoad(request, after), wanted));
    return andThen(read, (answered) => {
      request.telemetry?.cacheRead(kind.name, answered);
      return answered;
    });
  }

  function throughOne<Value>(
    request: RequestContext,
    kind: Kind<Value>,
    id: string,
    load: (request: LoadRequest) => Promise<Loaded<Value>>,
  ): MaybePromise<At<Value>> {
    return andThen(through(request, kind, [id], load), ({ values, seq }) => ({ value: values[0] as Value, seq }));
  }

  return { toLoad, through, throughOne };
}

type Seen = Pick<Read<unknown>, 'seq' | 'feed'>;

export function toFeed({ seq, feed }: Seen): Pick<Loaded<unknown>, 'seq' | 'feed'> {
  return { seq, feed: feed === null ? 'too long' : toTouches(feed) };
}

export function toLoaded<Value>(value: Value, items: readonly string[], seen: Seen): Loaded<Value> {
  return { values: [{ value, deps: items, isPassing: items.length > depsMax }], ...toFeed(seen) };
}
