/** Keeps a failing engine from costing every request its deadline. */
export interface Breaker {
  /** `half-open` lets one call through to see whether the engine is back. */
  readonly state: 'closed' | 'open' | 'half-open';
  /** Runs the call, or answers null at once while the breaker is open; a failed call answers null, too. */
  call<Value>(run: () => Promise<Value>): Promise<Value | null>;
}

/**
 * Opens after `failures` in `withinMs`, for `openMs`; then one call decides. All times are compared with the clock when a
 * call is made, so a process that was frozen meanwhile needs no timer.
 *
 * @param deps.onFailure hears of each call that failed.
 */
export function createBreaker(deps: {
  clock: () => number;
  failures: number;
  withinMs: number;
  openMs: number;
  onFailure: (error: unknown) => void;
}): Breaker {
  const { clock, failures, withinMs, openMs, onFailure } = deps;
  let failedAt: number[] = [];
  let openedAtMs: number | undefined;
  let isProbing = false;

  const state = () => (openedAtMs === undefined ? 'closed' : clock() - openedAtMs < openMs ? 'open' : 'half-open');

  return {
    get state() {
      return state();
    },
    async call(run) {
      const now = state();
      if (now === 'open' || (now === 'half-open' && isProbing)) return null;
      if (now === 'half-open') isProbing = true;
      try {
        const value = await run();
        failedAt = [];
        openedAtMs = undefined;
        return value;
      } catch (error) {
        onFailure(error);
        const at = clock();
        failedAt = [...failedAt.filter((earlier) => at - earlier < withinMs), at];
        if (now === 'half-open' || failedAt.length >= failures) openedAtMs = at;
        return null;
      } finally {
        if (now === 'half-open') isProbing = false;
      }
    },
  };
}
