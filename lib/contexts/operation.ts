/** What a write asks of the head it finds; absent asks nothing. */
export interface Precondition {
  /** The head's version; 0 is "nothing was ever there". */
  readonly ifVersion?: number | undefined;
  /** There must be a live head. */
  readonly ifLive?: true | undefined;
  /** There must be no live head. */
  readonly ifAbsent?: true | undefined;
}

/** A content whose bytes are in the database already. */
export interface UploadedContent {
  /** The upload's. */
  readonly id: string;
  /** SHA-256 of the whole, 64 hexadecimal digits. */
  readonly hash: string;
  readonly sizeBytes: number;
  readonly contentType: string;
  /** SHA-256 of each part, in order: as it was looked at. */
  readonly parts: readonly string[];
}

/** Makes a version. What is absent keeps the head's; without a live head it takes the default. */
export interface PutOperation extends Precondition {
  readonly op: 'put';
  readonly id: string;
  readonly content?: { readonly bytes: Uint8Array; readonly contentType: string } | undefined;
  /** An upload that was looked at: the content, where none is beside it. The write uses it up. */
  readonly upload?: UploadedContent | undefined;
  readonly kind?: string | undefined;
  /** Null clears it. */
  readonly parentId?: string | null | undefined;
  /** A JSON object as text; null clears it. */
  readonly metadata?: string | null | undefined;
  /** ISO 8601; null clears it. Goes with no `ttlSeconds`. */
  readonly expiresAt?: string | null | undefined;
  readonly ttlSeconds?: number | undefined;
  /** How the feed and the history name it; `put` when absent. */
  readonly operation?: 'put' | 'merge' | undefined;
  readonly mergedFrom?: unknown;
  readonly message?: string | undefined;
  /** Answer with the content although it was not sent. */
  readonly withContent?: true | undefined;
}

/** Makes version `version` the head again: its content, type, kind and metadata; place and expiry stay the head's. */
export interface RestoreOperation extends Precondition {
  readonly op: 'restore';
  readonly id: string;
  readonly version: number;
  readonly withContent?: true | undefined;
}

/** Makes a tombstone. */
export interface DeleteOperation extends Precondition {
  readonly op: 'delete';
  readonly id: string;
  readonly children: 'fail' | 'delete' | 'orphan';
}

/** Makes the tombstone of a context whose time is over; anything else is left alone. */
export interface ExpireOperation {
  readonly op: 'expire';
  readonly id: string;
}

export type Operation = PutOperation | RestoreOperation | DeleteOperation | ExpireOperation;
