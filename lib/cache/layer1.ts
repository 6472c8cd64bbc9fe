import { LRUCache } from 'lru-cache';
import type { Entry, EntryStore } from './view.ts';

/** Layer 1 of a process: the entries of all spaces, the least recently used go first. */
export interface Layer1 {
  /** The entries of one space. */
  of(space: string): EntryStore;
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

interface Slot {
  readonly space: string;
  readonly key: string;
  readonly entry: Entry;
}

/** @param deps.bytesMax what all entries together may weigh; one that weighs more than a twentieth is not kept. */
export function createLayer1(deps: { bytesMax: number }): Layer1 {
  const { bytesMax } = deps;
  let evictions = 0;
  const kinds: Record<string, Layer1Counts> = {};
  // For each space the keys it has here, and for each item the keys that depend on it.
  const indexes = new Map<string, { keys: Set<string>; dependents: Map<string, Set<string>> }>();

  const slots = new LRUCache<string, Slot>({
    maxSize: bytesMax,
    maxEntrySize: Math.max(Math.floor(bytesMax / 20), 1),
    sizeCalculation: ({ key, entry }) => Math.max(entry.bytes + key.length, 1),
    dispose(slot, _name, reason) {
      const isEvicted = reason === 'evict';
      if (isEvicted) evictions++;
      count(slot, -1, isEvicted);
      unlink(slot);
    },
  });

  function count({ key, entry }: Slot, entries: 1 | -1, isEvicted = false): void {
    const kind = key.slice(0, key.indexOf(':'));
    kinds[kind] ??= { entries: 0, bytes: 0, evictions: 0 };
    kinds[kind].entries += entries;
    kinds[kind].bytes += entries * entry.bytes;
    if (isEvicted) kinds[kind].evictions++;
  }

  function link({ space, key, entry }: Slot): void {
    const index = indexes.get(space) ?? { keys: new Set(), dependents: new Map() };
    indexes.set(space, index);
    index.keys.add(key);
    for (const dep of entry.deps) {
      const keys = index.dependents.get(dep) ?? new Set();
      index.dependents.set(dep, keys.add(key));
    }
  }

  function unlink({ space, key, entry }: Slot): void {
    const index = indexes.get(space);
    if (index === undefined) return;
    index.keys.delete(key);
    for (const dep of entry.deps) {
      const keys = index.dependents.get(dep);
      keys?.delete(key);
      if (keys?.size === 0) index.dependents.delete(dep);
    }
    if (index.keys.size === 0) indexes.delete(space);
  }

  return {
    of(space) {
      const name = (key: string) => `${space}\n${key}`;
      return {
        get: (key) => slots.get(name(key))?.entry,
        set(key, entry) {
          slots.delete(name(key));
          const slot = { space, key, entry };
          slots.set(name(key), slot);
          if (!slots.has(name(key))) return;
          count(slot, 1);
          link(slot);
        },
        delete: (key) => void slots.delete(name(key)),
        clear() {
          for (const key of [...(indexes.get(space)?.keys ?? [])]) slots.delete(name(key));
        },
        dependents: (item) => indexes.get(space)?.dependents.get(item) ?? [],
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
