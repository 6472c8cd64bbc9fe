import { quietMs } from '../functions/lambda/queue.ts';
import { expectedFunctions } from '../infra/graph/expected.ts';
import type { Settings } from '../lib/config/settings.ts';
import type { Prices } from './prices.ts';
import { roundTrips, type Trips } from './round-trips.ts';

/** A month of a stage in production, its requests spread evenly over hours, spaces and instances. */
export interface Workload {
  readonly name: string;
  readonly requests: number;
  readonly spaces: number;
  /** Of the API that are awake at once. */
  readonly instances: number;
  /** Shares of the reads of which layer 1, and of the others layer 2, hold a value: `npm run bench -- cache`. */
  readonly layer1: number;
  readonly layer2: number;
  /** Share of the requests that find no instance. */
  readonly cold: number;
}

/** The three that docs/cost.md is about. The shares are those of the agents' day on one instance and on five. */
export const workloads: readonly Workload[] = [
  { name: '10⁴', requests: 1e4, spaces: 1, instances: 1, layer1: 0.85, layer2: 0.097, cold: 1 },
  { name: '10⁶', requests: 1e6, spaces: 10, instances: 1, layer1: 0.85, layer2: 0.097, cold: 0.01 },
  { name: '10⁸', requests: 1e8, spaces: 100, instances: 5, layer1: 0.643, layer2: 0.304, cold: 0.01 },
];

const share = { reads: 0.9, writes: 0.08, searches: 0.02 };
/** Medians on one core with the engines beside it: docs/operations.md, docs/search.md; a start with what an empty one takes:
 * docs/deploy.md; the last two were timed for this page. */
const measured = {
  readMs: 2.05,
  writeMs: 2.26,
  searchMs: 22,
  coldMs: 116,
  indexMs: 17,
  contextBytes: 22_800,
  versionBytes: 1500,
};
/** What nobody has measured: a reader puts in what is true of their stage. */
const assumed = { networkMs: 5, answerKb: 4, logBytes: 500, newContexts: 0.1, keptMonths: 12, peak: 10 };

const hours = 730;
const seconds = hours * 3600;
/** At so many MB a function has one core: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html */
const coreMb = 1769;
/** Lambda asks a queue by five long polls of 20 s where `maximumConcurrency` is set: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html */
const pollsASecond = 5 / 20;
/** After so long without a request Neon's compute sleeps: https://neon.com/docs/introduction/scale-to-zero */
const sleepMinutes = 5;
// Of a provisioned production: infra/data.ts.
const leastCu = 0.25;
const mostCu = 2;
const historyDays = 7;

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
const times = ({ redis, sql }: Trips, by: number): Trips => ({ redis: redis * by, sql: sql * by });
const add = (...all: readonly Trips[]): Trips => ({
  redis: sum(all.map(({ redis }) => redis)),
  sql: sum(all.map(({ sql }) => sql)),
});

/** The schedules that production has, with how many of their runs begin in a month. */
function scheduled({ schedules }: Settings): { trips: Trips; runs: number }[] {
  const minutes = {
    cleanup: schedules.cleanupMinutes,
    warm: schedules.warmMinutes,
    reconcile: schedules.reconcileMinutes,
    index: schedules.indexMinutes,
    synchronise: schedules.syncMinutes,
    work: schedules.factoryMinutes,
  };
  return Object.entries(roundTrips.idle).map(([task, trips]) => {
    const every = minutes[task as keyof typeof minutes];
    return { trips, runs: every === 0 ? 0 : (hours * 60) / Math.max(Math.round(every), 1) };
  });
}

/**
 * What an average read asks of the engines. Any reply of layer 2 begins a window for its whole space, and any request to
 * PostgreSQL a time in which layer 2 is served from; with reads at random moments one begins every (1 / rate + its length).
 */
function readTrips({ requests, spaces, instances, layer1, layer2 }: Workload, { cache }: Settings): Trips {
  const aSecond = (requests * share.reads) / spaces / seconds;
  const verifySeconds = Math.max(cache.repairMs - cache.windowMs - 1000, 0) / 1000;
  const windowed = (aSecond / instances) * (cache.windowMs / 1000);
  const unverified = 1 / (1 + aSecond * verifySeconds);
  const inWindow = windowed / (1 + windowed);
  const verified = add(
    times(roundTrips.inWindow, layer1 * inWindow),
    times(roundTrips.revalidated, layer1 * (1 - inWindow)),
    times(roundTrips.layer2, layer2),
    times(roundTrips.miss, 1 - layer1 - layer2),
  );
  return add(times(roundTrips.unverified, unverified), times(verified, 1 - unverified));
}

