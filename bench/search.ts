import MiniSearch from 'minisearch';
import { openEmbedded } from '../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { type RequestContext, systemRequest } from '../lib/contexts/request.ts';
import type { SearchQuery } from '../lib/search/search.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager, type UnifiedContextManager } from '../lib/unified-context-manager.ts';
import { startServer } from './real-store.ts';
import { quantile, type Report, timed } from './report.ts';
import { createTexts, readVocabulary, wordsEach } from './texts.ts';

const embeddedTexts = 6000;
const realTexts = 100_000;
const warmTexts = 1000;
const queriesEach = 100;

/** Search beside minisearch in memory and the substring search of the reference memory server, over the same texts. */
export async function* benchSearch(): AsyncGenerator<Report> {
  const texts = createTexts(await readVocabulary());
  const lines: Record<string, string | number>[] = [];
  const small = Array.from({ length: embeddedTexts }, (_, at) => texts.text(at));
  const warming = Array.from({ length: warmTexts }, (_, at) => texts.text(realTexts + at));
  const queries = Array.from({ length: queriesEach }, (_, at) => texts.query(small[(at * 59) % small.length] ?? ''));

  const { database } = await openEmbedded({
    migrations: migrationsFolder,
    snapshots: snapshotsFolder,
    telemetry: noTelemetry,
  });
  const token = 'lam_default_owner_0123456789';
  const manager = await createUnifiedContextManager({ database, settings: defaultSettings, ownerToken: token });
  const request = { ...systemRequest(await manager.access.credentials.authenticate(token), 'bench'), noCache: true };
  const cold = await fill(manager, await openSpace(manager, request, token), warming);
  lines.push({ who: 'Lamina, embedded, the first in a process', chunks: warmTexts, 'indexed/s': Math.round(cold) });
  const rate = await fill(manager, request, small);
  let p95 = 0;
  for (const mode of ['hybrid', 'keyword', 'semantic'] as const) {
    const times = await ask(manager, request, queries, mode);
    if (mode === 'hybrid') p95 = quantile(times, 0.95);
    lines.push(line(`Lamina, embedded, ${mode}`, embeddedTexts, times, rate));
  }
  await database.close();

  new MiniSearch({ fields: ['text'] }).addAll(warming.map((text, id) => ({ id, text })));
  const mini = new MiniSearch({ fields: ['text'] });
  const miniMs = await timed(() => mini.addAll(small.map((text, id) => ({ id, text }))));
  const miniTimes = await Promise.all(queries.map((query) => timed(() => mini.search(query).slice(0, 10))));
  lines.push(line('minisearch, in memory', embeddedTexts, miniTimes, (small.length * 1000) / miniMs));
  const lower = (text: string) => text.toLowerCase();
  const substring = await Promise.all(
    queries.map((query) => timed(() => small.filter((text) => lower(text).includes(lower(query))))),
  );
  lines.push(line('substring, as the reference memory server', embeddedTexts, substring, Number.NaN));

  const server = await startServer();
  const real = await server.open('bench_search');
  const of = [...(await real.requests()).values()][0] as RequestContext;
  const large = Array.from({ length: realTexts }, (_, at) => texts.text(at));
  const realRate = await fill(real.manager, of, large);
  await real.lay('vacuum analyze');
  const realTimes = await ask(real.manager, { ...of, noCache: true }, queries, 'keyword');
  lines.push(line('Lamina, PostgreSQL, keyword', realTexts, realTimes, realRate));
  await server.stop();

  const realP95 = quantile(realTimes, 0.95);
  yield {
    name: 'search',
    about: `Questions of five words of one text among texts of ${wordsEach} words, each one chunk; past the caches. Before, each has indexed ${warmTexts} others.`,
    lines,
    targets: [
      { what: `embedded, ${embeddedTexts} chunks, hybrid: p95 below 25 ms (${p95.toFixed(1)})`, isMet: p95 < 25 },
      {
        what: `PostgreSQL, ${realTexts} chunks, words: p95 below 150 ms (${realP95.toFixed(1)})`,
        isMet: realP95 < 150,
      },
      { what: `embedded: 2,000 chunks indexed a second (${rate.toFixed(0)})`, isMet: rate >= 2000 },
    ],
  };
}

const line = (who: string, chunks: number, times: readonly number[], rate: number) => ({
  who,
  chunks,
  'p50 ms': quantile(times, 0.5),
  'p95 ms': quantile(times, 0.95),
  'indexed/s': Number.isNaN(rate) ? '' : Math.round(rate),
});

/** Another space, as its first key sees it. */
async function openSpace(
  manager: UnifiedContextManager,
  owner: RequestContext,
  token: string,
): Promise<RequestContext> {
  const made = await manager.access.createSpace(owner, 'warm', token);
  return systemRequest(await manager.access.credentials.authenticate(made.token), 'bench');
}

/** Writes the texts, indexes them, and tells how many a second were indexed. */
async function fill(
  manager: UnifiedContextManager,
  request: RequestContext,
  texts: readonly string[],
): Promise<number> {
  for (let at = 0; at < texts.length; at += 500) {
    const operations = texts.slice(at, at + 500).map((text, index) => ({
      op: 'put' as const,
      id: `t${at + index}`,
      content: { bytes: Buffer.from(text), contentType: 'text/plain' },
    }));
    await manager.contexts.write(request, operations, { atomic: true });
  }
  return (texts.length * 1000) / (await timed(() => manager.search.indexing.index(request, Number.POSITIVE_INFINITY)));
}

async function ask(
  manager: UnifiedContextManager,
  request: RequestContext,
  queries: readonly string[],
  mode: SearchQuery['mode'],
): Promise<number[]> {
  const times: number[] = [];
  for (const [at, query] of [...queries.slice(0, 10), ...queries].entries()) {
    const asked = { query, mode, limit: 10, filter: null, groupBy: 'context', isIndexed: false } as const;
    const tookMs = await timed(() => manager.search.search(request, asked));
    if (at >= 10) times.push(tookMs);
  }
  return times;
}
