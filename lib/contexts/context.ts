/** The server's stamp of who wrote: the door and, behind it, the credential. */
export interface Actor {
  readonly kind: 'api' | 'mcp' | 'factory' | 'sync' | 'system';
  readonly id: string;
}

/** A version of a context without its content. */
export interface ContextHead {
  readonly id: string;
  readonly parentId: string | null;
  readonly kind: string;
  /** `application/json` or `text/*`; null on a tombstone. */
  readonly contentType: string | null;
  /** A JSON object as text, numbers as PostgreSQL keeps them. */
  readonly metadata: string;
  readonly version: number;
  /** SHA-256 of the content bytes, 64 hexadecimal digits; null on a tombstone. */
  readonly hash: string | null;
  readonly sizeBytes: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly expiresMs: number | null;
  readonly actor: Actor;
  /** `deleted` is a tombstone; `erased` keeps nothing but the highest version number. */
  readonly state: 'live' | 'deleted' | 'erased';
}

/** A version with its content; `content` is absent where it was not asked for or is above the inline limit. */
export interface Context extends ContextHead {
  readonly content?: Uint8Array | undefined;
}

/** What history tells of a version. */
export interface VersionEntry extends ContextHead {
  readonly operation: string;
  readonly isPinned: boolean;
  /** The sources of a merge as JSON, null for any other write. */
  readonly mergedFrom: unknown;
  readonly message: string | null;
}

/** A committed change as the feed tells it. */
export interface Change {
  readonly tick: number;
  readonly kind: 'context' | 'invalidation' | 'key' | 'erased';
  readonly id: string | null;
  readonly version: number | null;
  readonly operation: string;
  readonly hash: string | null;
  readonly parentBefore: string | null;
  readonly parentAfter: string | null;
  /** The items of a change that is not a context's. */
  readonly items: readonly string[] | null;
  readonly actor: Actor | null;
  readonly origin: string | null;
  readonly atMs: number;
}

/** Whether the context can be read as a head at `nowMs`. */
export function isLive(context: ContextHead, nowMs: number): boolean {
  return context.state === 'live' && (context.expiresMs === null || context.expiresMs > nowMs);
}
