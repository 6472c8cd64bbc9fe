import type { GetReply } from '../redis/redis.ts';
import type { Entry, View } from './view.ts';

/** Why an entry of a layer would be served to a read, or not. */
export interface Held {
  readonly isHeld: boolean;
  readonly at: number | null;
  readonly deps: readonly string[];
  readonly why: string;
}

export interface Explanation {
  readonly l1: Held & { readonly tick: number; readonly validatedMsAgo: number | null; readonly own: number };
  readonly l2: Held & {
    readonly applied: number | null;
    readonly incarnation: string | null;
    readonly verifiedMsAgo: number | null;
  };
}

/** What layer 1 holds of a value, and whether a read that needs tick `need` would be served from it. */
export function explainLayer1(
  view: View,
  entry: Entry | undefined,
  about: {
    readonly need: number;
    readonly nowMs: number;
    /** Whether layer 1 is served from unchecked. */
    readonly isInWindow: boolean;
  },
): Explanation['l1'] {
  const validatedMsAgo = Number.isFinite(view.validatedAtMs) ? about.nowMs - view.validatedAtMs : null;
  const why =
    entry === undefined
      ? 'not held'
      : entry.expiresMs !== null && about.nowMs >= entry.expiresMs
        ? 'held, and its time is over'
        : !view.isEnough(entry, about.need)
          ? `held, and not known to be true as of tick ${about.need}`
          : about.isInWindow
            ? 'served'
            : 'served after layer 2 has validated it';
  const { tick, own } = view;
  return {
    isHeld: entry !== undefined,
    at: entry?.at ?? null,
    deps: entry?.deps ?? [],
    why,
    tick,
    validatedMsAgo,
    own,
  };
}

/** What layer 2 holds of the one key that was asked for; `reply` is null where it does not answer. */
export function explainLayer2(
  reply: GetReply | null,
  about: {
    readonly view: View;
    readonly need: number;
    readonly verifyMs: number;
    readonly isReadable: (body: string) => boolean;
  },
): Explanation['l2'] {
  if (reply === null) {
    const none = { isHeld: false, at: null, deps: [], applied: null, incarnation: null, verifiedMsAgo: null };
    return { ...none, why: 'layer 2 does not answer' };
  }
  const [found] = reply.found;
  const entry = typeof found === 'object' ? found : undefined;
  const { applied, nowMs, verifiedMs } = reply;
  const why =
    entry === undefined
      ? 'not held, or touched since, or older than what is remembered'
      : entry.body === ''
        ? 'held without its body, which is too large for layer 2'
        : !about.isReadable(entry.body)
          ? 'held, and it cannot be read or its time is over'
          : nowMs - verifiedMs > about.verifyMs
            ? 'held, and nobody has compared layer 2 with PostgreSQL lately: the next reader does'
            : about.view.isEnough(entry, about.need, applied)
              ? 'served'
              : `held, and not known to be true as of tick ${about.need}`;
  return {
    isHeld: entry !== undefined,
    at: entry?.at ?? null,
    deps: entry?.deps ?? [],
    why,
    applied,
    incarnation: reply.inc,
    verifiedMsAgo: verifiedMs === 0 ? null : nowMs - verifiedMs,
  };
}
