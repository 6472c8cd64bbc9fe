import type { Direction } from './decision.ts';
import type { SyncStrategy } from './join.ts';
import type { Held, Lens, Value } from './value.ts';

/** How a peer is reached: by HTTP, or as a process of this machine that speaks over its standard input and output. */
export type Transport =
  | { readonly url: string; readonly headers?: Readonly<Record<string, string>> | undefined }
  | {
      readonly command: string;
      readonly args: readonly string[];
      readonly env?: Readonly<Record<string, string>> | undefined;
    };

export const peerTypes = ['mcp-memory', 'lamina'] as const;
export type PeerType = (typeof peerTypes)[number];

/** What a peer is, as its owner has named it. `transport` holds secrets. */
export interface PeerDefinition {
  readonly type: PeerType;
  readonly transport: Transport;
  readonly strategy: SyncStrategy;
  readonly direction: Direction;
  /** How often the schedule runs it, in seconds; absent never. */
  readonly intervalSeconds?: number | undefined;
  /** A context of ours: it and what lies below it is all that is synchronised. */
  readonly subtree?: string | undefined;
}

/** What a look at the other side has found. */
export interface Survey {
  /** Whether `items` is all there is, so that what is missing in it is gone; else it is what may have changed. */
  readonly isWhole: boolean;
  /** By id: the fingerprint of what is there, `null` where it is gone, `undefined` where only a reading would tell. */
  readonly items: ReadonlyMap<string, string | null | undefined>;
  /** What the next survey begins from. */
  readonly cursor: string;
  /** What is there and cannot be taken, and why. */
  readonly refused: readonly Refused[];
}

export interface Refused {
  readonly id: string;
  readonly reason: string;
}

/** A change the other side is to make: from what it was seen to hold to what it is to hold; null is nothing. */
export interface Push {
  readonly id: string;
  readonly from: Value | null;
  readonly to: Value | null;
}

/** What a reading found of an item. */
export type Reading =
  | {
      readonly held: Held | null;
      readonly goneMs?: number | undefined;
      /** A context of this id is there, but outside the subtree: none for synchronisation, and not to be written over. */
      readonly isOutside?: boolean;
      /** Its version there, where it has such: below one that is not the first there may be others. */
      readonly version?: number;
    }
  | { readonly refused: string };

/** What became of a change: what the other side holds now, as it was read back, or why it did not take it. */
export type Pushed =
  | { readonly value: Value | null }
  | {
      readonly refused: string;
      /** It was the place in the tree that was refused: the parent is not there, or lies below. */
      readonly isPlace?: boolean;
    };

/** An open connection to the other side; its calls are made one after another. */
export interface PeerSession {
  readonly lens: Lens;
  /**
   * Looks at what the other side holds.
   *
   * @param since the cursor of an earlier survey; null asks for all there is.
   * @throws Problem `unavailable` where it does not answer, `unprocessable` where it is none of its type.
   */
  survey(since: string | null): Promise<Survey>;
  /**
   * What the other side holds of these ids, as of the survey or later: of the first at least, and in their order as far as
   * `bytesMax` of contents go. Those after the last that is answered are to be read next.
   */
  read(ids: readonly string[], bytesMax: number): Promise<ReadonlyMap<string, Reading>>;
  /** The ids of all that lies below a context there; absent where there is no tree. */
  below?(id: string): Promise<readonly string[]>;
  /**
   * Has the other side make the changes, with as little as says them, and reads back what came of it. Ids that are not
   * answered are pushed again by a later run.
   */
  push(changes: readonly Push[]): Promise<ReadonlyMap<string, Pushed>>;
  /** Ends it, and with it whatever is being asked, which then fails with `unavailable`. */
  close(): Promise<void>;
}

/** How a connection is opened. */
export interface OpenOptions {
  /** How long the other side may take for one answer. */
  readonly answerMs: number;
  /** The largest content that can be taken. */
  readonly contextBytes: number;
  /** Gives up the opening; what is open is ended by closing it. */
  readonly signal: AbortSignal;
}

/** What there is to know of the peers of one type. */
export interface Connector {
  /** What they can hold; `root` is the root of the subtree that is synchronised. */
  lensOf(root: string | undefined): Lens;
  /** @throws Problem `unavailable` where it does not answer, `unprocessable` where it is none of its type. */
  open(definition: PeerDefinition, options: OpenOptions): Promise<PeerSession>;
}

export type Connectors = Readonly<Record<PeerType, Connector>>;
