import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { isSameDigest, sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import type { Database } from '../postgres/database.ts';
import { findKey } from './keys.sql.ts';
import type { Scope } from './scopes.ts';

/** Who a bearer token stands for. */
export interface Principal {
  readonly space: string;
  /** The name of the space's state in the caches. */
  readonly slot: string;
  /** `key_…`, or `owner` for the token of the server itself. */
  readonly id: string;
  readonly scopes: readonly Scope[];
  readonly isOwner: boolean;
}

export interface Credentials {
  /** @throws Problem `unauthenticated` for any token that is not valid now. */
  authenticate(token: string): Promise<Principal>;
  /** Told once, when the default space is known to be there. */
  openedDefault(slot: string): void;
  /** Forgets a key at once on this instance. */
  forget(keyId: string): void;
  /** Forgets the keys of a space that is gone. */
  forgetSpace(space: string): void;
}

/** The space that the owner's token belongs to. */
export const defaultSpace = 'default';

const keyForm = /^lam_([a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)_([a-z0-9]{12})_([a-z0-9]{40})$/;

/**
 * @param deps.ownerToken the owner's token; absent where there is none.
 * @param deps.windowMs how long a key that was good is trusted without asking again: how long a revoked key may live on
 *   an instance that did not revoke it.
 */
export function createCredentials(deps: {
  database: Database;
  clock: Clock;
  ownerToken: string | undefined;
  windowMs: number;
}): Credentials {
  const { database, clock, windowMs } = deps;
  const ownerDigest = deps.ownerToken === undefined ? undefined : sha256(deps.ownerToken);
  let owner: Principal = { space: defaultSpace, slot: defaultSpace, id: 'owner', scopes: ['admin'], isOwner: true };
  const known = new LRUCache<string, { principal: Principal; expiresMs: number; checkedMs: number }>({ max: 10_000 });

  return {
    async authenticate(token) {
      const digest = sha256(token);
      if (ownerDigest !== undefined && isSameDigest(digest, ownerDigest)) return owner;
      const nowMs = clock();
      const held = known.get(digest);
      if (held && nowMs - held.checkedMs < windowMs && nowMs < held.expiresMs) return held.principal;
      known.delete(digest);
      const [, space, id, secret] = keyForm.exec(token) ?? [];
      const key = space && id ? await findKey(database, space, id) : null;
      // The comparison is made for an unknown key too, so that its time tells nothing.
      const isProved = isSameDigest(sha256(secret ?? ''), key?.secretHash ?? sha256('no such key'));
      const expiresMs = key?.expiresMs ?? Number.POSITIVE_INFINITY;
      if (!space || key === null || !isProved || key.revokedMs !== null || expiresMs <= nowMs) {
        throw new Problem('unauthenticated', 'The bearer token is not valid: unknown, revoked or expired.');
      }
      const principal: Principal = { space, slot: key.slot, id: `key_${key.id}`, scopes: key.scopes, isOwner: false };
      known.set(digest, { principal, expiresMs, checkedMs: nowMs });
      return principal;
    },

    openedDefault(slot) {
      owner = { ...owner, slot };
    },

    forget(keyId) {
      for (const [digest, { principal }] of known) if (principal.id === `key_${keyId}`) known.delete(digest);
    },

    forgetSpace(space) {
      for (const [digest, { principal }] of known) if (principal.space === space) known.delete(digest);
    },
  };
}
