import type { Kind } from '../cache/kind.ts';
import { createPacking, unpack } from '../cache/packing.ts';
import type { Settings } from '../config/settings.ts';

/** A pack as the caches keep it. */
export interface CachedPack {
  /** Null where there is nothing to say. */
  readonly text: string | null;
  /** When the next context of the space expires, in milliseconds since 1970; null where none does. */
  readonly expiresMs: number | null;
}

export function createPackKind({ cache }: Settings): Kind<CachedPack> {
  const { layers, ttlSeconds } = cache.kinds.pack;
  const pack = createPacking(cache);
  return {
    name: 'pack',
    layers,
    ttlMs: () => ttlSeconds * 1000,
    encode: (value, id) => pack(JSON.stringify({ id, value })),
    decode(text, id) {
      const { id: of, value } = JSON.parse(unpack(text)) as { id: string; value: CachedPack };
      if (of !== id || !(value?.text === null || typeof value?.text === 'string')) throw new Error('a damaged entry');
      return value;
    },
    bytesOf: ({ text }) => 300 + 2 * (text?.length ?? 0),
    expiresMs: ({ expiresMs }) => expiresMs,
  };
}
