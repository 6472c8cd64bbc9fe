/** HTTP requests to layer 2, and to PostgreSQL. */
export interface Trips {
  readonly redis: number;
  readonly sql: number;
}

/** What is asked of the engines for what: tests hold the counters against it, and docs/cost.md multiplies it. */
export const roundTrips = {
  /** A read inside `cache.windowMs`. */
  inWindow: { redis: 0, sql: 0 },
  /** A read after it, of what layer 1 still holds. */
  revalidated: { redis: 1, sql: 0 },
  /** A read of any number of contexts that layer 2 has. */
  layer2: { redis: 1, sql: 0 },
  /** A read of what neither has. */
  miss: { redis: 2, sql: 1 },
  /** The first read of a space that nobody has compared with PostgreSQL for `verifyMs`, whatever the layers hold. */
  unverified: { redis: 2, sql: 1 },
  write: { redis: 1, sql: 1 },
  /** A search that was not asked since the last write. */
  search: { redis: 2, sql: 1 },
  /** An order to index what one write has changed, and the question whether a peer wants to hear of it. */
  indexOrder: { redis: 0, sql: 6 },
  /** One page of 100 spaces, before a run of a schedule looks at each of them. */
  spaces: { redis: 0, sql: 1 },
  /** A run of a schedule in a space in which there is nothing to do. */
  idle: {
    cleanup: { redis: 0, sql: 11 },
    warm: { redis: 1, sql: 1 },
    reconcile: { redis: 2, sql: 3 },
    index: { redis: 0, sql: 3 },
    synchronise: { redis: 0, sql: 1 },
    work: { redis: 0, sql: 1 },
  },
} as const satisfies Record<string, Trips | Record<string, Trips>>;
