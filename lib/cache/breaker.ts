/** Keeps a failing engine from costing every request its deadline. */
export interface Breaker {
  /** `half-open` lets one call through to see whether the engine is back. */
  readonly state: 'closed' | 'open' | 'half-open';
  /** Runs the call, or answers null at once while the breaker is open; a failed call answers null, too. */
  call<Value>(run: () => Promise<Value>): Promise<Value | null>;
  /** Runs the call whatever the state, takes note of how it ended, and ends as it did. */
  watch<Value>(run: () => Promise<Value>): Promise<Value>;
}

/**
 * Opens after `failures` in `withinMs`, for `openMs`; then one call decides. All times are compared with the clock when a
 * call is made, so a process that was frozen meanwhile needs no timer.
 *
 * @param deps.isFailure whether an error says that the engine is away; all do when absent.
 * @param deps.onFailure hears of each call that failed.
 */
export function createBreaker(deps: {
  clock: () => number;
  failures: number;
  withinMs: number;
  openMs: number;
  isFailure?: (error: unknown) => boolean;
  onFailure: (error: unknown) => void;
}): Breaker {
  const { clock, failures, withinMs, openMs, isFailure = () => true, onFailure } = deps;
  let failedAt: number[] = [];
  let openedAtMs: number | undefined;
  let isProbing = false;

  const state = () => (openedAtMs === undefined ? 'closed' : clock() - openedAtMs < openMs ? 'open' : 'half-open');

  async function watch<Value>(run: () => Promise<Value>): Promise<Value> {
    const now = state();
    try {
      const value = await run();
      failedAt = [];
      openedAtMs = undefined;
      return value;
    } catch (error) {
      if (isFailure(error)) {
        onFailure(error);
        const at = clock();
        failedAt = [...failedAt.filter((earlier) => at - earlier < withinMs), at];
        if (now === 'half-open' || failedAt.length >= failures) openedAtMs = at;
      }
      throw error;
    }
  }

  return {
    get state() {
      return state();
    },
    watch,
    async call(run) {
      const now = state();
      if (now === 'open' || (now === 'half-open' && isProbing)) return null;
      if (now === 'half-open') isProbing = true;
      try {
        return await watch(run);
      } catch {
        return null;
      } finally {
        if (now === 'half-open') isProbing = false;
      }
    },
  };
}
