/** Wakes whoever waits for changes of a space in this process. */
export interface Nudges {
  nudge(space: string): void;
  /** Resolves at the next nudge of `space`, after `ms`, or when `signal` fires, whichever comes first. */
  wait(space: string, ms: number, signal?: AbortSignal): Promise<void>;
}

export function createNudges(): Nudges {
  const waiting = new Map<string, Set<() => void>>();
  return {
    nudge(space) {
      const wakers = waiting.get(space);
      waiting.delete(space);
      for (const wake of wakers ?? []) wake();
    },
    wait(space, ms, signal) {
      return new Promise((resolve) => {
        const wakers = waiting.get(space) ?? new Set();
        waiting.set(space, wakers);
        const wake = () => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', wake);
          wakers.delete(wake);
          if (wakers.size === 0 && waiting.get(space) === wakers) waiting.delete(space);
          resolve();
        };
        const timer = setTimeout(wake, ms);
        signal?.addEventListener('abort', wake);
        wakers.add(wake);
      });
    },
  };
}
