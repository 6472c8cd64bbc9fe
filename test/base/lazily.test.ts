import { describe, expect, test } from 'vitest';
import { lazily, opensLazily } from '../../lib/base/lazily.ts';

interface Clock {
  readonly name: string;
  tick(by: number): Promise<number>;
  wake(): void;
  close(): Promise<void>;
}

describe('what is loaded lazily', () => {
  test('is loaded by the first who asks, once for all of them', async () => {
    let loads = 0;
    const part = lazily(async () => ++loads);
    expect(part.begun()).toBeUndefined();
    expect(loads).toBe(0);
    expect(await Promise.all([part(), part(), part.begun()])).toEqual([1, 1, 1]);
    expect(await part()).toBe(1);
  });

  test('is loaded again after a load that failed, which all who waited hear of', async () => {
    let loads = 0;
    const part = lazily(async () => {
      if (++loads === 1) throw new Error('not yet');
      return loads;
    });
    const both = await Promise.allSettled([part(), part()]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(part.begun()).toBeUndefined();
    expect(await part()).toBe(2);
  });
});

describe('a part that is opened lazily', () => {
  function open() {
    let ticks = 0;
    let woken = 0;
    let loads = 0;
    const part = lazily(async (): Promise<Clock> => {
      loads++;
      return {
        name: 'the loaded one',
        async tick(by) {
          ticks += by;
          return ticks;
        },
        wake: () => void woken++,
        async close() {},
      };
    });
    const clock = opensLazily(part, {
      name: 'late',
      wake: () => void part.begun()?.then((loaded) => loaded.wake()),
      close: async () => (await part.begun())?.close(),
    });
    return { clock, loads: () => loads, woken: () => woken };
  }

  test('is loaded by the first of its verbs, and by nothing else', async () => {
    const { clock, loads, woken } = open();
    clock.wake();
    await clock.close();
    // To be awaited, as what an async function returns is, loads nothing either.
    expect((await Promise.resolve(clock)).name).toBe('late');
    expect(loads()).toBe(0);
    expect(await Promise.all([clock.tick(1), clock.tick(2)])).toEqual([1, 3]);
    clock.wake();
    await clock.tick(0);
    expect([loads(), woken()]).toEqual([1, 1]);
  });

  test('is one and the same verb each time it is looked at, and another where somebody has set it', async () => {
    const { clock } = open();
    expect(clock.tick).toBe(clock.tick);
    clock.tick = async () => 7;
    expect(await clock.tick(1)).toBe(7);
  });
});
