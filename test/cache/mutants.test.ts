import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { createView } from '../../lib/cache/view.ts';
import { createInProcessRedis } from '../../lib/redis/in-process.ts';
import { scenarios } from './scenarios.ts';
import { findLateReplyAccepted, isNameReused } from './schedules.ts';
import { type Code, type Scenario, simulate, Violation } from './simulation.ts';

/** A rule of SPEC.md, and the code without it. */
interface Mutant {
  readonly rule: string;
  readonly file:
    | 'lib/cache/answers.ts'
    | 'lib/cache/cache.ts'
    | 'lib/cache/layer2.ts'
    | 'lib/cache/view.ts'
    | 'lib/redis/in-process.ts';
  readonly changes: readonly (readonly [from: string, to: string])[];
  readonly scenario: keyof typeof scenarios;
}

const redis = 'lib/redis/in-process.ts';
const cache = 'lib/cache/cache.ts';
const answers = 'lib/cache/answers.ts';
const layer2 = 'lib/cache/layer2.ts';
const view = 'lib/cache/view.ts';
const losses = 'one key, many losses';
const windowed = 'one key inside a window';
const plain = 'two instances at window 0';

const isPut: Mutant['changes'] = [
  [
    'token: string | null, entry: NewEntry): boolean {',
    'token: string | null, entry: NewEntry, isPut: boolean): boolean {',
  ],
  ['keep(state, space, request.token, entry)', 'keep(state, space, request.token, entry, request.gotAtMs === 0)'],
];

const mutants: readonly Mutant[] = [
  {
    rule: 'P3 a fill proves the incarnation of its get',
    file: redis,
    changes: [...isPut, ['if (token !== state.inc ||', 'if ((isPut && token !== state.inc) ||']],
    scenario: losses,
  },
  {
    rule: 'P4 a put proves the incarnation known before its commit',
    file: redis,
    changes: [...isPut, ['if (token !== state.inc ||', 'if ((!isPut && token !== state.inc) ||']],
    scenario: losses,
  },
  {
    rule: 'P1 a hit is as new as it needs to be',
    file: answers,
    changes: [['!view.isEnough(one, need, got.applied) ||', '']],
    scenario: plain,
  },
  {
    rule: 'P2 the watermark moves without gaps only',
    file: redis,
    changes: [['if (request.from <= state.applied) {', 'if (request.from >= 0) {']],
    scenario: plain,
  },
  {
    rule: 'P5 entries carry their incarnation',
    file: redis,
    changes: [['return entry.inc === state.inc && entry.at', 'return entry.at']],
    scenario: plain,
  },
  {
    rule: 'P6 a value is refused when a dependency was touched after it',
    file: redis,
    changes: [[' || !isUntouched(state, items, at)) return false', ') return false']],
    scenario: plain,
  },
  {
    rule: 'P7 a put is checked like a fill',
    file: redis,
    changes: [
      [
        ' || !isUntouched(state, items, at)) return false',
        ' || (!isPut && !isUntouched(state, items, at))) return false',
      ],
      ...isPut,
    ],
    scenario: plain,
  },
  {
    rule: 'P8 a value below the floor is refused',
    file: redis,
    changes: [['token !== state.inc || at < state.floor ||', 'token !== state.inc ||']],
    scenario: plain,
  },
  {
    rule: 'P8 an entry below the floor is not valid',
    file: redis,
    changes: [['entry.at >= state.floor && isUntouched', 'isUntouched']],
    scenario: plain,
  },
  {
    rule: 'P8 trimming raises the floor',
    file: redis,
    changes: [['state.floor = Math.max(state.floor, touchedAt);', '']],
    scenario: plain,
  },
  {
    rule: 'P9 too long a gap raises the floor',
    file: layer2,
    changes: [["changes: [{ item: '*', tick: seq }]", 'changes: []']],
    scenario: plain,
  },
  {
    rule: 'P10 no value without its history',
    file: cache,
    changes: [['...toStretch(before.from, loaded),', 'from: 0, to: 0, changes: [],']],
    scenario: plain,
  },
  {
    rule: 'P11 a value names every item it was made of',
    file: layer2,
    changes: [
      [
        'const stored: NewEntry = { key, at, deps: items,',
        'const stored: NewEntry = { key, at, deps: items.slice(0, 1),',
      ],
      ['kept: toEntry(kind, id, at, items, value)', 'kept: toEntry(kind, id, at, items.slice(0, 1), value)'],
    ],
    scenario: plain,
  },
  {
    rule: 'P12 an invalidation touches its items',
    file: cache,
    changes: [
      [
        '{ token, from, to, changes, gotAtMs: 0, entries }',
        '{ token, from, to, changes: entries.length === 0 ? [] : changes, gotAtMs: 0, entries }',
      ],
    ],
    scenario: plain,
  },
  {
    rule: 'P14 half a loss is a whole one',
    file: redis,
    changes: [
      [
        '      states.delete(space);\n      if (!withEntries)',
        '      states.get(space)?.touched.clear();\n      if (!withEntries)',
      ],
    ],
    scenario: plain,
  },
  {
    rule: 'P16 own writes count',
    file: cache,
    changes: [['Math.max(seq, view.own)', 'seq']],
    scenario: plain,
  },
  {
    rule: 'P17 another incarnation clears layer 1',
    file: view,
    changes: [['        store.clear();\n        rev = reply.rev;', '        rev = reply.rev;']],
    scenario: losses,
  },
  {
    rule: 'P18 RESET clears layer 1',
    file: view,
    changes: [['store.clear(); // P18', 'view.tick = reply.applied;']],
    scenario: plain,
  },
  {
    rule: 'P20 only what was accepted enters layer 1',
    file: layer2,
    changes: [['if (reply.accepted[index] && ', 'if (index >= 0 && ']],
    scenario: plain,
  },
  {
    rule: 'P21 a window counts from sending',
    file: layer2,
    changes: [
      [
        'const sent = { since: view.tick, sentAtMs: clock() };',
        'const sent = { since: view.tick, get sentAtMs() { return clock(); } };',
      ],
    ],
    scenario: 'inside a window',
  },
  {
    rule: 'P22 layer 1 obeys the need inside the window',
    file: answers,
    changes: [[' || !view.isEnough(entry, need)', '']],
    scenario: windowed,
  },
  {
    rule: 'P23 a hit is renewed to the watermark and no further',
    file: redis,
    changes: [['Math.max(entry.at, state.applied);', 'Math.max(entry.at, state.applied, ...state.touched.values());']],
    scenario: plain,
  },
];