/** What a workload makes in a month, by what is asked money for. */
export function count(workload: Workload, settings: Settings): Record<keyof Prices, number> {
  const { requests, spaces, instances, cold } = workload;
  const [reads, writes, searches] = [requests * share.reads, requests * share.writes, requests * share.searches];
  const read = readTrips(workload, settings);
  const orders = writes / (1 + (writes / spaces / instances / seconds) * (quietMs / 1000));
  const schedules = scheduled(settings);
  const runs = sum(schedules.map((one) => one.runs));
  const ofSchedules = add(
    ...schedules.map((one) => times(one.trips, one.runs * spaces)),
    times(roundTrips.spaces, runs * Math.ceil(spaces / 100)),
  );
  const trips = add(
    times(read, reads),
    times(roundTrips.write, writes),
    times(roundTrips.search, searches),
    times(roundTrips.indexOrder, orders),
    ofSchedules,
  );

  const gigabyteSeconds = (name: string, many: number, ms: number, { redis, sql }: Trips) => {
    const memory = expectedFunctions[name]?.memory ?? 0;
    return (many * (ms * (coreMb / memory) + (redis + sql) * assumed.networkMs) * memory) / 1024 / 1000;
  };
  const functions = Object.keys(expectedFunctions).length;
  const invocations = requests + orders + runs;
  const writtenBytes = assumed.newContexts * measured.contextBytes + (1 - assumed.newContexts) * measured.versionBytes;
  const writtenGb = (writes * writtenBytes) / 1e9;
  return {
    edgeRequests: requests,
    edgeFunctions: requests,
    // SST's function looks up the routes, and where the one that fits leads.
    edgeKeys: 2 * requests,
    edgeBytes: (requests * assumed.answerKb) / 1e6,
    lambdaRequests: invocations,
    lambdaSeconds: sum([
      gigabyteSeconds('Api', reads, measured.readMs, read),
      gigabyteSeconds('Api', writes, measured.writeMs, roundTrips.write),
      gigabyteSeconds('Api', searches, measured.searchMs, roundTrips.search),
      gigabyteSeconds('Api', requests * cold, measured.coldMs, { redis: 0, sql: 0 }),
      gigabyteSeconds('IndexWorker', orders, measured.indexMs, roundTrips.indexOrder),
      gigabyteSeconds('Schedule', 1, ofSchedules.sql * measured.readMs, ofSchedules),
    ]),
    // Each order is sent, received and deleted; both queues are asked all the time.
    sqsRequests: 3 * orders + 2 * pollsASecond * seconds,
    schedulerRuns: runs,
    logBytes: (invocations * assumed.logBytes) / 1e9,
    // infra/alarms.ts: two a function, three of the API, two of queues, three of dead letters.
    alarms: 2 * functions + 8,
    metrics: functions,
    redisCommands: trips.redis,
    redisBytes: (trips.redis * assumed.answerKb) / 1e6,
    computeHours:
      hours * Math.min(Math.max((trips.sql / seconds) * assumed.peak * (measured.writeMs / 1000), leastCu), mostCu),
    storage: writtenGb * assumed.keptMonths,
    history: (writtenGb * historyDays * 24) / hours,
  };
}

/** What it costs, at list prices and after what is free. */
export function price(
  counted: Record<keyof Prices, number>,
  prices: Prices,
): { list: number; free: number; due: number } {
  const of = (value: (one: keyof Prices) => number) => sum((Object.keys(prices) as (keyof Prices)[]).map(value));
  const list = of((one) => costOf(counted[one], prices[one].usd, prices[one].per));
  const free = of((one) => costOf(Math.min(counted[one], prices[one].free), prices[one].usd, prices[one].per));
  return { list, free, due: list - free };
}

