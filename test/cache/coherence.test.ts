import { describe, expect, test } from 'vitest';
import { createCache } from '../../lib/cache/cache.ts';
import { createInProcessRedis } from '../../lib/redis/in-process.ts';
import { scenarios } from './scenarios.ts';
import { simulate } from './simulation.ts';

describe('the cache under every order, delay, loss and repetition', () => {
  test.each(Object.entries(scenarios))('holds its guarantees: %s', async (_name, scenario) => {
    const first = Math.floor(Math.random() * 1e9);
    // A violation names its seed and every step that led to it.
    const runs = Array.from({ length: 1000 }, (_, run) => first + run);
    for (const seed of runs)
      await expect(simulate({ createCache, createInProcessRedis }, scenario, seed)).resolves.toBeUndefined();
  });
});
