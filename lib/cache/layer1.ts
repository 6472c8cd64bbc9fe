import { LRUCache } from 'lru-cache';
import type { Entry, EntryStore } from './view.ts';

/** Layer 1 of a process: the entries of all spaces, the least recently used go first. */
export interface Layer1 {
  /** The entries of one space. */
  of(space: string): EntryStore & { takeReads(): Map<string, number> };
  readonly bytes: number;
  readonly entries: number;
  readonly evictions: number;
  /** The same by kind. */
  readonly kinds: Readonly<Record<string, Readonly<Layer1Counts>>>;
}

export interface Layer1Counts {
  entries: number;
  bytes: number;
  evictions: number;
}

/** An entry in its place; the key of the eviction order, so that no name has to be made to look it up. */
interface Slot {
  readonly index: SpaceIndex;
  readonly kind: string;
  readonly id: string;
  readonly entry: Entry;
  /** When its place in the eviction order was last renewed. */
  touchedMs: number;
}

interface SpaceIndex {
  readonly kinds: Map<string, Map<string, Slot>>;
  /** For each item the keys that depend on it. */
  readonly dependents: Map<string, Set<string>>;
  /** Reads of entries that are here no longer, until they are reported. */
  readonly reads: Map<string, number>;
}

// How often a read renews an entry's place in the eviction order: a second's difference evicts nothing that is in use, and
// renewing is half of what a hit costs (memcached does so once a minute, doc/new_lru.txt).
const touchMs = 1000;
// Reads of entries that are gone are remembered of this many at most.
const readsMax = 2000;

/** @param deps.bytesMax what all entries together may weigh; one that weighs more than a twentieth is not kept. */
export function createLayer1(deps: { bytesMax: number }): Layer1 {
  const { bytesMax } = deps;
  let evictions = 0;
  const kinds: Record<string, Layer1Counts> = {};
  const slots = new LRUCache<Slot, Entry>({
    maxSize: bytesMax,
    maxEntrySize: Math.max(Math.floor(bytesMax / 20), 1),
    sizeCalculation: (entry, { id }) => Math.max(entry.bytes + id.length, 1),
    dispose(_entry, slot, reason) {
      if (reason === 'evict') evictions++;
      count(slot, -1, reason === 'evict');
      unlink(slot);
    },
  });

  function count({ kind, entry }: Slot, entries: 1 | -1, isEvicted = false): void {
    kinds[kind] ??= { entries: 0, bytes: 0, evictions: 0 };
    kinds[kind].entries += entries;
    kinds[kind].bytes += entries * entry.bytes;
    if (isEvicted) kinds[kind].evictions++;
  }

  function link(slot: Slot): void {
    const { index, kind, id, entry } = slot;
    const ids = index.kinds.get(kind) ?? new Map<string, Slot>();
    index.kinds.set(kind, ids.set(id, slot));
    const key = `${kind}:${id}`;
    for (const dep of entry.deps) {
      const keys = index.dependents.get(dep) ?? new Set();
      index.dependents.set(dep, keys.add(key));
    }
  }

  function unlink({ index, kind, id, entry }: Slot): void {
    index.kinds.get(kind)?.delete(id);
    const key = `${kind}:${id}`;
    for (const dep of entry.deps) {
      const keys = index.dependents.get(dep);
      keys?.delete(key);
      if (keys?.size === 0) index.dependents.delete(dep);
    }
    if (entry.reads > 0 && index.reads.size < readsMax) index.reads.set(key, (index.reads.get(key) ?? 0) + entry.reads);
  }

  return {
    of() {
      const index: SpaceIndex = { kinds: new Map(), dependents: new Map(), reads: new Map() };
      const slotOf = (key: string) => {
        const end = key.indexOf(':');
        return index.kinds.get(key.slice(0, end))?.get(key.slice(end + 1));
      };
      const remove = (slot: Slot | undefined) => {
        if (slot !== undefined) slots.delete(slot);
      };
      return {
        find(kind, id, nowMs) {
          const slot = index.kinds.get(kind)?.get(id);
          if (slot === undefined) return undefined;
          if (nowMs - slot.touchedMs >= touchMs || nowMs < slot.touchedMs) {
            slot.touchedMs = nowMs;
            slots.get(slot);
          }
          return slot.entry;
        },
        get(key) {
          const slot = slotOf(key);
          return slot === undefined ? undefined : slots.get(slot);
        },
        set(key, entry) {
          remove(slotOf(key));
          const end = key.indexOf(':');
          const slot = { index, kind: key.slice(0, end), id: key.slice(end + 1), entry, touchedMs: 0 };
          slots.set(slot, entry);
          if (!slots.has(slot)) return;
          count(slot, 1);
          link(slot);
        },
        delete: (key) => remove(slotOf(key)),
        clear() {
          for (const ids of index.kinds.values()) for (const slot of [...ids.values()]) slots.delete(slot);
        },
        dependents: (item) => index.dependents.get(item) ?? [],
        takeReads() {
          const reads = new Map(index.reads);
          index.reads.clear();
          for (const [kind, ids] of index.kinds) {
            for (const [id, { entry }] of ids) {
              if (entry.reads === 0) continue;
              const key = `${kind}:${id}`;
              reads.set(key, (reads.get(key) ?? 0) + entry.reads);
              entry.reads = 0;
            }
          }
          return reads;
        },
      };
    },
    get bytes() {
      return slots.calculatedSize;
    },
    get entries() {
      return slots.size;
    },
    get evictions() {
      return evictions;
    },
    get kinds() {
      return kinds;
    },
  };
}
