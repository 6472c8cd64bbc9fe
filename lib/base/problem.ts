/**
 * Every refusal and failure a caller can meet, in one table. HTTP renders it as RFC 9457, MCP as a tool error with the
 * same code, a queue reads `retry`.
 */
const table = {
  invalid_request: { status: 400, title: 'The request is not valid', retry: false },
  unauthenticated: { status: 401, title: 'A valid bearer token is needed', retry: false },
  forbidden: { status: 403, title: 'The token lacks the scope for this', retry: false },
  context_not_found: { status: 404, title: 'There is no such context', retry: false },
  version_not_found: { status: 404, title: 'There is no such version', retry: false },
  not_found: { status: 404, title: 'There is nothing here', retry: false },
  method_not_allowed: { status: 405, title: 'The method is not allowed here', retry: false },
  already_exists: { status: 409, title: 'It exists already', retry: false },
  merge_conflict: { status: 409, title: 'The changes collide', retry: false },
  has_children: { status: 409, title: 'The context has children', retry: false },
  parent_cycle: { status: 409, title: 'A context cannot be its own ancestor', retry: false },
  idempotency_mismatch: { status: 409, title: 'The idempotency key was used for another request', retry: false },
  sync_running: { status: 409, title: 'The peer is being synchronised already', retry: true },
  gone: { status: 410, title: 'The context was deleted or has expired', retry: false },
  cursor_expired: { status: 410, title: 'The feed no longer reaches back that far', retry: false },
  version_conflict: { status: 412, title: 'The context has another version', retry: false },
  context_too_large: { status: 413, title: 'The content is too large', retry: false },
  unsupported_media_type: { status: 415, title: 'The media type is not supported here', retry: false },
  range_not_satisfiable: { status: 416, title: 'The range lies outside the content', retry: false },
  unprocessable: { status: 422, title: 'The request cannot be carried out as it stands', retry: false },
  parent_not_found: { status: 422, title: 'The parent does not exist', retry: false },
  rate_limited: { status: 429, title: 'Too much at once', retry: true },
  internal: { status: 500, title: 'Something went wrong here', retry: true },
  unavailable: { status: 503, title: 'The store cannot be reached', retry: true },
} as const satisfies Record<string, { status: number; title: string; retry: boolean }>;

export type ProblemCode = keyof typeof table;

/** The table for whoever documents it: code → status, title and whether the same request may succeed later. */
export const problemTable: Readonly<Record<ProblemCode, { status: number; title: string; retry: boolean }>> = table;

/** Facts a code names in its answer, such as `currentVersion`; values must be safe to show the caller. */
export type ProblemFacts = Readonly<Record<string, unknown>>;

/** A refusal or failure with a code of the table; its `message` is one sentence for the caller. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly facts: ProblemFacts;

  constructor(code: ProblemCode, detail: string, facts: ProblemFacts = {}, cause?: unknown) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = 'Problem';
    this.code = code;
    this.facts = facts;
  }

  get status(): number {
    return table[this.code].status;
  }

  get title(): string {
    return table[this.code].title;
  }

  /** Seconds after which the same request may succeed; absent when repeating it cannot help. */
  get retryAfterSeconds(): number | undefined {
    if (this.code === 'rate_limited') return Number(this.facts['retryAfterSeconds'] ?? 1);
    return table[this.code].retry && this.code === 'unavailable' ? 1 : undefined;
  }
}

/** A 400 that names where the request is wrong; `path` is a JSON Pointer into the body or a parameter's name. */
export function invalid(path: string, message: string): Problem {
  return new Problem('invalid_request', `${path === '' ? 'The request' : path}: ${message}.`, {
    errors: [{ path, message }],
  });
}
