import type { MaybePromise } from '../base/maybe-promise.ts';
/** A door of its own behind the same server, such as MCP's: it answers every method at its path by itself. */
export interface Mount {
  readonly path: string;
  /** @param leftMs how long the process may still work on it; absent where it may for ever. */
  fetch(request: Request, leftMs?: number): MaybePromise<Response>;
}

/** The headers of a request, by their names in lower case. */
export type HeaderReader = Pick<Headers, 'get'>;

/** The token of an `Authorization: Bearer` header. */
export function readBearer(headers: HeaderReader): string | undefined {
  return /^Bearer +([^\s]+)\s*$/i.exec(headers.get('authorization') ?? '')?.[1];
}
