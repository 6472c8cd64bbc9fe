import type { Entry, EntryStore, View } from '../../lib/cache/view.ts';
import type { Redis, Reply } from '../../lib/redis/redis.ts';

/** The schedules behind P19, P19b and P19c, which chance hardly ever finds; answers with the first that goes wrong. */
export function findLateReplyAccepted(createView: (store: EntryStore) => View): string | undefined {
  const reply = (over: Partial<Reply>): Reply => ({
    inc: 'one',
    rev: 0,
    applied: 0,
    verifiedMs: 1,
    nowMs: 1,
    changed: [],
    ...over,
  });
  const open = () => {
    const view = createView(mapStore());
    view.apply({ since: 0, sentAtMs: 1 }, reply({ rev: 2, applied: 4 }));
    return view;
  };
  // Tick 5 came late, tick 6 was stored ahead of it: both replies have the same watermark, only their order tells them apart.
  if (open().apply({ since: 4, sentAtMs: 2 }, reply({ rev: 1, applied: 4 }))) return 'P19';
  // Redis fell back to an older copy and went on from there: the count is as high again, the watermark is not.
  if (open().apply({ since: 4, sentAtMs: 2 }, reply({ rev: 3, applied: 3 }))) return 'P19b';
  // Asked by a layer 1 that was reset since: what the reply lists begins after ticks that layer 1 has not seen.
  if (open().apply({ since: 7, sentAtMs: 2 }, reply({ rev: 3, applied: 8 }))) return 'P19c';
  // What is in order is taken.
  const view = open();
  view.keep({
    kind: 'k',
    id: 'x',
    at: 4,
    deps: ['c:x'],
    value: 1,
    bytes: 1,
    expiresMs: null,
    reads: 0,
    renewedSecond: 0,
  });
  if (!view.apply({ since: 4, sentAtMs: 3 }, reply({ rev: 3, applied: 5, changed: [{ item: 'c:x', tick: 5 }] })))
    return 'taken';
  return view.find('k', 'x') === undefined && view.tick === 5 && view.validatedAtMs === 3 ? undefined : 'dropped';
}

/** P13: a message that is repeated after a loss must not find the incarnation it once opened, and with it what is gone. */
export async function isNameReused(redis: Redis, lose: () => Promise<unknown> | unknown): Promise<boolean> {
  const opening = { since: 0, nonce: 'n', keys: ['x'], leaseMs: 0 };
  const first = await redis.get('s', opening);
  const entry = { key: 'x', at: 0, deps: ['c:x'], body: 'old', ttlMs: 3_600_000 };
  const fill = {
    token: first.inc,
    since: 0,
    nonce: 'm',
    from: 0,
    to: 0,
    changes: [],
    gotAtMs: 1,
    entries: [entry],
    erased: [],
  };
  await redis.store('s', fill);
  await redis.store('s', { ...fill, from: 0, to: 1, changes: [{ item: 'c:x', tick: 1 }], gotAtMs: 0, entries: [] });
  await lose();
  const again = await redis.get('s', opening);
  return again.inc === first.inc || again.found[0] !== 'missing';
}

function mapStore(): EntryStore {
  const entries = new Map<string, Entry>();
  return {
    find: (kind, id) => entries.get(`${kind}:${id}`),
    set: (entry) => void entries.set(`${entry.kind}:${entry.id}`, entry),
    delete: ({ kind, id }) => void entries.delete(`${kind}:${id}`),
    clear: () => entries.clear(),
    dependents: (item) => [...entries.values()].filter(({ deps }) => deps.includes(item)),
  };
}
