/** One call of an engine, as it was seen from here. */
export interface EngineCall {
  readonly engine: 'postgres' | 'redis' | 'weaviate' | 'embedder';
  /** Wall time in milliseconds. */
  readonly durationMs: number;
  /** Bytes of payload sent and received, as far as they are known without measuring again. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly outcome: 'ok' | 'refused' | 'unavailable';
  /** Of an embedder: what it charges for, and what that costs as far as its price is known. */
  readonly tokens?: number;
  readonly usd?: number;
}

/** Something an operator should be able to find later. */
export interface LogEvent {
  readonly level: 'info' | 'warn' | 'error';
  readonly event: string;
  /** Facts without secrets or contents. */
  readonly facts?: Readonly<Record<string, unknown>>;
  readonly error?: unknown;
}

/** A read through the caches. */
export interface CacheRead {
  /** Where each value came from. */
  readonly layers: readonly ('l1' | 'l2' | 'l3' | 'origin')[];
  /** How long ago it was compared with PostgreSQL, in milliseconds. */
  readonly ageMs: number;
  /** How long layer 2, where it came from there, would serve it on without comparing. */
  readonly ttlMs?: number | undefined;
  /** Whether what came from the origin is in the caches now. */
  readonly isStored?: boolean | undefined;
  /** Why layer 2 gave none, where it was not simply without them; `stale` where PostgreSQL is away. */
  readonly detail?: 'bypass' | 'unavailable' | 'stale' | undefined;
}

/** A run of synchronisation that came to its end. */
export interface SyncRun {
  readonly type: string;
  readonly outcome: 'done' | 'halted' | 'failed';
  /** Wall time in milliseconds. */
  readonly durationMs: number;
  /** How long the oldest change it brought to the peer, or from here, had waited; absent where it brought none. */
  readonly lagMs?: number | undefined;
}

/** A hook event on its way: received, given its pack, or worked. */
export interface HookEventStage {
  readonly stage: 'receipt' | 'pack' | 'work';
  /** What Droid calls it. */
  readonly event: string;
  readonly outcome: 'done' | 'failed' | 'dead';
  /** Wall time in milliseconds. */
  readonly durationMs: number;
}

/** Where engines and verbs report; never throws and never waits. */
export interface Telemetry {
  engineCall(call: EngineCall): void;
  /** @param kind what was read, such as `head`. */
  cacheRead(kind: string, read: CacheRead): void;
  syncRun(run: SyncRun): void;
  hookEvent(stage: HookEventStage): void;
  log(event: LogEvent): void;
}

export const noTelemetry: Telemetry = {
  engineCall() {},
  cacheRead() {},
  syncRun() {},
  hookEvent() {},
  log() {},
};
