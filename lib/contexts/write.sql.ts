import { type Database, isDatabaseError, type Statement } from '../postgres/database.ts';
import { sql, toStatement } from '../postgres/sql.ts';
import { encodeContent } from './content.ts';
import type { Change, Context } from './context.ts';
import type { Operation } from './operation.ts';
import type { RequestContext } from './request.ts';
import { type ChangeJson, type HeadJson, jsonColumn, type PartsJson, spaceRow, toChange, toContext } from './rows.ts';

/** How an operation ended; from `exists` on they are refusals. */
export type Outcome =
  | 'created'
  | 'updated'
  | 'unchanged'
  | 'deleted'
  | 'exists'
  | 'stale'
  | 'content_required'
  | 'upload_unknown'
  | 'upload_used'
  | 'upload_changed'
  | 'not_found'
  | 'gone'
  | 'version_not_found'
  | 'tombstone_source'
  | 'parent_not_found'
  | 'parent_cycle'
  | 'tree_too_deep'
  | 'has_children'
  | 'cascade_too_large';

export interface OperationResult {
  readonly index: number;
  readonly id: string;
  readonly outcome: Outcome;
  /** The head after the operation, or the one it was refused against; null where there is none. */
  readonly head: Context | null;
  /** Up to ten children that stood in the way. */
  readonly children?: readonly string[] | undefined;
  /** The upload that could not be taken, and the version that has taken it, if one has. */
  readonly upload?: string | undefined;
  readonly usedBy?: UsedBy | null | undefined;
}

/** The version that an upload has become. */
export interface UsedBy {
  readonly id: string;
  readonly version: number;
}

/** What the idempotency key remembers of the first answer. */
export interface RecordedAnswer {
  /** What was kept with it, as JSON text. */
  readonly extra: string | null;
  readonly results: readonly {
    readonly index: number;
    readonly id: string;
    readonly outcome: Outcome;
    /** What was made; absent for a refusal, which has the `head` it was refused against. */
    readonly version?: number;
    readonly head?: HeadJson | null;
    readonly children?: string[];
    readonly upload?: string;
    readonly usedBy?: UsedBy | null;
  }[];
}

export type WriteAnswer = { readonly seq: number } & (
  | { readonly outcome: 'done'; readonly results: readonly OperationResult[]; readonly changes: readonly Change[] }
  | { readonly outcome: 'refused'; readonly result: OperationResult }
  | { readonly outcome: 'recorded'; readonly answer: RecordedAnswer }
  | { readonly outcome: 'mismatch' }
);

export interface WriteOptions {
  /** All or none; otherwise each operation stands for itself. */
  readonly atomic: boolean;
  readonly idempotency?: { readonly key: string; readonly fingerprint: string } | undefined;
  /** Kept with the idempotency key for the replay, such as a merge's report. */
  readonly extra?: unknown;
  /** Runs after the write in its transaction, refused or not: it has to look for itself what was written. */
  readonly beside?: Statement | undefined;
}

export interface WriteLimits {
  readonly retained: number;
  readonly retainedDays: number | null;
  readonly treeDepth: number;
  readonly cascadeContexts: number;
  /** What the write brings along: committed with it, or not at all. */
  readonly report?: Statement | undefined;
}

interface ResultJson {
  index: number;
  id: string;
  outcome: Outcome;
  head: HeadJson | null;
  content?: PartsJson;
  children?: string[];
  upload?: string;
  usedBy?: UsedBy | null;
}

interface AnswerJson {
  clock: number;
  results?: ResultJson[];
  changes?: ChangeJson[];
  refused?: ResultJson;
  recorded?: RecordedAnswer | null;
}

// Four times what an operation takes on a slow PostgreSQL.
const patienceMsEach = 1;

/** Carries out the operations in one request and one transaction; see `migrations/functions/04-write-contexts.sql`. */
export async function writeContexts(
  database: Database,
  request: RequestContext,
  operations: readonly Operation[],
  options: WriteOptions & WriteLimits,
): Promise<WriteAnswer> {
  const parts: string[] = [];
  const sent: unknown[] = [];
  for (const operation of operations) sent.push(await toSent(operation, parts));
  const sentOptions = {
    actor: request.actor,
    origin: request.actor.kind,
    atomic: options.atomic,
    takesTree: operations.length > 1 || operations.some(touchesTree),
    key: options.idempotency?.key,
    fingerprint: options.idempotency?.fingerprint,
    // As text: jsonb would change the order of its keys, and the second answer must be the first.
    extra: options.extra === undefined ? undefined : JSON.stringify(options.extra),
    retained: options.retained,
    retainedDays: options.retainedDays,
    depth: options.treeDepth,
    cascade: options.cascadeContexts,
  };
  // Quoted, because a part may be empty; base64 itself holds nothing to escape.
  const literal = `{${parts.map((part) => `"${part}"`).join(',')}}`;
  const statement = toStatement(
    sql`select write_contexts(${joinOperations(sent, operations)}::jsonb, ${literal}::text[], ${JSON.stringify(sentOptions)}::jsonb)::text as answer`,
  );
  const { beside, report } = options;
  try {
    const [rows = []] = await database
      .in(request)
      .run([statement, ...(beside ? [beside] : []), ...(report ? [report] : [])], {
        ...request,
        patienceMs: operations.length * patienceMsEach,
      });
    const row = spaceRow(rows, request);
    return toAnswer(jsonColumn<AnswerJson>(row, 'answer') as AnswerJson);
  } catch (error) {
    if (!isDatabaseError(error) || error.sqlState !== 'LM001') throw error;
    return { seq: 0, outcome: 'refused', result: toResult(JSON.parse(error.detail ?? '{}') as ResultJson) };
  }
}

function toAnswer(json: AnswerJson): WriteAnswer {
  const seq = json.clock;
  if (json.recorded !== undefined) {
    return json.recorded === null ? { seq, outcome: 'mismatch' } : { seq, outcome: 'recorded', answer: json.recorded };
  }
  if (json.refused !== undefined) return { seq, outcome: 'refused', result: toResult(json.refused) };
  return {
    seq,
    outcome: 'done',
    results: (json.results ?? []).map(toResult),
    changes: (json.changes ?? []).map(toChange),
  };
}

function toResult(json: ResultJson): OperationResult {
  const { content, head, ...rest } = json;
  return { ...rest, head: head ? toContext(head, content) : null };
}

function touchesTree(operation: Operation): boolean {
  if (operation.op === 'put') return operation.parentId !== undefined;
  return operation.op === 'delete';
}

async function toSent(operation: Operation, parts: string[]): Promise<Record<string, unknown>> {
  if (operation.op !== 'put' || operation.content === undefined) return { ...operation };
  const { hash, sizeBytes, encoding, parts: own } = await encodeContent(operation.content.bytes);
  const first = parts.length + 1;
  parts.push(...own);
  const content = { hash, size: sizeBytes, type: operation.content.contentType, encoding, first, parts: own.length };
  return { ...operation, content };
}

// Metadata is JSON text already: it goes in as it is, so that no number is rounded on the way.
function joinOperations(sent: readonly unknown[], operations: readonly Operation[]): string {
  const texts = sent.map((one, index) => {
    const operation = operations[index];
    if (operation?.op !== 'put' || operation.metadata === undefined) return JSON.stringify(one);
    const text = JSON.stringify({ ...(one as object), metadata: undefined });
    return `${text.slice(0, -1)},"metadata":${operation.metadata ?? 'null'}}`;
  });
  return `[${texts.join(',')}]`;
}
