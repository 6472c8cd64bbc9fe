import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import type { createSync } from '../../lib/sync/sync.ts';
import { pgliteEngine } from '../support/engines.ts';
import { noFaults } from './fake-peer.ts';
import { type Cuttable, openCuttable, simulate, type World } from './simulation.ts';

/** A rule of SPEC.md taken out of the code. */
interface Mutant {
  readonly rule: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly world?: Partial<World>;
}

const faults = { away: 0.03, mute: 0.1, lie: 0.1, meanwhile: 0.3, shuffle: 0.3 };
const plain: World = { strategy: 'three-way', peers: ['whole', 'graph'], items: 60, rounds: 4, faults, cuts: 0.2 };
const trees = { peers: ['whole', 'whole'] } as const;

const mutants: readonly Mutant[] = [
  {
    rule: 'S1 two changes are joined',
    file: 'decision.ts',
    from: "changed: { absent: 'join', same: 'give', changed: 'join' }",
    to: "changed: { absent: 'join', same: 'give', changed: 'take' }",
  },
  {
    rule: 'S1 a delete does not prevail over a change',
    file: 'decision.ts',
    from: "changed: { absent: 'join', same: 'give', changed: 'join' }",
    to: "changed: { absent: 'take', same: 'give', changed: 'join' }",
  },
  {
    rule: 'S1 a change is given',
    file: 'decision.ts',
    from: "changed: { absent: 'join', same: 'give', changed: 'join' }",
    to: "changed: { absent: 'join', same: 'take', changed: 'join' }",
  },
  {
    rule: 'S2 nothing is agreed on that was not written here',
    file: 'engine.ts',
    from: 'step.apply === undefined && step.overruled === undefined ? undefined : true',
    to: 'undefined',
    world: trees,
  },
  {
    rule: 'S3 nothing is agreed on that the peer was not seen to hold',
    file: 'engine.ts',
    from: 'print(answer.value) !== print(step.push ?? null)',
    to: 'false',
  },
  {
    rule: 'S4 a write here is on condition that nobody has written since',
    file: 'engine.ts',
    from: 'const ifVersion = head?.version ?? 0;',
    to: 'const ifVersion = undefined as unknown as number;',
  },
  {
    rule: 'S6 what is left over is looked at by the next run',
    file: 'engine.ts',
    from: 'isDue: true, note: reason',
    to: 'isDue: false, note: reason',
    world: { faults: { ...faults, lie: 0.8 } },
  },
  {
    rule: 'S7 what is overruled is in the history',
    file: 'plan.ts',
    from: 'joined.isLossy && is !== print.theirs',
    to: 'false',
    world: { strategy: 'latest', ...trees },
  },
  {
    rule: 'S8 an open conflict is told anew when a side has changed',
    file: 'engine.ts',
    from: 'if (isSame && seen.oursVersion === oursVersion) return { id, seen: seen.id };',
    to: 'if (seen) return { id, seen: seen.id };',
    world: trees,
  },
  {
    rule: 'S9 an echo is known by its own peer alone',
    file: 'survey.ts',
    from: "actor?.kind === 'sync' && actor.id === start.peer.name",
    to: "actor?.kind === 'sync'",
  },
  {
    rule: 'S10 what is gone in a whole survey is looked at',
    file: 'survey.ts',
    from: 'if (theirs.isWhole && !theirs.items.has(id)) gone.theirs.add(id);',
    to: '',
    world: { peers: ['graph', 'graph'] },
  },
  {
    rule: 'S11 what has no place is given one',
    file: 'engine.ts',
    from: 'if (stuck.length === 0) break;',
    to: 'break;',
    world: trees,
  },
  {
    rule: 'S18 what lies below what was moved here is looked at',
    file: 'survey.ts',
    from: 'for (const id of [...moved.below, ...gone.ours, ...gone.theirs]) wanted.add(id);',
    to: 'for (const id of [...gone.theirs]) wanted.add(id);',
    world: { ...trees, isSubtree: true, faults: noFaults, cuts: 0, items: 150, rounds: 6 },
  },
  {
    rule: 'S18 what lies below what was moved there is looked at',
    file: 'engine.ts',
    from: 'const below = [...(await lookBelow(course, looks))].filter((id) => !queued.has(id));',
    to: 'const below: string[] = [];',
    world: { ...trees, isSubtree: true, faults: noFaults, cuts: 0 },
  },
];

const folder = join(home, 'test', 'sync', '.mutants');
const worldsMax = 40;

describe('the simulation finds synchronisation out without', () => {
  let cuttable: Cuttable;
  beforeAll(async () => {
    await mkdir(folder, { recursive: true });
    cuttable = await openCuttable(pgliteEngine);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(mutants.map((mutant, index) => [mutant.rule, mutant, index] as const))(
    '%s',
    async (_rule, mutant, index) => {
      const code = await makeCode(mutant, String(index));
      await expect(findViolation(code, { ...plain, ...mutant.world })).resolves.toMatch(/^seed \d+: /);
    },
    120_000,
  );

  test('nothing, where all are in place', async () => {
    for (const world of [plain, { ...plain, ...trees }, { ...plain, faults: noFaults, cuts: 0 }]) {
      for (let seed = 0; seed < 2; seed++) await simulate(cuttable, world, seed);
    }
  });

  async function findViolation(code: typeof createSync, world: World): Promise<string | undefined> {
    for (let seed = 0; seed < worldsMax; seed++) {
      const error = await simulate(cuttable, world, seed, code).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error instanceof Error && error.message.startsWith('seed ')) return error.message.split('\n')[0];
      if (error !== undefined) throw error;
    }
    return undefined;
  }
});

/** The code with the rule taken out, as modules of their own beside all else as it is. */
async function makeCode({ file, from, to }: Mutant, label: string): Promise<typeof createSync> {
  const root = join(folder, label);
  await cp(join(home, 'lib', 'sync'), root, { recursive: true });
  const text = await readFile(join(root, file), 'utf8');
  if (!text.includes(from)) throw new Error(`${file} does not have what the mutant changes: ${from}`);
  await writeFile(join(root, file), text.replaceAll(from, to));
  for (const name of await readdir(root)) {
    if (!name.endsWith('.ts')) continue;
    const path = join(root, name);
    await writeFile(path, (await readFile(path, 'utf8')).replaceAll("from '../", "from '../../../../lib/"));
  }
  return (await import(pathToFileURL(join(root, 'sync.ts')).href)).createSync;
}
