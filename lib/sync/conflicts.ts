import { Problem } from '../base/problem.ts';
import { type Context, isLive } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { Operation } from '../contexts/operation.ts';
import type { RequestContext } from '../contexts/request.ts';
import { writeMany } from '../contexts/written.ts';
import { type Database, isDatabaseError, runOne } from '../postgres/database.ts';
import { retryLost } from '../postgres/retry.ts';
import { readContents, type StoredValue } from './bases.sql.ts';
import { readConflicts, type StoredConflict, settleConflict } from './conflicts.sql.ts';
import type { Connectors } from './peer.ts';
import { readPeers } from './peers.sql.ts';
import { planSettlement, type Settlement } from './settlement.ts';
import type { Value } from './value.ts';

/** A conflict, its sides with their contents: null for a side that has nothing; undefined for a content that is not at hand. */
export interface Conflict extends Omit<StoredConflict, 'base' | 'ours' | 'theirs'> {
  readonly base: Side | null;
  readonly ours: Side | null;
  readonly theirs: Side | null;
}

/** A side of a conflict. */
export interface Side extends StoredValue {
  readonly content?: Uint8Array | undefined;
}

/** Changes of both sides that no strategy could join. Both are kept until somebody settles them. */
export interface Conflicts {
  list(
    request: RequestContext,
    page: {
      readonly peer?: string | undefined;
      readonly isOpen: boolean;
      readonly after?: string | undefined;
      readonly limit: number;
    },
  ): Promise<{ items: readonly StoredConflict[]; seq: number }>;
  /** @throws Problem `not_found`. */
  get(request: RequestContext, id: string): Promise<{ conflict: Conflict; seq: number }>;
  /**
   * Makes the context what was chosen, as a new version where that is another, and has the next run make the peer hold the
   * same. What a side has changed since is joined with it then.
   *
   * @returns the context; null where what was chosen is a delete.
   * @throws Problem `not_found`, or `version_conflict` where the context was changed since the conflict was noted: the next
   *   run looks at it again.
   */
  resolve(
    request: RequestContext,
    id: string,
    settlement: Settlement,
  ): Promise<{ context: Context | null; seq: number }>;
}

// A context is at most this large.
const contentBytesMax = 10_485_760;
// What an answer holds of the contents of a conflict.
const shownBytes = 4_194_304;

export function createConflicts(deps: { database: Database; contexts: Contexts; connectors: Connectors }): Conflicts {
  const { database, contexts, connectors } = deps;

  async function find(request: RequestContext, id: string) {
    const { items, seq } = await readConflicts(database, request, { id });
    const [conflict] = items;
    if (conflict === undefined) throw new Problem('not_found', `There is no conflict ${id}.`, { id });
    return { conflict, seq };
  }

  const settled = (id: string) => new Problem('not_found', `Conflict ${id} was settled already.`, { id });

  /** What was settled already: whoever asks for the very same again has not heard the answer. */
  async function repeat(request: RequestContext, { id, contextId, settlement: was }: StoredConflict, now: Settlement) {
    const { kind, id: actor } = request.actor;
    const isSame = 'choose' in now && was?.choose === now.choose && was.actor?.kind === kind && was.actor.id === actor;
    if (!isSame) throw settled(id);
    const { value, nowMs, seq } = await contexts.readExact(request, [{ id: contextId }]);
    const [head = null] = value;
    return { context: head && isLive(head, nowMs) ? head : null, seq };
  }

  async function contentsOf(request: RequestContext, { base, ours, theirs }: StoredConflict, bytesMax: number) {
    let left = bytesMax;
    const wanted = [ours, theirs, base].filter((side): side is StoredValue => {
      if (side === null || side.sizeBytes > left) return false;
      left -= side.sizeBytes;
      return true;
    });
    return wanted.length === 0
      ? new Map<string, Uint8Array>()
      : readContents(
          database,
          request,
          wanted.map(({ hash }) => hash),
        );
  }

  return {
    list: (request, page) => readConflicts(database, request, page),

    async get(request, id) {
      const { conflict, seq } = await find(request, id);
      const contents = await contentsOf(request, conflict, shownBytes);
      const show = (side: StoredValue | null) => side && { ...side, content: contents.get(side.hash) };
      return {
        conflict: { ...conflict, base: show(conflict.base), ours: show(conflict.ours), theirs: show(conflict.theirs) },
        seq,
      };
    },

    async resolve(request, id, settlement) {
      const { conflict } = await find(request, id);
      if (conflict.settledMs !== null) return repeat(request, conflict, settlement);
      const { contextId, peer: name } = conflict;
      const [{ value: heads, nowMs, seq }, { items: peers }, contents] = await Promise.all([
        contexts.readExact(request, [{ id: contextId }], { inlineBytes: contentBytesMax }),
        readPeers(database, request, { name }),
        contentsOf(request, conflict, Number.POSITIVE_INFINITY),
      ]);
      const [head = null] = heads;
      const definition = peers[0]?.definition;
      if (definition === undefined) throw settled(id);
      const lens = connectors[definition.type].lensOf(definition.subtree);
      const missing = [conflict.base, conflict.ours, conflict.theirs].find((one) => one && !contents.has(one.hash));
      if (missing) {
        // An erase or a run has changed it since it was read.
        if ((await find(request, id)).conflict.settledMs !== null) throw settled(id);
        throw new Problem('version_conflict', 'The conflict has changed meanwhile: look at it again.', { id });
      }
      const side = (stored: StoredValue | null) => stored && toValue(stored, contents.get(stored.hash));
      const sides = { base: side(conflict.base), ours: side(conflict.ours), theirs: side(conflict.theirs) };
      const live = head !== null && isLive(head, nowMs) ? head : null;
      const plan = planSettlement({ conflict, settlement, sides, head, live, lens, subtree: definition.subtree });

      const write = async (operations: readonly Operation[]) => {
        const version = operations.length === 0 ? null : plan.ifVersion + operations.length;
        const choice = 'choose' in settlement ? settlement.choose : 'content';
        const settle = settleConflict(id, { choose: choice, actor: request.actor }, version);
        if (operations.length === 0) {
          await retryLost(() => runOne(database.in(request), settle, request));
          return { context: plan.isDelete ? null : head, seq };
        }
        const written = await writeMany(contexts, request, operations, { atomic: true, beside: settle });
        const last = written.results.at(-1);
        if (last === undefined || last instanceof Problem) throw last ?? settled(id);
        return { context: plan.isDelete ? null : last.context, seq: written.seq };
      };
      return write(plan.operations)
        .catch((error) => {
          // Where the parent that a side names is gone meanwhile, the context comes to stand at the root of what is synchronised.
          if (!(error instanceof Problem) || !['parent_not_found', 'parent_cycle'].includes(error.code)) throw error;
          return write(plan.displaced);
        })
        .catch((error) => {
          throw isDatabaseError(error) && error.sqlState === 'LM007' ? settled(id) : error;
        });
    },
  };
}

function toValue(side: StoredValue, bytes: Uint8Array | undefined): Value {
  if (bytes === undefined) throw new Problem('internal', 'A content that a conflict holds is gone.');
  const { hash: _hash, sizeBytes: _size, ...rest } = side;
  return { ...rest, bytes };
}
