import { beforeAll, describe, expect, test } from 'vitest';
import { engines, pgliteEngine } from '../support/engines.ts';
import { noFaults } from './fake-peer.ts';
import { type Cuttable, openCuttable, simulate, type World } from './simulation.ts';

const faults = { away: 0.03, mute: 0.1, lie: 0.05, meanwhile: 0.15, shuffle: 0.3 };
const world = { items: 100, rounds: 4, faults, cuts: 0.25 };
const first = Number(process.env['LAMINA_TEST_SEED'] ?? Math.floor(Math.random() * 1_000_000_000));

describe.each(engines)('synchronisation of three sides, $name', (engine) => {
  let cuttable: Cuttable;
  let histories = 0;
  beforeAll(async () => {
    cuttable = await openCuttable(engine);
  });
  // Of the two engines the embedded one has most of the worlds.
  const count = (many: number) => (engine === pgliteEngine ? many : Math.ceil(many / 10));

  async function runAll(worlds: number, of: (at: number) => Omit<World, keyof typeof world> & Partial<World>) {
    const total = { histories: 0, runs: 0, cut: 0, failed: 0, conflicts: 0, edits: 0 };
    console.log(`seeds ${first} to ${first + worlds - 1}`);
    for (let at = 0; at < worlds; at++) {
      const { items, words: _, ...seen } = await simulate(cuttable, { ...world, ...of(at) }, first + at);
      total.histories += items;
      for (const name of ['runs', 'cut', 'failed', 'conflicts', 'edits'] as const) total[name] += seen[name];
    }
    histories += total.histories;
    console.log(JSON.stringify(total));
    return total;
  }

  test('three-way: all sides become equal and no edit is lost, whatever is cut, lost or repeated', async () => {
    const kinds = [
      ['graph', 'graph'],
      ['whole', 'whole'],
      ['graph', 'whole'],
    ] as const;
    const total = await runAll(count(45), (at) => ({ strategy: 'three-way', peers: kinds[at % 3] ?? kinds[0] }));
    for (const happened of [total.cut, total.failed, total.conflicts]) expect(happened).toBeGreaterThan(0);
  }, 300_000);

  test.each(['union', 'latest', 'intersection', 'manual'] as const)(
    '%s: all sides become equal, and what is overruled is in the history',
    async (strategy) => {
      const total = await runAll(count(10), (at) => ({
        strategy,
        peers: at % 2 === 0 ? ['graph', 'graph'] : ['whole', 'whole'],
      }));
      expect(total.edits).toBeGreaterThan(0);
    },
    300_000,
  );

  test.each(['three-way', 'manual', 'latest'] as const)(
    '%s: what is moved over the edge of a subtree, on any side, is on all or on none',
    async (strategy) => {
      const total = await runAll(count(6), () => ({ strategy, peers: ['whole', 'whole'], isSubtree: true }));
      expect(total.edits).toBeGreaterThan(0);
    },
    300_000,
  );

  test('without faults a change is on all sides after two runs of each', async () => {
    const total = await runAll(count(4), () => ({
      strategy: 'three-way',
      peers: ['whole', 'graph'],
      faults: noFaults,
      cuts: 0,
    }));
    expect(total.failed).toBe(0);
  }, 120_000);

  test('that were ten thousand histories and more, a tenth of it on a real server', () => {
    expect(histories).toBeGreaterThan(count(10_000));
  });
});
