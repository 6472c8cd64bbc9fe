import { benchCache } from './cache/cache.ts';
import { benchCold } from './cold.ts';
import { benchFactory } from './factory.ts';
import { benchGrowth } from './growth.ts';
import { benchHttp } from './http.ts';
import { benchMemory } from './memory.ts';
import { benchMerge } from './merge.ts';
import { keepReport, printReport, type Report } from './report.ts';
import { benchSearch } from './search.ts';
import { benchSync } from './sync.ts';
import { benchWrites } from './writes.ts';

// npm run bench [-- <name> … [-- <repository> …]]: each benchmark by its name, all of them without one. Repositories
// lend the merge benchmark real cases.
const benchmarks: Readonly<Record<string, (repositories: readonly string[]) => AsyncGenerator<Report>>> = {
  merge: benchMerge,
  writes: benchWrites,
  growth: benchGrowth,
  cache: benchCache,
  http: benchHttp,
  memory: benchMemory,
  search: benchSearch,
  sync: benchSync,
  factory: benchFactory,
  cold: benchCold,
};

const given = process.argv.slice(2);
const names = given.filter((name) => name in benchmarks);
const repositories = given.filter((name) => name !== '--' && !(name in benchmarks));
let missed = 0;
for (const [name, bench] of Object.entries(benchmarks)) {
  if (names.length > 0 && !names.includes(name)) continue;
  for await (const report of bench(repositories)) {
    printReport(report);
    await keepReport(report);
    missed += report.targets.filter(({ isMet }) => !isMet).length;
  }
}
console.log(missed === 0 ? '\nEvery target was met.' : `\n${missed} targets were missed.`);
// The real servers of the run are ended by its own exit handler.
process.exit(0);
