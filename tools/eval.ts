// npm run eval -- <locomo10.json>: how much of what answers a question search finds. LoCoMo
// (https://github.com/snap-research/locomo) is CC BY-NC 4.0 and for evaluation alone; without a file, the set of our own in
// test/search/questions.json.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openEmbedded } from '../functions/embedded.ts';
import { home, migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { defaultSettings, type Settings } from '../lib/config/settings.ts';
import { systemRequest } from '../lib/contexts/request.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';
import { answerQuestions, type Collection, type Measured, measure, readLocomo, type Way } from './eval-measures.ts';

// What the likeness of vectors counts, and the turns beside a turn; those one further count three eighths of that.
const weights = [0.1, 0.2, 0.3, 0.4];
const nears = [0, 0.2, 0.4, 0.6];

const path = process.argv[2];
const own = join(home, 'test/search/questions.json');
const collections: Collection[] =
  path === undefined ? JSON.parse(await readFile(own, 'utf8')) : readLocomo(JSON.parse(await readFile(path, 'utf8')));

const { database } = await openEmbedded({
  migrations: migrationsFolder,
  snapshots: snapshotsFolder,
  telemetry: noTelemetry,
});
const open = (search: Partial<Settings['search']>) => {
  const settings = { ...defaultSettings, search: { ...defaultSettings.search, ...search } };
  return createUnifiedContextManager({ database, settings, ownerToken: 'lam_default_owner_0123456789' });
};
const manager = await open({});
const grid = await Promise.all(
  nears.flatMap((near) =>
    weights.map(async (weight) => ({
      name: `hybrid, likeness ${weight}, beside ${near}`,
      manager: await open({ weight, near, far: near * 0.375 }),
      mode: 'hybrid' as const,
    })),
  ),
);
const ways: readonly [Way, ...Way[]] = [
  { name: 'keyword', manager, mode: 'keyword' },
  { name: 'keyword, beside 0', manager: await open({ near: 0, far: 0 }), mode: 'keyword' },
  { name: 'semantic', manager, mode: 'semantic' },
  ...grid,
  { name: 'hybrid', manager, mode: 'hybrid' },
];
const measured: Measured[] = [];
const times: number[] = [];
for (const [number, collection] of collections.entries()) {
  const token = 'lam_default_owner_0123456789';
  const owner = await manager.access.credentials.authenticate(token);
  const made = await manager.access.createSpace(systemRequest(owner, 'eval'), `eval-${number}`, token);
  const request = {
    ...systemRequest(await manager.access.credentials.authenticate(made.token), 'eval'),
    noCache: true,
  };
  await answerQuestions({ request, number, ways }, collection, (one, tookMs) => {
    measured.push(one);
    times.push(tookMs);
  });
}
await database.close();

const sorted = times.toSorted((left, right) => left - right);
const quantile = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1);
const [names, chosenFrom] = [ways, grid].map((of) => of.map(({ name }) => name)) as [string[], [string, ...string[]]];
console.log(measure(measured, names, chosenFrom, ['keyword, beside 0', 'keyword']));
console.log(`\nhybrid search: p50 ${quantile(0.5)} ms, p95 ${quantile(0.95)} ms over ${sorted.length} questions`);
