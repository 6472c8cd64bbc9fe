import type { Json } from '../base/json.ts';

/** Where sides disagreed; a side that has nothing there is absent. */
export interface Conflict {
  /** A JSON Pointer, or for text the lines of the base: `L3-L5`, or `L4` for an insertion before line 4. */
  readonly path: string;
  readonly base?: Json | undefined;
  readonly ours?: Json | undefined;
  readonly theirs?: Json | undefined;
  /** Which side the result has; absent where nothing was chosen. */
  readonly chosen?: 'ours' | 'theirs' | undefined;
}
