import type { Report } from '../report.ts';
import { median } from '../report.ts';
import { createOrigin, openLamina } from './lamina.ts';
import { type Instance, libraries, rawLru } from './libraries.ts';

const rounds = 5;
const msEach = 120;

/** A hit of layer 1 in the process, sync and async, of small values and of large ones. */
export async function* benchHits(): AsyncGenerator<Report> {
  const sizes = [
    { name: '100 B', keys: 10_000, value: () => ({ text: 'x'.repeat(80) }) },
    {
      name: '100 KB',
      keys: 50,
      value: () => ({ lines: Array.from({ length: 1000 }, (_, at) => `${at} ${'y'.repeat(92)}`) }),
    },
  ];
  const subjects: { name: string; instance: Instance }[] = [];
  for (const library of [rawLru, ...libraries]) subjects.push({ name: library.name, instance: await library.open() });
  subjects.push({ name: floorName, instance: openFloor() });
  subjects.push({ name: 'Lamina', instance: openLamina({ origin: createOrigin() }) });
  const rates = new Map<string, Record<string, number[]>>();
  for (const { name: size, keys, value } of sizes) {
    const names = Array.from({ length: keys }, (_, at) => `${size}:${at}`);
    for (const { name, instance } of subjects) {
      for (const key of names) await instance.getOrLoad(key, async () => value());
      rates.set(`${name} ${size}`, { sync: [], many: [], async: [] });
    }
    for (let round = 0; round < rounds; round++) {
      for (const { name, instance } of subjects) {
        const of = rates.get(`${name} ${size}`) as Record<'sync' | 'many' | 'async', number[]>;
        const { getSync, getManySync } = instance;
        if (getSync) of.sync.push(runSync(getSync, names));
        if (getManySync) of.many.push(runMany(getManySync, names));
        of.async.push(await runAsync(instance, names));
      }
    }
  }
  for (const { instance } of subjects) await instance.close();
  const rate = (name: string, size: string, how: string) => median(rates.get(`${name} ${size}`)?.[how] ?? []);
  const lines = subjects.map(({ name, instance }) => ({
    library: name,
    ...Object.fromEntries(
      sizes.flatMap(({ name: size }) => [
        [`${size} sync M/s`, instance.getSync ? rate(name, size, 'sync') / 1e6 : '–'],
        [`${size} by 100 M/s`, instance.getManySync ? rate(name, size, 'many') / 1e6 : '–'],
        [`${size} async M/s`, rate(name, size, 'async') / 1e6],
      ]),
    ),
  }));
  const sync = (other: string) => rate('Lamina', '100 B', 'sync') / rate(other, '100 B', 'sync');
  const async = rate('Lamina', '100 B', 'async') / rate('bentocache', '100 B', 'async');
  const large = rate('Lamina', '100 B', 'async') / rate('Lamina', '100 KB', 'async');
  yield {
    name: 'cache-hits',
    about: `layer-1 hits in the process, millions a second, medians of ${rounds} interleaved rounds; Lamina checks the tick of each and keeps statistics for warming; sync is \`get\`, the value alone, by 100 and async are \`read\`, with the tick and the age`,
    lines,
    targets: [
      {
        what: `sync: at least 0.6 of ${floorName} by hand (${sync(floorName).toFixed(2)}; of raw lru-cache, which asks no clock, ${sync('raw lru-cache').toFixed(2)})`,
        isMet: sync(floorName) >= 0.6,
      },
      { what: `async: at least 8 × bentocache (${async.toFixed(1)})`, isMet: async >= 8 },
      { what: `100 KB costs no more than 1.5 × 100 B (${large.toFixed(2)})`, isMet: large <= 1.5 },
    ],
  };
}

const floorName = 'Maps and the clock';

/** The least that a hit of any bounded age costs: to find the space, the kind and the value, and to ask what time it is. */
function openFloor(): Instance {
  const spaces = new Map([['bench', { untilMs: Number.POSITIVE_INFINITY, kinds: new Map([['bench', new Map()]]) }]]);
  const getSync = (key: string) => {
    const space = spaces.get('bench');
    if (space === undefined || Date.now() >= space.untilMs) return undefined;
    return space.kinds.get('bench')?.get(key);
  };
  return {
    getSync,
    getOrLoad: async (key, load) => {
      const known = getSync(key);
      if (known !== undefined) return known;
      const value = await load(key);
      spaces.get('bench')?.kinds.get('bench')?.set(key, value);
      return value;
    },
    set: () => Promise.reject(new Error('not measured')),
    delete: () => Promise.reject(new Error('not measured')),
    close: async () => {},
  };
}

function runSync(get: (key: string) => unknown, names: readonly string[]): number {
  const until = performance.now() + msEach;
  let count = 0;
  let found = 0;
  while (performance.now() < until) {
    for (let step = 0; step < 1000; step++)
      if (get(names[(count + step * 7) % names.length] as string) !== undefined) found++;
    count += 1000;
  }
  if (found !== count) throw new Error('a hit was expected');
  return (count * 1000) / msEach;
}

function runMany(get: (keys: readonly string[]) => readonly unknown[] | undefined, names: readonly string[]): number {
  const batches = Array.from({ length: 100 }, (_, batch) =>
    Array.from({ length: 100 }, (_, at) => names[(batch * 101 + at * 7) % names.length] as string),
  );
  const until = performance.now() + msEach;
  let count = 0;
  while (performance.now() < until) {
    for (const batch of batches) count += get(batch)?.length ?? 0;
  }
  if (count === 0) throw new Error('a hit was expected');
  return (count * 1000) / msEach;
}

async function runAsync(instance: Instance, names: readonly string[]): Promise<number> {
  const until = performance.now() + msEach;
  let count = 0;
  const load = () => Promise.reject(new Error('a hit was expected'));
  while (performance.now() < until) {
    for (let step = 0; step < 50; step++)
      await instance.getOrLoad(names[(count + step * 7) % names.length] as string, load);
    count += 50;
  }
  return (count * 1000) / msEach;
}
