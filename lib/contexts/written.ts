import { Problem } from '../base/problem.ts';
import type { Context } from './context.ts';
import type { Contexts } from './contexts.ts';
import type { Operation } from './operation.ts';
import { toProblem } from './outcomes.ts';
import type { RequestContext } from './request.ts';
import { toHead } from './rows.ts';
import type { OperationResult, RecordedAnswer, WriteAnswer, WriteOptions } from './write.sql.ts';

export type Idempotency = NonNullable<WriteOptions['idempotency']>;

/** How one operation ended well. */
export interface Written {
  readonly outcome: 'created' | 'updated' | 'unchanged' | 'deleted';
  readonly context: Context;
  readonly seq: number;
  /** What was kept with the idempotency key, such as a merge's report. */
  readonly extra: unknown;
}

/**
 * Carries out one operation, or answers as the first request under the same idempotency key was answered.
 *
 * @throws Problem for every refusal of the table in `outcomes.ts`, and `idempotency_mismatch`.
 */
export async function writeOne(
  contexts: Contexts,
  request: RequestContext,
  operation: Operation,
  options: Omit<WriteOptions, 'atomic'> = {},
): Promise<Written> {
  const answer = await contexts.write(request, [operation], { atomic: true, ...options });
  const written = await toWritten(contexts, request, operation, answer);
  return { ...written, extra: written.extra ?? options.extra };
}

/**
 * Reads the answer to one operation.
 *
 * @throws Problem as {@link writeOne}.
 */
export async function toWritten(
  contexts: Contexts,
  request: RequestContext,
  operation: Operation,
  answer: WriteAnswer,
): Promise<Written> {
  const { seq, results, extra } = await settle(contexts, request, [operation], answer);
  const [result] = results;
  if (result instanceof Problem) throw result;
  if (result === undefined) throw new Problem('internal', 'The write gave no result.');
  return { ...result, seq, extra };
}

/**
 * How each of several operations ended: written, or the problem it met.
 *
 * @throws Problem with the `operation` that failed, where all or none were to be carried out.
 */
export async function writeMany(
  contexts: Contexts,
  request: RequestContext,
  operations: readonly Operation[],
  options: Omit<WriteOptions, 'extra'>,
): Promise<{ seq: number; results: (Omit<Written, 'seq' | 'extra'> | Problem)[] }> {
  const settled = await settle(contexts, request, operations, await contexts.write(request, operations, options));
  const [refusal] = settled.results;
  if (settled.refusedIndex !== undefined && refusal instanceof Problem)
    throw atOperation(refusal, settled.refusedIndex);
  return settled;
}

/** The problem of one operation as the answer to a whole batch. */
export function atOperation(problem: Problem, index: number): Problem {
  return new Problem(problem.code, problem.message, { ...problem.facts, operation: index });
}

/**
 * The answer of a recorded write, made anew from the versions it made.
 *
 * @throws Problem `idempotency_mismatch` where the key was used for another request.
 */
export async function replay(
  contexts: Contexts,
  request: RequestContext,
  recorded: { readonly fingerprint: string; readonly answer: unknown },
  fingerprint: string,
): Promise<Written> {
  if (recorded.fingerprint !== fingerprint || recorded.answer === null) throw idempotencyMismatch();
  const { seq, results, extra } = await rebuild(contexts, request, recorded.answer as RecordedAnswer);
  const [result] = results;
  if (result === undefined || result instanceof Problem) throw result ?? idempotencyMismatch();
  return { ...result, seq, extra };
}

export const idempotencyMismatch = (
  why = 'This Idempotency-Key was used within 24 hours, for another request or for something erased since.',
) => new Problem('idempotency_mismatch', why);

interface Settled {
  readonly seq: number;
  readonly results: (Omit<Written, 'seq' | 'extra'> | Problem)[];
  /** The operation for whose sake none was carried out. */
  readonly refusedIndex?: number;
  readonly extra: unknown;
}

async function settle(
  contexts: Contexts,
  request: RequestContext,
  operations: readonly Operation[],
  answer: WriteAnswer,
): Promise<Settled> {
  switch (answer.outcome) {
    case 'mismatch':
      throw idempotencyMismatch();
    case 'recorded':
      return rebuild(contexts, request, answer.answer);
    case 'refused': {
      const { result } = answer;
      return { seq: answer.seq, results: [toProblem(result)], refusedIndex: result.index, extra: undefined };
    }
    case 'done':
      return {
        seq: answer.seq,
        results: answer.results.map((result) => toResult(result, operations[result.index])),
        extra: undefined,
      };
  }
}

function toResult(result: OperationResult, operation: Operation | undefined): Omit<Written, 'seq' | 'extra'> | Problem {
  const { outcome, head } = result;
  if (outcome !== 'created' && outcome !== 'updated' && outcome !== 'unchanged' && outcome !== 'deleted') {
    return toProblem(result);
  }
  if (head === null) return toProblem({ ...result, outcome: 'not_found' });
  const sent = operation?.op === 'put' ? operation.content?.bytes : undefined;
  return { outcome, context: sent === undefined ? head : { ...head, content: sent } };
}

async function rebuild(contexts: Contexts, request: RequestContext, recorded: RecordedAnswer): Promise<Settled> {
  const written = recorded.results.filter((result) => result.version !== undefined);
  const { value, seq } = await contexts.readExact(request, written);
  const found = new Map(written.map((result, at) => [result.index, value[at] ?? null]));
  const results = recorded.results.map((result): Omit<Written, 'seq' | 'extra'> | Problem => {
    if (result.version === undefined) return toProblem({ ...result, head: result.head && toHead(result.head) });
    const context = found.get(result.index);
    if (!context) throw idempotencyMismatch('What this Idempotency-Key wrote is no longer kept.');
    return { outcome: result.outcome as Written['outcome'], context };
  });
  return { seq, results, extra: recorded.extra === null ? undefined : (JSON.parse(recorded.extra) as unknown) };
}
