/** An item and the tick that touched it last; `*` is everything. */
export interface Touch {
  readonly item: string;
  readonly tick: number;
}

/** A value as layer 2 keeps it. */
export interface StoredEntry {
  /** The tick at whose PostgreSQL snapshot the value was true. */
  readonly at: number;
  /** The items it was made of: still true as long as none of them was touched after `at`. */
  readonly deps: readonly string[];
  /** Text; the codec is the caller's. */
  readonly body: string;
}

export interface NewEntry extends StoredEntry {
  readonly key: string;
  /** How long it may stay, in milliseconds; frees room, validity is by tick. */
  readonly ttlMs: number;
}

/** How much a space may hold in layer 2; small in tests, which finds most. */
export interface Bounds {
  /** Items whose last tick is remembered; below the oldest of them the floor rises. */
  readonly items: number;
  /** Ticks remembered that were stored ahead of a gap. */
  readonly marks: number;
  /** Changed items a reply lists before it says RESET. */
  readonly listed: number;
  /** Bytes of bodies in one reply, beyond the first of them; what does not fit is told as missing. */
  readonly replyBytes: number;
}

/** What every reply tells of the space: see `lib/cache/SPEC.md`. */
export interface Reply {
  /** The incarnation of the space's state: another one knows nothing of what came before. */
  readonly inc: string;
  /** Counts the stores of this incarnation: orders its replies. */
  readonly rev: number;
  /** The tick up to which nothing is missing. */
  readonly applied: number;
  /** Redis time, in milliseconds, of the last comparison with PostgreSQL; 0 is never. */
  readonly verifiedMs: number;
  readonly nowMs: number;
  /** Items touched after `since`, or `reset` where that is no longer known. */
  readonly changed: readonly Touch[] | 'reset';
}

export interface GetRequest {
  /** The tick the asker's layer 1 is true as of. */
  readonly since: number;
  /** Unlike any other; a part of a new incarnation's name. */
  readonly nonce: string;
  readonly keys: readonly string[];
  /** How long the asker may be the only one to load what is missing; 0 asks for no lease. */
  readonly leaseMs: number;
}

/** A value with `at` as far as it is known to be true, or who may load it: `granted` to the asker, `held` by another. */
export type Found = StoredEntry | 'granted' | 'held' | 'missing';

export interface GetReply extends Reply {
  readonly found: readonly Found[];
}

export interface StoreRequest {
  /** The incarnation known before the load or the write began; null stores no value. */
  readonly token: string | null;
  readonly since: number;
  readonly nonce: string;
  /** `changes` are every touch of the ticks in (from, to], none left out. */
  readonly from: number;
  readonly to: number;
  readonly changes: readonly Touch[];
  /** `nowMs` of the reply to the `get` that this compares with PostgreSQL; 0 where it does not. */
  readonly gotAtMs: number;
  readonly entries: readonly NewEntry[];
  /** Keys whose bytes must go, not only their validity; their leases go with them. */
  readonly erased: readonly string[];
}

export interface StoreReply extends Reply {
  /** For each entry, whether it was stored. */
  readonly accepted: readonly boolean[];
}

export interface CallOptions {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The port to layer 2: the two scripts of the protocol, each one request and atomic. Drivers: `in-process.ts`, which is
 * their specification, and `upstash.ts`. All throw where there is no answer in time; nothing is then known of the effect.
 */
export interface Redis {
  get(space: string, request: GetRequest, options?: CallOptions): Promise<GetReply>;
  store(space: string, request: StoreRequest, options?: CallOptions): Promise<StoreReply>;
  /**
   * Removes the bytes of every entry whose key begins with one of the prefixes, or with `all` of everything that is held
   * of the space, its state included. No guarantee rests on it: it is for what must not lie there any longer. May look
   * through all keys there are, in several requests.
   *
   * @returns how many entries went.
   */
  purge(space: string, prefixes: readonly string[] | 'all', options?: CallOptions): Promise<number>;
  /** Asks whether it answers at all, and leaves nothing behind. */
  ping(options?: CallOptions): Promise<void>;
}
