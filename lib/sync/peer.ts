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
  | { readonly held: Held | null; readonly goneMs?: number | undefined }
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
  /** What the other side holds of these ids, as of the survey or later. Ids that are not answered are read next time. */
  read(ids: readonly string[]): Promise<ReadonlyMap<string, Reading>>;
  /**
   * Has the other side make the changes, with as little as says them, and reads back what came of it. Ids that are not
   * answered are pushed again by a later run.
   */
  push(changes: readonly Push[]): Promise<ReadonlyMap<string, Pushed>>;
  close(): Promise<void>;
}

/** What there is to know of the peers of one type. */
export interface Connector {
  /** What they can hold; `root` is the root of the subtree that is synchronised. */
  lensOf(root: string | undefined): Lens;
  /**
   * Opens a connection.
   *
   * @param options.answerMs how long the other side may take for one answer.
   * @param options.contextBytes largest content that can be taken.
   * @throws Problem `unavailable` where it does not answer, `unprocessable` where it is none of its type.
   */
  open(
    definition: PeerDefinition,
    options: { readonly answerMs: number; readonly contextBytes: number },
  ): Promise<PeerSession>;
}

export type Connectors = Readonly<Record<PeerType, Connector>>;
