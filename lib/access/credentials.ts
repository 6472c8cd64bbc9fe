import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { isSameSecret, sha256 } from '../base/hash.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { Problem } from '../base/problem.ts';
import type { ReliedOn } from '../cache/answers.ts';
import type { Cache } from '../cache/cache.ts';
import type { Kind } from '../cache/kind.ts';
import { toTouches } from '../contexts/items.ts';
import { type Database, tokenInvalid } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import type { CachedKey } from './key-kind.ts';
import { findKey, readKey } from './keys.sql.ts';
import type { Scope } from './scopes.ts';

/** Who a bearer token stands for. */
export interface Principal {
  readonly space: string;
  /** The name of the space's state in the caches. */
  readonly slot: string;
  /** `key_…`, or `owner` for the token of the server itself. */
  readonly id: string;
  /** The key itself; absent for the owner. */
  readonly keyId?: string | undefined;
  readonly scopes: readonly Scope[];
  readonly isOwner: boolean;
  /** Set where the key was valid when it was looked at last, longer ago than the window. */
  readonly unconfirmed?: ReliedOn | undefined;
}

export interface Credentials {
  /**
   * At once where layer 1 remembers enough.
   *
   * @param options.isConfirming whether what follows confirms the key, as a read or a write of contexts does on its way:
   *   then a key that layer 1 remembers costs no request here, however long ago it was looked at.
   * @throws Problem `unauthenticated` for any token that is not valid now.
   */
  authenticate(token: string, options?: { readonly isConfirming: boolean }): MaybePromise<Principal>;
  /** Told once, when the default space is known to be there. */
  openedDefault(slot: string): void;
  /** Forgets where a space that is gone was. */
  forgetSpace(space: string): void;
}

/** The space that the owner's token belongs to. */
export const defaultSpace = 'default';

const keyForm = /^lam_([a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)_([a-z0-9]{12})_([a-z0-9]{40})$/;

/** A key's token taken apart, as it came. */
interface Claim {
  readonly space: string;
  readonly id: string;
  readonly secret: string;
}

/** A claim that was true: the key as layer 1 had it then, and whom it stands for. */
interface Proof {
  readonly claim: Claim;
  readonly key: NonNullable<CachedKey>;
  readonly principal: Principal;
}

/** A token as somebody shows it, and what is known of it from before. */
interface Shown {
  readonly token: string;
  readonly claim: Claim;
  readonly proof: Proof | undefined;
}

/**
 * Keys are cached values like any other: a change of one touches `k:<id>`, so that a revocation takes hold within the
 * window on every instance. The slot of a space is looked up once and remembered; should the name belong to another space
 * by then, the database says so.
 *
 * @param deps.ownerToken the owner's token; absent where there is none.
 */
export function createCredentials(deps: {
  database: Database;
  cache: Cache;
  keyKind: Kind<CachedKey>;
  clock: Clock;
  ownerToken: string | undefined;
}): Credentials {
  const { database, cache, keyKind, clock, ownerToken } = deps;
  let owner: Principal = { space: defaultSpace, slot: defaultSpace, id: 'owner', scopes: ['admin'], isOwner: true };
  const slots = new LRUCache<string, string>({ max: 10_000 });
  // By the token: to take one apart and hash its secret for each request would cost more than the read. How long a look
  // into the table takes tells nothing of a token that is partly right.
  const proofs = new LRUCache<string, Proof | 'owner'>({ max: 10_000 });

  /** The key as the caches have it, or as the space's own database has it now. */
  async function read(space: string, slot: string, id: string): Promise<CachedKey> {
    const { values } = await cache.read({ slot, seq: 0, noCache: false }, keyKind, [id], async (_ids, after) => {
      const { key, seq, feed } = await retryLost(() =>
        readKey(database, { space, slot }, id, after ?? Number.MAX_SAFE_INTEGER),
      );
      return {
        // Whoever guesses ids must not fill the caches.
        values: [{ value: key, deps: [`k:${id}`], isPassing: key === null }],
        seq,
        feed: feed === null ? 'too long' : toTouches(feed),
      };
    });
    return values[0] ?? null;
  }

  /** The key of a space whose slot is not known, or no longer its own. */
  async function find(space: string, id: string): Promise<CachedKey> {
    slots.delete(space);
    const found = await findKey(database, space, id);
    if (found !== null) slots.set(space, found.slot);
    return found;
  }

  async function look({ space, id }: Claim): Promise<CachedKey> {
    const slot = slots.get(space);
    if (slot === undefined) return find(space, id);
    return read(space, slot, id).catch((error) => {
      if (error instanceof Problem && error.code === 'unauthenticated') return find(space, id);
      throw error;
    });
  }

  /** @throws Problem `unauthenticated` unless the secret is the key's, and the key good now. */
  function admit({ token, claim, proof }: Shown, key: CachedKey): Principal {
    const { space, secret } = claim;
    const proved = proof?.key === key ? proof?.principal : undefined;
    // The comparison is made for an unknown key too, so that its time tells nothing.
    const isProved = proved !== undefined || isSameSecret(sha256(secret), key?.secretHash ?? sha256('no such key'));
    const isOver = key?.expiresMs !== null && clock() >= (key?.expiresMs ?? 0);
    if (key === null || !isProved || key.revokedMs !== null || isOver) throw tokenInvalid();
    const slot = slots.get(space);
    // Forgotten meanwhile, with its space.
    if (slot === undefined) throw tokenInvalid();
    if (proved?.slot === slot) return proved;
    const principal = { space, slot, id: `key_${key.id}`, keyId: key.id, scopes: key.scopes, isOwner: false };
    proofs.set(token, { claim, key, principal });
    return principal;
  }

  function readToken(token: string): Claim {
    const [, space, id, secret] = keyForm.exec(token) ?? [];
    if (!space || !id || !secret) throw tokenInvalid();
    return { space, id, secret };
  }

  return {
    authenticate(token, { isConfirming } = { isConfirming: false }) {
      const proof = proofs.get(token);
      if (proof === 'owner') return owner;
      if (proof === undefined && ownerToken !== undefined && isSameSecret(token, ownerToken)) {
        proofs.set(token, 'owner');
        return owner;
      }
      const claim = proof?.claim ?? readToken(token);
      const shown = { token, claim, proof };
      const { space, id } = claim;
      const slot = slots.get(space);
      const current = slot === undefined ? undefined : cache.get(slot, keyKind, id);
      if (current !== undefined) return admit(shown, current.value);
      const held = slot === undefined || !isConfirming ? undefined : cache.peek(slot, keyKind, id);
      if (held === undefined) return look(claim).then((key) => admit(shown, key));
      const unconfirmed = { kind: keyKind.name, id, value: held.value };
      return { ...admit(shown, held.value), unconfirmed };
    },

    openedDefault(slot) {
      owner = { ...owner, slot };
    },

    forgetSpace: (space) => void slots.delete(space),
  };
}