const folder = join(home, 'test', 'cache', '.mutants');
const runsMax = 20_000;

beforeAll(() => mkdir(folder, { recursive: true }));
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the simulation finds the code out without', () => {
  test.each(mutants.map((mutant, index) => [mutant.rule, mutant, index] as const))(
    '%s',
    async (_rule, mutant, index) => {
      const violation = await findViolation(await makeCode(mutant, index), scenarios[mutant.scenario] as Scenario);
      expect(violation?.message.split('\n')[0]).toMatch(/^seed \d+: (G\d|I\d|seq)/);
    },
    120_000,
  );
});

describe('schedules written by hand find the code out without', () => {
  const lateReplies = [
    ['P19', 'reply.rev < rev || '],
    ['P19b', 'reply.applied < view.tick || '],
    ['P19c', ' || sent.since > view.tick'],
  ] as const;
  test.each(lateReplies)('%s', async (rule, condition) => {
    const root = await makeSources({ file: view, changes: [[condition, '']] }, rule);
    expect(findLateReplyAccepted((await load(root, view)).createView)).toBe(rule);
  });

  test('P13', async () => {
    const named = `inc: \`\${clock()}.\${++openings}:\${nonce}\``;
    const root = await makeSources({ file: redis, changes: [[named, 'inc: nonce']] }, 'P13');
    const deps = { bounds: { items: 9, marks: 9, listed: 9, replyBytes: 1_000_000 }, clock: () => 1 };
    for (const [make, isReused] of [
      [(await load(root, redis)).createInProcessRedis as typeof createInProcessRedis, true],
      [createInProcessRedis, false],
    ] as const) {
      const made = make(deps);
      expect(await isNameReused(made, () => made.lose('s'))).toBe(isReused);
    }
  });

  test('nothing, where all are in place', () => {
    expect(findLateReplyAccepted(createView)).toBeUndefined();
  });
});

/** The sources with the rule taken out, as modules of their own. */
async function makeSources({ file, changes }: Pick<Mutant, 'file' | 'changes'>, name: string): Promise<string> {
  const root = join(folder, name);
  for (const part of ['lib/base', 'lib/cache', 'lib/redis']) {
    await cp(join(home, part), join(root, part), { recursive: true, filter: (path) => !path.endsWith('upstash.ts') });
  }
  let text = await readFile(join(home, file), 'utf8');
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${file} does not have what the mutant changes: ${from}`);
    text = text.replaceAll(from, to);
  }
  await writeFile(join(root, file), text);
  return root;
}

const load = (root: string, file: string) => import(pathToFileURL(join(root, file)).href);

async function makeCode(mutant: Mutant, index: number): Promise<Code> {
  const root = await makeSources(mutant, String(index));
  const { createCache } = await load(root, cache);
  const { createInProcessRedis } = await load(root, redis);
  return { createCache, createInProcessRedis };
}

async function findViolation(code: Code, scenario: Scenario): Promise<Violation | undefined> {
  for (let seed = 0; seed < runsMax; seed++) {
    try {
      await simulate(code, scenario, seed);
    } catch (error) {
      if (error instanceof Violation) return error;
      throw error;
    }
  }
  return undefined;
}
