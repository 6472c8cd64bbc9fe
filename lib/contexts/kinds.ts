import type { Kind } from '../cache/kind.ts';
import { createPacking, unpack } from '../cache/packing.ts';
import type { Settings } from '../config/settings.ts';
import type { Context, ContextHead } from './context.ts';
import type { Effective } from './effective.ts';

/** A head as the caches keep it: tombstones are values too, and null is an id without a context. */
export type CachedHead = Context | null;

/** A page of a list, with the head it is of where that was asked for. */
export interface CachedList {
  readonly items: readonly Context[];
  readonly hasMore: boolean;
  readonly of: ContextHead | null;
  /** When the next context of the space expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

/** The kinds of answers about contexts that the caches keep. */
export interface ContextKinds {
  readonly head: Kind<CachedHead>;
  /** The contexts above a context and itself, root first, without contents. */
  readonly ancestry: Kind<readonly Context[]>;
  readonly effective: Kind<Effective>;
  readonly list: Kind<CachedList>;
  /** A subtree breadth first, without contents; one more than asked for where there are more. */
  readonly tree: Kind<readonly ContextHead[]>;
}

/** What a value is made of: facts that are JSON, and contexts with their contents. */
interface Parts {
  readonly facts: unknown;
  readonly contexts: readonly Context[];
}

const states: readonly string[] = ['live', 'deleted'] satisfies ContextHead['state'][];

export function createContextKinds(settings: Settings): ContextKinds {
  const { cache, tombstones } = settings;
  const pack = createPacking(cache);

  /** From when on an answer made of these is wrong by itself: one has expired, or a tombstone may be forgotten. */
  function earliest(contexts: readonly ContextHead[]): number | null {
    const ends = contexts.map((one) => forgottenMs(one) ?? one.expiresMs ?? Number.POSITIVE_INFINITY);
    const end = Math.min(...ends);
    return Number.isFinite(end) ? end : null;
  }
  // Cleanup forgets a tombstone without a change that anybody is told of.
  const forgottenMs = (one: ContextHead) =>
    one.state === 'deleted' ? one.updatedMs + tombstones.retainedDays * 86_400_000 : null;

  function create<Value>(
    name: keyof Settings['cache']['kinds'],
    of: {
      readonly toParts: (value: Value) => Parts;
      readonly fromParts: (parts: { readonly facts: never; readonly contexts: Context[] }, id: string) => Value;
      readonly expiresMs: (value: Value) => number | null;
      readonly isAbsent?: (value: Value) => boolean;
    },
  ): Kind<Value> {
    const { layers, ttlSeconds } = cache.kinds[name];
    return {
      name,
      layers,
      ttlMs: (value) => 1000 * (of.isAbsent?.(value) ? Math.min(cache.absentTtlSeconds, ttlSeconds) : ttlSeconds),
      expiresMs: of.expiresMs,

      encode: (value, id) => pack(print(id, of.toParts(value))),

      decode: (text, id) => of.fromParts(read(id, unpack(text)) as never, id),

      // An entry is kept together with the answer printed from it, plain and compressed, once that was asked for.
      bytesOf: (value) =>
        of
          .toParts(value)
          .contexts.reduce(
            (sum, { content, metadata }) => sum + 600 + Math.ceil(2.5 * ((content?.length ?? 0) + metadata.length)),
            200,
          ),
    };
  }

  return {
    head: create<CachedHead>('head', {
      toParts: (head) => ({ facts: null, contexts: head === null ? [] : [head] }),
      fromParts({ contexts }, id) {
        const [head = null] = contexts;
        const isWhole = head?.content === undefined || head.content.length === head.sizeBytes;
        if (contexts.length > 1 || (head !== null && head.id !== id) || !isWhole) throw new Error('a damaged entry');
        return head;
      },
      // Whoever reads an expired head sees that from its own time.
      expiresMs: (head) => (head === null ? null : forgottenMs(head)),
      isAbsent: (head) => head === null,
    }),
    ancestry: create<readonly Context[]>('ancestry', {
      toParts: (contexts) => ({ facts: null, contexts }),
      fromParts: ({ contexts }) => contexts,
      expiresMs: earliest,
    }),
    effective: create<Effective>('effective', {
      toParts: ({ context, ...facts }) => ({ facts, contexts: context === null ? [] : [context] }),
      fromParts({ facts, contexts }, id) {
        const [context = null] = contexts;
        if (context !== null && context.id !== id) throw new Error('a damaged entry');
        return { ...(facts as Omit<Effective, 'context'>), context };
      },
      expiresMs: ({ context, expiresMs }) => (context === null ? null : (forgottenMs(context) ?? expiresMs)),
      isAbsent: ({ context }) => context === null,
    }),
    list: create<CachedList>('list', {
      toParts: ({ items, of, ...facts }) => ({
        facts: { ...facts, isOf: of !== null },
        contexts: of === null ? items : [of, ...items],
      }),
      fromParts({ facts, contexts }) {
        const { isOf, ...rest } = facts as { isOf: boolean; hasMore: boolean; expiresMs: number | null };
        return { ...rest, of: isOf ? (contexts[0] ?? null) : null, items: isOf ? contexts.slice(1) : contexts };
      },
      expiresMs: ({ expiresMs, of }) => (of === null ? expiresMs : (forgottenMs(of) ?? expiresMs)),
    }),
    tree: create<readonly ContextHead[]>('tree', {
      toParts: (contexts) => ({ facts: null, contexts }),
      fromParts: ({ contexts }) => contexts,
      expiresMs: earliest,
    }),
  };
}

/** A line of JSON, then the contents one after another as they stand. */
function print(id: string, { facts, contexts }: Parts): string {
  const heads = contexts.map(({ content, ...head }) => head);
  const lengths = contexts.map(({ content }) => content?.length ?? -1);
  const texts = contexts.map(({ content }) =>
    content === undefined ? '' : Buffer.from(content.buffer, content.byteOffset, content.length).toString(),
  );
  return `${JSON.stringify({ id, facts, heads, lengths })}\n${texts.join('')}`;
}

/** @throws Error for what `print` has not made of the value of `id`. */
function read(id: string, plain: string): { facts: unknown; contexts: Context[] } {
  const end = plain.indexOf('\n');
  const line = JSON.parse(plain.slice(0, end)) as {
    id: string;
    facts: unknown;
    heads: ContextHead[];
    lengths: number[];
  };
  if (line.id !== id) throw new Error('an entry of something else');
  const bytes = Buffer.from(plain.slice(end + 1));
  let at = 0;
  const contexts = line.heads.map((head, index): Context => {
    const length = line.lengths[index] ?? -1;
    const isHead = typeof head.id === 'string' && typeof head.metadata === 'string' && states.includes(head.state);
    // The content of an effective context is not the one that its head tells the size of.
    if (!isHead || at + Math.max(length, 0) > bytes.length) throw new Error('a damaged entry');
    if (length < 0) return head;
    at += length;
    return { ...head, content: bytes.subarray(at - length, at) };
  });
  if (at !== bytes.length) throw new Error('a damaged entry');
  return { facts: line.facts, contexts };
}
