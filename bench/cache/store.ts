import { sha256 } from '../../lib/base/hash.ts';
import { defaultSettings, settingsSchema } from '../../lib/config/settings.ts';
import { createContextKinds } from '../../lib/contexts/kinds.ts';
import type { Database } from '../../lib/postgres/database.ts';
import { createUnifiedContextManager } from '../../lib/unified-context-manager.ts';
import { startServer } from '../real-store.ts';
import { median, type Report, timed } from '../report.ts';
import { agentTrace } from './policies.ts';

/** JSON of about so many bytes that compresses as prose does, to a third or so. */
function text(bytes: number, at: number): string {
  const words: string[] = [];
  for (let length = 0, step = at; length < bytes; step++) {
    const word = sha256(String(step % 5000)).slice(0, 3 + (step % 7));
    words.push(word);
    length += word.length + 1;
  }
  return JSON.stringify({ [`k${at}`]: words.join(' '), shared: { [`s${at}`]: at } });
}

/** What layer 3 brings effective contexts, and what warming brings a cold layer 2, on a real PostgreSQL. */
export async function* benchStore(): AsyncGenerator<Report> {
  const server = await startServer();
  try {
    yield await benchEffective((await server.open('effective')).database);
    yield await benchWarming((await server.open('warming')).database);
  } finally {
    await server.stop();
  }
}

const open = async (database: Database, cache: Record<string, unknown>) => {
  const manager = await createUnifiedContextManager({
    database,
    ownerToken: 'lam_bench_owner_0123456789',
    settings: settingsSchema.parse({ cache }),
  });
  const { space, slot } = await manager.access.credentials.authenticate('lam_bench_owner_0123456789');
  return { manager, request: { space, slot, actor: { kind: 'system', id: 'bench' }, seq: 0, noCache: false } as const };
};

async function benchEffective(database: Database): Promise<Report> {
  const lines = [];
  const depth = 8;
  const from = await open(database, { kinds: { effective: { layers: [] } } });
  const third = await open(database, {
    layer3Bytes: 0,
    layer2Bytes: 9_000_000,
    kinds: { effective: { layers: ['l3'] } },
  });
  for (const bytes of [200, 5_000, 50_000, 200_000]) {
    const ids = Array.from({ length: depth }, (_, at) => `b${bytes}.${at}`);
    for (const [at, id] of ids.entries()) {
      const content = { bytes: Buffer.from(text(bytes, at)), contentType: 'application/json' };
      await from.manager.contexts.write(from.request, [{ op: 'put', id, content, parentId: ids[at - 1] ?? null }], {
        atomic: true,
      });
    }
    const id = ids.at(-1) as string;
    const fold: number[] = [];
    const fetch: number[] = [];
    await third.manager.contexts.readEffective(third.request, id);
    for (let round = 0; round < 25; round++) {
      fold.push(await timed(() => from.manager.contexts.readEffective(from.request, id)));
      fetch.push(await timed(() => third.manager.contexts.readEffective(third.request, id)));
    }
    const kind = createContextKinds(from.manager.settings).effective;
    const { value } = await from.manager.contexts.readEffective(from.request, id);
    const travels = (await kind.encode(value, id))?.length ?? 0;
    lines.push({
      'contents bytes': bytes * depth,
      'as it travels': travels,
      'folded ms': median(fold),
      'layer 3 ms': median(fetch),
      ratio: median(fold) / median(fetch),
    });
  }
  const { layer3Bytes } = defaultSettings.cache;
  const dear = lines.filter((line) => line['as it travels'] >= layer3Bytes);
  const { l3Hits, loads } = (await third.manager.caching.report(third.request)).stats.kinds['effective'] ?? {
    l3Hits: 0,
    loads: 0,
  };
  return {
    name: 'cache-effective',
    about: `a context with ${depth - 1} ancestors: read and folded, beside fetched from layer 3 (${l3Hits} hits, ${loads} loads)`,
    lines,
    targets: [
      {
        what: `layer 3 is quicker from layer3Bytes (${layer3Bytes}) on, in ${dear.length} of the cases`,
        isMet: dear.length > 0 && dear.every(({ ratio }) => ratio > 1),
      },
    ],
  };
}

async function benchWarming(database: Database): Promise<Report> {
  const trace = agentTrace().slice(0, 30_000);
  const before = trace.slice(0, 20_000);
  const after = trace.slice(20_000, 24_000);
  const cache = { reportSeconds: 0.001, warm: { top: 1000 } };
  const first = await open(database, cache);
  const ids = [...new Set(trace)].map((key) => `a${key}`);
  for (let at = 0; at < ids.length; at += 100) {
    const operations = ids.slice(at, at + 100).map((id) => ({
      op: 'put' as const,
      id,
      content: { bytes: Buffer.from('"x"'), contentType: 'application/json' },
    }));
    await first.manager.contexts.write(first.request, operations, { atomic: false });
  }
  const read = async (of: typeof first, key: number) => {
    await of.manager.contexts.read(of.request, `a${key}`);
  };
  for (const [at, key] of before.entries()) {
    await read(first, key);
    // A write now and then brings the report along.
    if (at % 500 === 0)
      await first.manager.contexts.write(
        first.request,
        [{ op: 'put', id: 'w', content: { bytes: Buffer.from(String(at)), contentType: 'application/json' } }],
        { atomic: true },
      );
  }
  const lines = [];
  const asked: number[] = [];
  for (const isWarmed of [false, true]) {
    // As after a deploy or a flush: nothing is in layers 1 and 2.
    const of = await open(database, cache);
    let warmed = 0;
    let tookMs = 0;
    if (isWarmed)
      tookMs = await timed(async () => {
        warmed = (await of.manager.caching.warm(of.request, { budgetMs: 5000 })).warmed;
      });
    const loadsBefore = (await of.manager.caching.report(of.request)).stats.kinds['head']?.loads ?? 0;
    for (const key of after.slice(0, 1000)) await read(of, key);
    const loads = ((await of.manager.caching.report(of.request)).stats.kinds['head']?.loads ?? 0) - loadsBefore;
    asked.push(loads);
    lines.push({
      start: isWarmed ? 'warmed' : 'cold',
      warmed,
      'warming ms': tookMs,
      'of 1,000 reads PostgreSQL was asked': loads,
      'hit rate %': 100 * (1 - loads / 1000),
    });
  }
  const [cold = 0, warm = 0] = asked;
  return {
    name: 'cache-warming',
    about:
      'the first 1,000 reads of a replayed agent workload after layers 1 and 2 were lost, 20,000 reads reported before',
    lines,
    targets: [
      { what: `warming spares half of the requests or more (${warm} instead of ${cold})`, isMet: warm <= cold / 2 },
    ],
  };
}