const costOf = (many: number, usd: number, per: number) => (many * usd) / per;
const dollars = (usd: number) => `$${usd.toFixed(2).replace(/\B(?=(\d{3})+(?!\d))/g, ',')}`;
const amount = (many: number) => {
  if (many >= 1e6) return `${(many / 1e6).toPrecision(3)} M`;
  return many >= 1000 ? `${(many / 1000).toPrecision(3)} k` : String(Number(many.toPrecision(2)));
};
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** The tables of docs/cost.md by their names. */
export function costTables(settings: Settings, prices: Prices): Record<string, string> {
  const counted = workloads.map((workload) => count(workload, settings));
  const names = Object.keys(prices) as (keyof Prices)[];
  const totals = counted.map((one) => price(one, prices));
  const columns = workloads.map(({ name }) => name);
  const bill = table(
    ['requests a month', ...columns],
    [
      ...names.map((name) => [
        prices[name].of,
        ...counted.map((one) => dollars(costOf(one[name], prices[name].usd, prices[name].per))),
      ]),
      ['**at list prices**', ...totals.map(({ list }) => `**${dollars(list)}**`)],
      ['free in every month', ...totals.map(({ free }) => `−${dollars(free)}`)],
      ['**to be paid**', ...totals.map(({ due }) => `**${dollars(due)}**`)],
      ['a million requests', ...totals.map(({ due }, at) => dollars((due / (workloads[at]?.requests ?? 1)) * 1e6))],
    ],
  );
  const made = table(
    ['in a month', ...columns],
    names.map((name) => [`${prices[name].of} (${prices[name].unit})`, ...counted.map((one) => amount(one[name]))]),
  );
  const sources = table(
    ['', 'price', 'free a month', 'source', 'as of'],
    names.map((name) => {
      const { of, usd, per, unit, free, source, read } = prices[name];
      const each = per === 1 ? unit : `${per.toLocaleString('en-US')} ${unit}s`;
      return [of, `$${usd} / ${each}`, free === 0 ? '–' : free.toLocaleString('en-US'), `[page](${source})`, read];
    }),
  );
  return { bill, made, prices: sources, other: otherSettings(settings, prices), sleep: asleep(prices) };
}

/** What the largest workload costs where one thing is another. */
function otherSettings(settings: Settings, prices: Prices): string {
  const large = workloads.at(-1) as Workload;
  const withCache = (cache: Partial<Settings['cache']>) => ({ ...settings, cache: { ...settings.cache, ...cache } });
  const cases: [string, Workload, Settings][] = [
    ['as above', large, settings],
    ['`cache.repairMs: 60000`', large, withCache({ repairMs: 60_000 })],
    ['`cache.repairMs: 600000`', large, withCache({ repairMs: 600_000 })],
    ['… and `cache.windowMs: 10000`', large, withCache({ repairMs: 600_000, windowMs: 10_000 })],
    ['all in one space', { ...large, spaces: 1 }, settings],
    ['in 1,000 spaces', { ...large, spaces: 1000 }, settings],
    ['every read a miss', { ...large, layer1: 0, layer2: 0 }, settings],
  ];
  return table(
    ['10⁸ requests', 'commands of Redis', 'of a read: Redis / SQL', 'to be paid'],
    cases.map(([name, workload, its]) => {
      const counted = count(workload, its);
      const { redis, sql } = readTrips(workload, its);
      const each = `${redis.toFixed(2)} / ${sql.toFixed(2)}`;
      return [name, amount(counted.redisCommands), each, dollars(price(counted, prices).due)];
    }),
  );
}

/** What keeps a compute of the least size awake, and what that costs in a month. */
function asleep(prices: Prices): string {
  const memory = (expectedFunctions['Api']?.memory ?? 0) / 1024;
  const listening = dollars(costOf(memory * seconds, prices.lambdaSeconds.usd, prices.lambdaSeconds.per));
  const cases: [string, number][] = [
    ['production: peers and hook events are looked for', 1],
    ['… those at 0; the nets of the index and of layer 2', 5],
    ['… those at 0 too; warming', 15],
    ['outside production: cleanup', 60],
    ['cleanup once a day (`schedules.cleanupMinutes: 1440`)', 1440],
    ['a space that is read all the time, `cache.repairMs: 10000`', 8 / 60],
    ['… `cache.repairMs: 600000`', 598 / 60],
    ['… `cache.repairMs: 3600000`', 3598 / 60],
    [`one who waits for changes, or subscribes over MCP (and a function of their own: ${listening} more)`, 0.5 / 60],
  ];
  return table(
    ['what asks PostgreSQL, by itself', 'every', 'awake', 'a month'],
    cases.map(([name, minutes]) => {
      const awake = Math.min(sleepMinutes / minutes, 1);
      const { usd, per } = prices.computeHours;
      const every = minutes < 1 ? `${minutes * 60} s` : `${Math.round(minutes)} min`;
      return [
        name,
        every,
        `${(100 * awake).toPrecision(awake === 1 ? 3 : 2)} %`,
        dollars(costOf(awake * hours * leastCu, usd, per)),
      ];
    }),
  );
}

/** A page with its tables made anew, each between its marks. */
export function fillTables(page: string, tables: Record<string, string>): string {
  return Object.entries(tables).reduce((text, [name, made]) => {
    const [mark, end] = [`<!-- table: ${name} -->\n`, '<!-- end -->'];
    const from = text.indexOf(mark) + mark.length;
    const to = text.indexOf(end, from);
    if (from < mark.length || to < 0) throw new Error(`There is no place for the table ${name}.`);
    return `${text.slice(0, from)}${made}\n${text.slice(to)}`;
  }, page);
}
