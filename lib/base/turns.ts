/** Work that is done one after another for each name, in the order it came. */
export interface Turns {
  /** Runs the work when all that came before it under this name has ended, well or not, and ends as it does. */
  take<Done>(name: string, work: () => Promise<Done>): Promise<Done>;
  /** Settles when what is under way now has ended. */
  settled(): Promise<unknown>;
}

export function createTurns(): Turns {
  const tails = new Map<string, Promise<unknown>>();
  return {
    async take(name, work) {
      const turn = (tails.get(name) ?? Promise.resolve()).catch(() => {}).then(work);
      tails.set(name, turn);
      try {
        return await turn;
      } finally {
        if (tails.get(name) === turn) tails.delete(name);
      }
    },
    settled: () => Promise.allSettled(tails.values()),
  };
}
