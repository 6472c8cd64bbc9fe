/** What an instance counted of one kind of cached value: each value read is a hit of a layer, joined, loaded, or bypassed. */
export type KindCounts = {
  l1Hits: number;
  /** Values that another read under way brought along. */
  joined: number;
  l2Hits: number;
  l3Hits: number;
  /** Values that PostgreSQL's context tables were asked for. */
  loads: number;
  /** Of the loads those that were asked to go past every layer. */
  bypassed: number;
  /** Values served beyond the bounds because PostgreSQL was away; they are hits of their layer, too. */
  stale: number;
  /** Loads that the others waited for, and the others' waits. */
  leasesGranted: number;
  leasesHeld: number;
  /** Values that came too late to be stored. */
  refused: number;
  /** Entries that were damaged, foreign or of another format. */
  unreadable: number;
  /** Requests to PostgreSQL for values of this kind, and what they took together. */
  originCalls: number;
  originMs: number;
};

/** Counts by kind, of one space or of all. */
export type CountsByKind = Readonly<Record<string, Readonly<KindCounts>>>;

/** The counts of one space on one instance. */
export interface SpaceCounts {
  of(kind: string): KindCounts;
  /** What was counted since the last time, or null where that is nothing. */
  take(): CountsByKind | null;
}

export interface Counts {
  of(slot: string): SpaceCounts;
  /** Forgets a space; what it counted stays in the total. */
  forget(slot: string): void;
  total(): CountsByKind;
}

export function createCounts(): Counts {
  const forgotten: Record<string, KindCounts> = {};
  const spaces = new Map<string, SpaceCounts & { addTo(sums: Record<string, KindCounts>): void }>();

  function createSpace() {
    const kinds = new Map<string, { readonly counts: KindCounts; readonly reported: KindCounts }>();
    return {
      of(kind: string) {
        const known = kinds.get(kind);
        if (known !== undefined) return known.counts;
        const counts = zero();
        kinds.set(kind, { counts, reported: zero() });
        return counts;
      },
      take() {
        const report: Record<string, KindCounts> = {};
        for (const [kind, { counts, reported }] of kinds) {
          const since = zero();
          for (const name of names) {
            since[name] = counts[name] - reported[name];
            reported[name] = counts[name];
          }
          if (names.some((name) => since[name] > 0)) report[kind] = since;
        }
        return Object.keys(report).length === 0 ? null : report;
      },
      addTo(sums: Record<string, KindCounts>) {
        for (const [kind, { counts }] of kinds) {
          sums[kind] ??= zero();
          for (const name of names) sums[kind][name] += counts[name];
        }
      },
    };
  }

  return {
    of(slot) {
      const known = spaces.get(slot);
      if (known !== undefined) return known;
      const made = createSpace();
      spaces.set(slot, made);
      return made;
    },
    forget(slot) {
      spaces.get(slot)?.addTo(forgotten);
      spaces.delete(slot);
    },
    total() {
      const sums = structuredClone(forgotten);
      for (const space of spaces.values()) space.addTo(sums);
      return sums;
    },
  };
}

const zero = (): KindCounts => ({
  l1Hits: 0,
  joined: 0,
  l2Hits: 0,
  l3Hits: 0,
  loads: 0,
  bypassed: 0,
  stale: 0,
  leasesGranted: 0,
  leasesHeld: 0,
  refused: 0,
  unreadable: 0,
  originCalls: 0,
  originMs: 0,
});
const names = Object.keys(zero()) as (keyof KindCounts)[];
