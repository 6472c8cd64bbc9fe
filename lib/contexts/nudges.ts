/** Wakes whoever waits for changes of a space in this process. */
export interface Nudges {
  nudge(space: string): void;
  /** How often the space was nudged; read before looking, so that no nudge is missed between looking and waiting. */
  count(space: string): number;
  /** Resolves when the space was nudged more than `seen` times, after `ms`, or when `signal` fires. */
  wait(space: string, seen: number, ms: number, signal?: AbortSignal): Promise<void>;
}

export function createNudges(): Nudges {
  const counts = new Map<string, number>();
  const waiting = new Map<string, Set<() => void>>();
  const count = (space: string) => counts.get(space) ?? 0;
  return {
    count,
    nudge(space) {
      counts.set(space, count(space) + 1);
      for (const wake of waiting.get(space) ?? []) wake();
    },
    wait(space, seen, ms, signal) {
      if (count(space) > seen || signal?.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const wakers = waiting.get(space) ?? new Set();
        waiting.set(space, wakers);
        const wake = () => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', wake);
          wakers.delete(wake);
          if (wakers.size === 0) waiting.delete(space);
          resolve();
        };
        const timer = setTimeout(wake, ms);
        signal?.addEventListener('abort', wake);
        wakers.add(wake);
      });
    },
  };
}
