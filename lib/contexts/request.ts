import type { Telemetry } from '../telemetry/telemetry.ts';
import type { Actor } from './context.ts';

/** What every verb is told about the request it serves. */
export interface RequestContext {
  /** The tenant, from the credential alone. */
  readonly space: string;
  readonly actor: Actor;
  /** The tick the answer must not be older than; 0 asks for none. */
  readonly seq: number;
  /** Ask past every cache layer. */
  readonly noCache: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Hears of the engines this request touches. */
  readonly telemetry?: Telemetry | undefined;
}

/** The request of a schedule or of the store itself. */
export function systemRequest(space: string, task: string): RequestContext {
  return { space, actor: { kind: 'system', id: task }, seq: 0, noCache: false };
}
