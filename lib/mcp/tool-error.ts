import { printPlain } from '../base/json.ts';
import type { Problem, ProblemCode } from '../base/problem.ts';
import type { PrintedConflict } from '../merge/conflict.ts';

/** What a model that met a problem should do next, in one sentence. */
const nextSteps: Partial<Record<ProblemCode, string>> = {
  invalid_request: 'Correct the arguments by the input schema and call again.',
  forbidden: 'Ask the user for a token with that scope; do not try again with this one.',
  context_not_found: 'Look for the right id with context_list, or create it with context_put.',
  version_not_found: 'See which versions there are with context_history.',
  already_exists: 'Read it with context_get, then write with context_put and its version as expectedVersion.',
  merge_conflict: 'Call again with prefer set to ours, theirs or latest, or merge by hand and write with context_put.',
  has_children: 'Call again with children set to delete or orphan, if the user wants that.',
  parent_cycle: 'Choose a parent that is not below this context.',
  gone: 'Its history is kept: read an old version with context_get, or bring one back with context_restore.',
  version_conflict:
    'Read it again with context_get, apply your change to what is there now, and write with the current version as expectedVersion, or pass onConflict to have it merged.',
  context_too_large: 'Ask for a part of it, or split what you write into several contexts.',
  unprocessable: 'Correct what it names and call again.',
  parent_not_found: 'Create the parent first, or leave parentId out.',
  internal: 'This is an error of the server; tell the user, with the time it happened.',
  unavailable: 'Wait a second and call again.',
};

// Values of conflicts that are told: so many bytes each, and about so many of each side together.
const conflictBytesMax = 4096;
const conflictsBytesMax = 65_536;

/** Conflicts without what is too large to be told; it is found by its path. */
export function tellConflicts(conflicts: readonly PrintedConflict[]): Record<string, unknown>[] {
  const bytesMax = Math.min(conflictBytesMax, conflictsBytesMax / conflicts.length);
  const tell = (value: unknown) => {
    const sizeBytes = Buffer.byteLength(printPlain(value));
    return sizeBytes <= bytesMax ? value : { sizeBytes };
  };
  return conflicts.map((one) =>
    Object.fromEntries(Object.entries(one).map(([key, value]) => [key, key === 'path' ? value : tell(value)])),
  );
}

const createStep = 'It does not exist: create it with context_put and expectedVersion 0.';

/** A problem as a model reads it: its code, what happened, the facts it needs, and what to do next. */
export function toToolError(problem: Problem) {
  const { errors: _errors, conflicts, ...others } = problem.facts;
  const facts = conflicts === undefined ? others : { ...others, conflicts: tellConflicts(conflicts as never) };
  const told = Object.keys(facts).length === 0 ? '' : ` ${printPlain(facts)}`;
  const isMissing = problem.code === 'version_conflict' && facts['currentVersion'] === 0;
  const next = isMissing ? createStep : nextSteps[problem.code];
  return [`${problem.code}: ${problem.message}${told}`, ...(next === undefined ? [] : [next])].join('\n');
}
