// npm run eval -- <locomo10.json>: how much of what answers a question search finds. LoCoMo
// (https://github.com/snap-research/locomo) is CC BY-NC 4.0 and for evaluation alone; without a file, the set of our own in
// test/search/questions.json.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openEmbedded } from '../functions/embedded.ts';
import { home, migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { systemRequest } from '../lib/contexts/request.ts';
import type { SearchQuery } from '../lib/search/search.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';
import { answerQuestions, type Collection, type Measured, measure, readLocomo } from './eval-measures.ts';

const modes = ['keyword', 'semantic', 'hybrid'] as const satisfies SearchQuery['mode'][];

const path = process.argv[2];
const own = join(home, 'test/search/questions.json');
const collections: Collection[] =
  path === undefined ? JSON.parse(await readFile(own, 'utf8')) : readLocomo(JSON.parse(await readFile(path, 'utf8')));

const { database } = await openEmbedded({
  migrations: migrationsFolder,
  snapshots: snapshotsFolder,
  telemetry: noTelemetry,
});
const manager = await createUnifiedContextManager({ database, ownerToken: 'lam_default_owner_0123456789' });
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
  await answerQuestions({ manager, request, number, modes }, collection, (one, tookMs) => {
    measured.push(one);
    times.push(tookMs);
  });
}
await database.close();

const sorted = times.toSorted((left, right) => left - right);
const quantile = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1);
console.log(measure(measured, modes));
console.log(`\nhybrid search: p50 ${quantile(0.5)} ms, p95 ${quantile(0.95)} ms over ${sorted.length} questions`);
