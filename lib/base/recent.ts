/** Names that something has happened to lately. */
export interface Recent {
  note(name: string): void;
  /** Whether it was noted within the time. */
  has(name: string): boolean;
  /** How many are held. */
  readonly size: number;
}

/** @param deps.ms how long ago is lately; what was noted before goes with the next that is. */
export function createRecent(deps: { clock: () => number; ms: number }): Recent {
  const { clock, ms } = deps;
  // In the order of their times.
  const notedMs = new Map<string, number>();
  const isOver = (atMs: number) => clock() - atMs >= ms;
  return {
    note(name) {
      notedMs.delete(name);
      notedMs.set(name, clock());
      for (const [first, atMs] of notedMs) {
        if (!isOver(atMs)) break;
        notedMs.delete(first);
      }
    },
    has(name) {
      const atMs = notedMs.get(name);
      return atMs !== undefined && !isOver(atMs);
    },
    get size() {
      return notedMs.size;
    },
  };
}
