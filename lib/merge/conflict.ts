import { type Json, type JsonText, printJson } from '../base/json.ts';

/** Where sides disagreed; a side that has nothing there is absent. */
export interface Conflict {
  /** A JSON Pointer into ours (into theirs for an element only theirs has), or the lines of a text's base: `L3-L5`, `L4` for an insertion before line 4. */
  readonly path: string;
  readonly base?: Json | undefined;
  readonly ours?: Json | undefined;
  readonly theirs?: Json | undefined;
  /** Which side the result has; absent where nothing was chosen. */
  readonly chosen?: 'ours' | 'theirs' | undefined;
}

/** A conflict as it is kept and told: values as JSON text, so that no number is rounded. */
export interface PrintedConflict {
  readonly path: string;
  readonly base?: JsonText;
  readonly ours?: JsonText;
  readonly theirs?: JsonText;
  readonly chosen?: 'ours' | 'theirs';
}

// Beyond this many the rest is only counted by whoever compares the documents.
const printedMax = 1000;

export function printConflicts(conflicts: readonly Conflict[]): PrintedConflict[] {
  return conflicts.slice(0, printedMax).map(({ path, base, ours, theirs, chosen }) => ({
    path,
    ...(base === undefined ? {} : { base: { jsonText: printJson(base) } }),
    ...(ours === undefined ? {} : { ours: { jsonText: printJson(ours) } }),
    ...(theirs === undefined ? {} : { theirs: { jsonText: printJson(theirs) } }),
    ...(chosen === undefined ? {} : { chosen }),
  }));
}
