import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import type { Contexts } from './contexts.ts';
import { type Covered, invalidate } from './invalidation.sql.ts';
import { contextItem, tagItem } from './items.ts';
import type { RequestContext } from './request.ts';
import { toChange } from './rows.ts';
import { type Idempotency, idempotencyMismatch } from './written.ts';

/** What is to be loaded again, whatever the caches hold of it. */
export type Invalidation =
  | { readonly ids: readonly string[] }
  /** `kind:<kind>`, `parent:<id>`, or a string of `metadata.tags`. */
  | { readonly tags: readonly string[] }
  /** A glob over ids: `*`, `?`, `[…]`. */
  | { readonly pattern: string }
  | { readonly all: true };

/**
 * Invalidates: one tick of the space's clock and one command to layer 2, whatever it covers.
 *
 * @returns the tick: a read that presents it as `Context-Seq` sees nothing that was cached before.
 */
export async function invalidateContexts(
  deps: { database: Database; contexts: Contexts },
  request: RequestContext,
  what: Invalidation,
  idempotency?: Idempotency,
): Promise<number> {
  const answer = await deps.contexts.committing(
    request,
    () => retryLost(() => invalidate(deps.database, request, toCovered(what), idempotency)),
    (done) => (done.changes ?? []).map(toChange),
  );
  if (answer.recorded === null) throw idempotencyMismatch();
  return answer.recorded?.clock ?? answer.clock;
}

function toCovered(what: Invalidation): Covered {
  if ('ids' in what) return { items: what.ids.map(contextItem) };
  if ('tags' in what) return { items: what.tags.map(tagItem) };
  if ('all' in what) return { all: true };
  const [prefix = ''] = /^[^*?[]*/.exec(what.pattern) ?? [];
  // Ids are ASCII, so everything that begins with the prefix sorts below it with a last character beyond ASCII.
  return { pattern: globToRegex(what.pattern), from: prefix, below: prefix === '' ? null : `${prefix}\u00ff` };
}

/** The members of a bracket: ranges that ascend, and everything else for itself. */
function toClass(members: string): string {
  const literal = (character: string) => character.replace(/[\\\]^[-]/, '\\$&');
  let found = '';
  for (let at = 0; at < members.length; at++) {
    const [from = '', dash, to = ''] = members.slice(at, at + 3);
    if (dash === '-' && to !== '' && from <= to) {
      found += `${literal(from)}-${literal(to)}`;
      at += 2;
    } else found += literal(from);
  }
  return found;
}

/** A glob as a regular expression over the whole id; `[!…]` is none of them, a bracket without its end is itself. */
export function globToRegex(glob: string): string {
  let regex = '';
  for (let at = 0; at < glob.length; at++) {
    const character = glob[at] as string;
    if (character === '*') {
      if (!regex.endsWith('.*')) regex += '.*';
    } else if (character === '?') regex += '.';
    else if (character === '[') {
      const [whole = '', not = '', members = ''] = /^\[(!?)([^\]]+)\]/.exec(glob.slice(at)) ?? [];
      if (whole === '') regex += '\\[';
      else {
        regex += `[${not === '' ? '' : '^'}${toClass(members)}]`;
        at += whole.length - 1;
      }
    } else regex += character.replace(/[.*+?^${}()|[\]\\]/, '\\$&');
  }
  return `^${regex}$`;
}
