import { jsonType, toDocument } from '../merge/document.ts';
import { foldDocuments } from '../merge/fold.ts';
import { type Context, isLive } from './context.ts';
import { contextTooLarge } from './outcomes.ts';

/** A context with the contents of its ancestors folded in. */
export interface Effective {
  /** As it stands where it is no longer alive; null where there is none. */
  readonly context: Context | null;
  /** What it was folded from, root first. */
  readonly resolvedFrom: readonly { readonly id: string; readonly version: number }[];
  /** When the first of those expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

/**
 * Folds a chain of contexts, root first, into its last.
 *
 * @throws Problem `context_too_large` where one of them, or the result, is above `inlineBytes`.
 */
export function foldChain(
  chain: readonly Context[],
  { inlineBytes, nowMs }: { readonly inlineBytes: number; readonly nowMs: number },
): Effective {
  const context = chain.at(-1) ?? null;
  const expiries = chain.flatMap(({ expiresMs }) => expiresMs ?? []);
  const expiresMs = expiries.length === 0 ? null : Math.min(...expiries);
  if (context === null || !isLive(context, nowMs)) return { context, resolvedFrom: [], expiresMs: null };
  const documents = chain.map((one) => {
    if (one.content === undefined) throw contextTooLarge(one.sizeBytes, inlineBytes);
    return toDocument(one.content, one.contentType ?? jsonType);
  });
  const content = foldDocuments(documents);
  if (content.length > inlineBytes) throw contextTooLarge(content.length, inlineBytes);
  return {
    context: { ...context, content },
    resolvedFrom: chain.map(({ id, version }) => ({ id, version })),
    expiresMs,
  };
}
