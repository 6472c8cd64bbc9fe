import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { carryOut } from '../functions/lambda/work.ts';
import { home } from '../functions/runtime.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { createInProcessRedis } from '../lib/redis/in-process.ts';
import type { Redis } from '../lib/redis/redis.ts';
import { costTables, count, fillTables, price, workloads } from '../tools/cost.ts';
import { prices } from '../tools/prices.ts';
import { roundTrips, type Trips } from '../tools/round-trips.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('the round trips that costs are made of, on $name', (engine) => {
  let nowMs = Date.now();
  let asked = 0;
  let store: TestStore;
  let patient: TestStore;
  const open = (settings: Record<string, unknown>) =>
    openStore(engine, {
      settings,
      clock: () => nowMs,
      redis(bounds) {
        const own = createInProcessRedis({ bounds, clock: () => nowMs });
        const counted = <Given extends unknown[], Answer>(run: (...given: Given) => Answer) => {
          return (...given: Given): Answer => {
            asked++;
            return run(...given);
          };
        };
        const redis: Redis = {
          get: counted(own.get),
          store: counted(own.store),
          purge: counted(own.purge),
          ping: counted(own.ping),
        };
        return redis;
      },
    });
  beforeAll(async () => {
    store = await open({});
    patient = await open({ cache: { repairMs: 3_600_000 } });
  });
  async function trips(of: TestStore, work: () => Promise<unknown>): Promise<Trips> {
    const before = asked;
    const { requests } = await of.counting(work);
    return { redis: asked - before, sql: requests };
  }
  const write = (of: TestStore, id: string) =>
    of.send('PUT', `/v1/contexts/${id}`, { body: { content: `${id}, a pangolin. `.repeat(200) } });

  test('a run of a schedule that finds nothing to do', async () => {
    await write(store, newId());
    for (const [task, idle] of Object.entries(roundTrips.idle)) {
      const run = () => store.manager[task as keyof typeof roundTrips.idle]({ only: store.ref, budgetMs: 60_000 });
      await run();
      expect([task, await trips(store, run)]).toEqual([task, idle]);
    }
  });

  test('a page of spaces', async () => {
    const list = () => store.manager.access.listSpaces({ after: undefined, limit: 100 });
    expect(await trips(store, list)).toEqual(roundTrips.spaces);
  });

  test('an order to index what was written', async () => {
    await write(store, newId());
    const order = { ...store.ref, task: 'index' } as const;
    const orders = { send: async () => {} };
    const work = () => carryOut({ manager: store.manager, orders }, order, 60_000);
    expect(await trips(store, work)).toEqual(roundTrips.indexOrder);
  });

  test('a search', async () => {
    const search = () => store.send('POST', '/v1/search', { body: { query: 'a pangolin' } });
    expect(await trips(store, search)).toEqual(roundTrips.search);
  });

  test('layer 2 is compared with PostgreSQL every verifyMs that anybody reads, and that is a setting', async () => {
    const id = newId();
    for (const [of, afterMs, wanted] of [
      [store, 0, roundTrips.inWindow],
      [store, 2000, roundTrips.revalidated],
      [store, 8001, roundTrips.unverified],
      [patient, 0, roundTrips.inWindow],
      [patient, 8001, roundTrips.revalidated],
      [patient, 1_800_000, roundTrips.revalidated],
      [patient, 3_598_001, roundTrips.unverified],
    ] as const) {
      // The key that reads is an hour old at most.
      await of.send('GET', `/v1/contexts/${id}`, { headers: { 'cache-control': 'no-cache' } });
      await write(of, id);
      await of.send('GET', `/v1/contexts/${id}`);
      nowMs += afterMs;
      expect([afterMs, await trips(of, () => of.send('GET', `/v1/contexts/${id}`))]).toEqual([afterMs, wanted]);
    }
  });
});

describe('the calculation of costs', () => {
  const of = (name: string) => workloads.find((one) => one.name === name)!;

  test('a price that changes changes the tables', () => {
    const before = costTables(defaultSettings, prices);
    const dearer = { ...prices, computeHours: { ...prices.computeHours, usd: 0.222 } };
    const after = costTables(defaultSettings, dearer);
    for (const name of ['bill', 'other', 'sleep', 'prices'])
      expect([name, after[name]]).not.toEqual([name, before[name]]);
    expect(after['made']).toBe(before['made']);
    const counted = count(of('10⁴'), defaultSettings);
    expect(price(counted, dearer).due - price(counted, prices).due).toBeCloseTo(730 * 0.25 * (0.222 - 0.106));
  });

  test('what is free is taken off once, and never more than there is', () => {
    const nothing = Object.fromEntries(Object.keys(prices).map((name) => [name, 0])) as ReturnType<typeof count>;
    expect(price(nothing, prices)).toEqual({ list: 0, free: 0, due: 0 });
    expect(price({ ...nothing, alarms: 18 }, prices).due).toBeCloseTo(0.8);
  });

  test('more requests cost more, comparing less often costs less, and schedules at 0 nothing', () => {
    const due = workloads.map((workload) => price(count(workload, defaultSettings), prices).due);
    expect(due).toEqual([...due].sort((left, right) => left - right));
    const rarely = { ...defaultSettings, cache: { ...defaultSettings.cache, repairMs: 600_000 } };
    const commands = (settings: typeof defaultSettings) => count(of('10⁸'), settings).redisCommands;
    expect(commands(rarely)).toBeLessThan(commands(defaultSettings));
    const names = Object.keys(defaultSettings.schedules);
    const schedules = Object.fromEntries(names.map((name) => [name, 0])) as typeof defaultSettings.schedules;
    expect(count(of('10⁴'), { ...defaultSettings, schedules }).schedulerRuns).toBe(0);
  });

  test('what docs/scale.md tells of 10⁸ requests is what is calculated', async () => {
    const page = await readFile(join(home, 'docs/scale.md'), 'utf8');
    const { redisCommands, computeHours } = count(of('10⁸'), defaultSettings);
    const commands = redisCommands / 730 / 3600;
    expect(page).toContain(`${Math.round(commands)} commands/s, at peaks ${Math.round(commands) * 10}`);
    expect(page).toContain(`at peaks ${(computeHours / 730).toFixed(2)} of a core`);
    expect(page).toContain(`2 CU at ${(2 / (computeHours / 730)).toFixed(1)} times that`);
  });

  test('a table has its place in the page, and nothing else of it changes', () => {
    const page = 'before\n<!-- table: one -->\nold\n<!-- end -->\nafter';
    expect(fillTables(page, { one: '$1 is new' })).toBe('before\n<!-- table: one -->\n$1 is new\n<!-- end -->\nafter');
    expect(() => fillTables(page, { two: '' })).toThrow('two');
  });
});
