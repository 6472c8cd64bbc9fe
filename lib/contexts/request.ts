import type { ReliedOn } from '../cache/answers.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { Actor } from './context.ts';

/** A space, and the name its state has in the caches. */
export interface SpaceRef {
  readonly space: string;
  /** Unlike the space's own name never used again, so that a new space of an old name finds nothing of the old one. */
  readonly slot: string;
}

/** What every verb is told about the request it serves. */
export interface RequestContext extends SpaceRef {
  /** `space` is the tenant, from the credential alone. */
  readonly actor: Actor;
  /** The tick the answer must not be older than; 0 asks for none. */
  readonly seq: number;
  /** Ask past every cache layer. */
  readonly noCache: boolean;
  /** Fires when nobody waits for the answer any more. Made when asked for: that takes longer than a read from layer 1. */
  readonly signal?: (() => AbortSignal) | undefined;
  /** The key of the caller, which the database looks at again with each request to it; absent for who needs none. */
  readonly keyId?: string | undefined;
  /** The key in layer 1, where nobody has confirmed it within the window: an answer of the caches has to. */
  readonly unconfirmed?: ReliedOn | undefined;
  /** Hears of the engines and caches this request touches. */
  readonly telemetry?: Telemetry | undefined;
}

/** The request of a schedule or of the store itself. */
export function systemRequest({ space, slot }: SpaceRef, task: string): RequestContext {
  return { space, slot, actor: { kind: 'system', id: task }, seq: 0, noCache: false };
}

/** @param createdMs when the space was made: no two of one name were made in the same millisecond. */
export function slotOf(space: string, createdMs: number): string {
  return `${space}@${createdMs}`;
}
