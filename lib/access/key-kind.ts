import type { Kind } from '../cache/kind.ts';
import type { Settings } from '../config/settings.ts';
import type { StoredKey } from './keys.sql.ts';

/** What proving a key needs; null where there is none of that id. */
export type CachedKey = Pick<StoredKey, 'id' | 'scopes' | 'expiresMs' | 'revokedMs' | 'secretHash'> | null;

const mark = 'k1\n';

/** Keys in the caches: the SHA-256 of a secret, never the secret. */
export function createKeyKind({ cache }: Settings): Kind<CachedKey> {
  const { layers, ttlSeconds } = cache.kinds.key;
  return {
    name: 'key',
    layers,
    // Whoever guesses ids must not leave leases behind.
    isUnleased: true,
    ttlMs: () => ttlSeconds * 1000,
    encode: async (key, id) => mark + JSON.stringify({ id, key }),
    decode(text, id) {
      if (!text.startsWith(mark)) throw new Error('an entry of another format');
      const { id: of, key } = JSON.parse(text.slice(mark.length)) as { id: string; key: CachedKey };
      const isKey = key === null || (key.id === id && typeof key.secretHash === 'string' && Array.isArray(key.scopes));
      if (of !== id || !isKey) throw new Error('a damaged entry');
      return key;
    },
    bytesOf: () => 600,
    // Whoever is shown an expired key sees that from its own time.
    expiresMs: () => null,
  };
}
