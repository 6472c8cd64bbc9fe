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

/** The entries of one space, and where to find them. */
interface Index {
  readonly kinds: Map<string, Map<string, Entry>>;
  /** For each item the entries that depend on it. */
  readonly dependents: Map<string, Set<Entry>>;
  /** Reads of entries that are here no longer, by `<kind>:<id>`, until they are reported. */
  readonly reads: Map<string, number>;
}

// Reads of entries that are gone are remembered of this many at most.
const readsMax = 2000;

/** @param deps.bytesMax what all entries together may weigh; one that weighs more than a twentieth is not kept. */
export function createLayer1(deps: { bytesMax: number }): Layer1 {
  const { bytesMax } = deps;
  let evictions = 0;
  const kinds: Record<string, Layer1Counts> = {};
  const order = new LRUCache<Entry, Index>({
    maxSize: bytesMax,
    maxEntrySize: Math.max(Math.floor(bytesMax / 20), 1),
    sizeCalculation: (_index, { bytes, id }) => Math.max(bytes + id.length, 1),
    dispose(index, entry, reason) {
      if (reason === 'evict') evictions++;
      count(entry, -1, reason === 'evict');
      unlink(index, entry);
    },
  });

  function count({ kind, bytes }: Entry, entries: 1 | -1, isEvicted = false): void {
    kinds[kind] ??= { entries: 0, bytes: 0, evictions: 0 };
    kinds[kind].entries += entries;
    kinds[kind].bytes += entries * bytes;
    if (isEvicted) kinds[kind].evictions++;
  }

  function link(index: Index, entry: Entry): void {
    const { kind, id, deps: items } = entry;
    const ids = index.kinds.get(kind) ?? new Map<string, Entry>();
    index.kinds.set(kind, ids.set(id, entry));
    for (const item of items) {
      const dependents = index.dependents.get(item) ?? new Set();
      index.dependents.set(item, dependents.add(entry));
    }
  }

  function unlink(index: Index, entry: Entry): void {
    const { kind, id, deps: items, reads } = entry;
    index.kinds.get(kind)?.delete(id);
    for (const item of items) {
      const dependents = index.dependents.get(item);
      dependents?.delete(entry);
      if (dependents?.size === 0) index.dependents.delete(item);
    }
    if (reads > 0 && index.reads.size < readsMax) addReads(index.reads, entry);
  }

  return {
    of() {
      const index: Index = { kinds: new Map(), dependents: new Map(), reads: new Map() };
      return {
        find(kind, id, nowMs) {
          const entry = index.kinds.get(kind)?.get(id);
          if (entry === undefined || nowMs === undefined) return entry;
          // Once a second: so little difference evicts nothing that is in use, and renewing is half of what a hit costs
          // (memcached does so once a minute, doc/new_lru.txt).
          const second = Math.trunc(nowMs / 1000);
          if (second !== entry.renewedSecond) {
            entry.renewedSecond = second;
            order.get(entry);
          }
          return entry;
        },
        set(entry) {
          const before = index.kinds.get(entry.kind)?.get(entry.id);
          if (before !== undefined) order.delete(before);
          order.set(entry, index);
          if (!order.has(entry)) return;
          count(entry, 1);
          link(index, entry);
        },
        delete: (entry) => void order.delete(entry),
        clear() {
          for (const ids of index.kinds.values()) for (const entry of [...ids.values()]) order.delete(entry);
        },
        dependents: (item) => index.dependents.get(item) ?? [],
        takeReads() {
          const reads = new Map(index.reads);
          index.reads.clear();
          for (const ids of index.kinds.values()) {
            for (const entry of ids.values()) {
              if (entry.reads === 0) continue;
              addReads(reads, entry);
              entry.reads = 0;
            }
          }
          return reads;
        },
      };
    },
    get bytes() {
      return order.calculatedSize;
    },
    get entries() {
      return order.size;
    },
    get evictions() {
      return evictions;
    },
    get kinds() {
      return kinds;
    },
  };
}

function addReads(reads: Map<string, number>, { kind, id, reads: more }: Entry): void {
  const key = `${kind}:${id}`;
  reads.set(key, (reads.get(key) ?? 0) + more);
}
