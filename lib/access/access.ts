import { createHmac } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { sha256 } from '../base/hash.ts';
import type { Ids } from '../base/id.ts';
import { Problem } from '../base/problem.ts';
import type { Cache } from '../cache/cache.ts';
import type { Kind } from '../cache/kind.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { type RequestContext, type SpaceRef, slotOf } from '../contexts/request.ts';
import { toChange } from '../contexts/rows.ts';
import { type Idempotency, idempotencyMismatch } from '../contexts/written.ts';
import type { Database } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { type Credentials, createCredentials, defaultSpace } from './credentials.ts';
import type { CachedKey } from './key-kind.ts';
import {
  type ApiKey,
  type AuditEntry,
  createKey,
  createSpace,
  dropSpace,
  insertSpace,
  type KeyAnswer,
  readAudit,
  readKeys,
  readSpaces,
  revokeKey,
  type Space,
  sealSpace,
} from './keys.sql.ts';
import type { Scope } from './scopes.ts';

export interface NewKey {
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** ISO 8601; null never expires. */
  readonly expiresAt: string | null;
}

/** Spaces, keys and the audit. */
export interface Access {
  readonly credentials: Credentials;
  /**
   * Makes a key and tells its token, once.
   *
   * @param proof the bearer token of the request: with an idempotency key the secret is derived from it, so that the
   *   same request is told the same token again although nobody keeps it.
   */
  createKey(
    request: RequestContext,
    key: NewKey,
    proof: string,
    idempotency?: Idempotency,
  ): Promise<{ key: ApiKey; token: string; seq: number }>;
  /** @throws Problem `not_found` for a key that is not there or was revoked before. */
  revokeKey(request: RequestContext, id: string, idempotency?: Idempotency): Promise<{ key: ApiKey; seq: number }>;
  listKeys(
    request: RequestContext,
    page: { after?: string | undefined; limit: number },
  ): Promise<{ items: ApiKey[]; seq: number }>;
  audit(
    request: RequestContext,
    page: { before?: string | undefined; limit: number },
  ): Promise<{ items: AuditEntry[]; seq: number }>;
  /** @throws Problem `already_exists`. */
  createSpace(
    request: RequestContext,
    name: string,
    proof: string,
    idempotency?: Idempotency,
  ): Promise<{ key: ApiKey; token: string }>;
  /** @throws Problem `not_found`, or `unprocessable` for the space of the server itself. */
  deleteSpace(request: RequestContext, name: string, idempotency?: Idempotency): Promise<void>;
  listSpaces(page: { after?: string | undefined; limit: number }): Promise<Space[]>;
  /** Makes the default space where it is missing. @returns its slot, which it keeps. */
  prepare(): Promise<string>;
}

export function createAccess(deps: {
  database: Database;
  clock: Clock;
  ids: Ids;
  ownerToken: string | undefined;
  cache: Cache;
  keyKind: Kind<CachedKey>;
  /** Removes all that a closed space has where vectors are kept. @throws Problem `unavailable` */
  forgetVectors: (space: SpaceRef) => Promise<void>;
  /** Tells the caches and whoever waits what a write has committed. */
  committing: Contexts['committing'];
}): Access {
  const { database, ids, cache, committing, forgetVectors } = deps;
  const credentials = createCredentials(deps);

  const options = (request: RequestContext, idempotency: Idempotency | undefined) => ({
    ...idempotency,
    actor: request.actor,
    auditId: ids.sortable(),
  });

  const mint = (key: NewKey, proof: string, idempotency: Idempotency | undefined) => {
    const secret = idempotency === undefined ? ids.random(40) : derive(proof, idempotency);
    return {
      stored: { ...key, id: ids.random(12), secretHash: sha256(secret) },
      tokenOf: (space: string, made: ApiKey) => `lam_${space}_${made.id}_${secret}`,
    };
  };

  return {
    credentials,

    async createKey(request, key, proof, idempotency) {
      const { stored, tokenOf } = mint(key, proof, idempotency);
      const answer = await committing(
        request,
        () => retryLost(() => createKey(database, request, stored, options(request, idempotency))),
        changesOf,
      );
      const made = keyOf(answer);
      if (made === null) throw new Problem('internal', 'The key was not made.');
      return { key: made, token: tokenOf(request.space, made), seq: answer.clock };
    },

    async revokeKey(request, id, idempotency) {
      const answer = await committing(
        request,
        () => retryLost(() => revokeKey(database, request, id, options(request, idempotency))),
        changesOf,
      );
      const revoked = keyOf(answer);
      if (revoked === null) throw new Problem('not_found', `There is no key ${id}, or it was revoked before.`);
      return { key: revoked, seq: answer.clock };
    },

    listKeys: (request, page) => readKeys(database, request, page),
    audit: (request, page) => readAudit(database, request, page),

    async createSpace(request, name, proof, idempotency) {
      const key = { name: 'first', scopes: ['admin'], expiresAt: null } as const;
      const { stored, tokenOf } = mint(key, proof, idempotency);
      const answer = await retryLost(() =>
        createSpace(database, request, { name, key: stored }, options(request, idempotency)),
      );
      const made = keyOf(answer);
      if (made === null) throw new Problem('already_exists', `There is a space ${name} already.`, { name });
      return { key: made, token: tokenOf(name, made) };
    },

    async deleteSpace(request, name, idempotency) {
      if (name === defaultSpace) throw new Problem('unprocessable', 'The default space cannot be deleted.');
      // Ended anywhere, the same call goes on. Whatever the caches of other instances still hold is of another slot than
      // any later space's of this name, and good for nothing in the database.
      const asked = options(request, idempotency);
      const sealed = await retryLost(() => sealSpace(database, request, name, asked));
      if (sealed.recorded === null) throw idempotencyMismatch();
      if (sealed.recorded !== undefined) return;
      if (sealed.createdMs === null) throw new Problem('not_found', `There is no space ${name}.`);
      const { createdMs } = sealed;
      credentials.forgetSpace(name);
      // With its state every instance that shares layer 2 forgets what it remembers of the space; where it is away, or
      // holds on to some, its entries are good for nothing, and lie there until their time is over.
      const purge = () => cache.purge(slotOf(name, createdMs), 'all').catch(() => 0);
      await purge();
      await forgetVectors({ space: name, slot: slotOf(name, createdMs) });
      const answer = await retryLost(() => dropSpace(database, request, { name, createdMs }, asked));
      if (answer.recorded === null) throw idempotencyMismatch();
      if (!answer.dropped && !answer.recorded) throw new Problem('not_found', `There is no space ${name}.`);
      // What was being read meanwhile may have come back.
      await purge();
    },

    listSpaces: (page) => readSpaces(database, page),

    async prepare() {
      const slot = await insertSpace(database, defaultSpace);
      credentials.openedDefault(slot);
      return slot;
    },
  };
}

const changesOf = (answer: KeyAnswer) => (answer.changes ?? []).map(toChange);

/** The key that was made or revoked, now or by the first request under the same idempotency key. */
function keyOf(answer: Pick<KeyAnswer, 'key' | 'recorded'>): ApiKey | null {
  if (answer.recorded === null) throw idempotencyMismatch();
  return answer.key ?? answer.recorded?.key ?? null;
}

/** 40 characters of 0–9 and a–v from what only this caller can send again. */
function derive(proof: string, idempotency: Idempotency): string {
  const digest = createHmac('sha256', proof)
    .update(`lamina key\n${idempotency.key}\n${idempotency.fingerprint}`)
    .digest();
  return BigInt(`0x${digest.toString('hex')}`)
    .toString(32)
    .padStart(52, '0')
    .slice(-40);
}
