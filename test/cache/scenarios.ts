import type { Scenario } from './simulation.ts';

const base: Scenario = {
  instances: 2,
  windowMs: 0,
  bounds: { items: 2, marks: 2, listed: 2, replyBytes: 1_000_000 },
  feedMax: 1,
  steps: 150,
  concurrency: 3,
  writesMax: 6,
  isWithNoCache: true,
  keys: ['a', 'b', 'ab'],
  faults: { lose: 0.02, evict: 0.02, kill: 0.01, time: 0, failover: 0, repeat: 0.1 },
};

/** Small bounds and few keys find nearly everything; production sizes find nothing. */
export const scenarios = {
  'two instances at window 0': base,
  'three instances, one item remembered': {
    ...base,
    instances: 3,
    bounds: { items: 1, marks: 1, listed: 1, replyBytes: 1_000_000 },
  },
  'inside a window': { ...base, windowMs: 6, faults: { ...base.faults, time: 0.15 } },
  'many requests on few keys': { ...base, concurrency: 8, steps: 300, writesMax: 12 },
  'one key, many losses': {
    ...base,
    keys: ['a'],
    steps: 60,
    writesMax: 3,
    isWithNoCache: false,
    faults: { lose: 0.08, evict: 0.02, kill: 0.03, time: 0, failover: 0, repeat: 0.4 },
  },
  'one key inside a window': {
    ...base,
    keys: ['a'],
    windowMs: 6,
    steps: 120,
    concurrency: 4,
    writesMax: 3,
    isWithNoCache: false,
    faults: { lose: 0, evict: 0.03, kill: 0, time: 0.2, failover: 0, repeat: 0.1 },
  },
  'a PostgreSQL that is away now and then': {
    ...base,
    keys: ['a', 'b'],
    windowMs: 6,
    faults: { ...base.faults, time: 0.15, away: 0.4 },
  },
  'a Redis that falls back to an older copy': {
    ...base,
    keys: ['a'],
    isWithNoCache: false,
    writesMax: 4,
    faults: { ...base.faults, lose: 0, failover: 0.06 },
  },
  'room for everything': {
    ...base,
    bounds: { items: 1000, marks: 100, listed: 100, replyBytes: 1_000_000 },
    feedMax: 100,
  },
} as const satisfies Record<string, Scenario>;
