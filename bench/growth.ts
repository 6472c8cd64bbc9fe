import type { RequestContext } from '../lib/contexts/request.ts';
import { type RealServer, type RealStore, startServer } from './real-store.ts';
import { median, type Report, timed } from './report.ts';

/** A store, and requests in it that go past its caches. */
type Opened = RealStore & { readonly past: RequestContext };

const rounds = 400;

/** Whether reads and writes cost the same whatever there is: versions of the context, contexts in the space. */
export async function* benchGrowth(): AsyncGenerator<Report> {
  const server = await startServer();
  try {
    yield await growWith(server, {
      name: 'growth-contexts',
      about: 'median ms of one read and one write by contexts in the space, PostgreSQL over HTTP, interleaved',
      sizes: [100, 10_000, 1_000_000],
      unit: 'contexts',
      layOut: (size) => ({ contexts: size, versions: 1 }),
    });
    yield await growWith(server, {
      name: 'growth-versions',
      about: 'median ms of one read and one write by versions of the context, PostgreSQL over HTTP, interleaved',
      sizes: [1, 100, 10_000],
      unit: 'versions',
      layOut: (size) => ({ contexts: 100, versions: size }),
    });
  } finally {
    await server.stop();
  }
}

async function growWith(
  server: RealServer,
  plan: {
    readonly name: string;
    readonly about: string;
    readonly sizes: readonly number[];
    readonly unit: string;
    readonly layOut: (size: number) => Layout;
  },
): Promise<Report> {
  const stores: { size: number; layout: Layout; store: Opened }[] = [];
  for (const size of plan.sizes) {
    const layout = plan.layOut(size);
    console.error(`… laying out ${layout.contexts} contexts with ${layout.versions} versions each`);
    const store = await server.open(`${plan.unit}_${size}`);
    await layOut(store, layout);
    const past = { ...((await store.requests()).get('default') as RequestContext), noCache: true };
    stores.push({ size, layout, store: { ...store, past } });
  }
  // Past the caches: what PostgreSQL takes is what is measured.
  const work: Record<string, (store: Opened, id: string, round: number) => Promise<unknown>> = {
    read: async ({ manager, past }, id) => manager.contexts.read(past, id),
    'read v1': async ({ manager, past }, id) => manager.contexts.read(past, id, { version: 1 }),
    history: ({ manager, past }, id) => manager.history.versions(past, { id, limit: 1 }),
    write: ({ manager, past }, id, round) =>
      manager.contexts.write(
        past,
        [{ op: 'put', id, content: { bytes: Buffer.from(`{"round":${round}}`), contentType: 'application/json' } }],
        { atomic: true },
      ),
    'by metadata': ({ manager, past }) =>
      manager.contexts.list(past, {
        filter: { metadata: [{ path: ['team'], value: 'team-7' }] },
        order: 'id',
        limit: 1,
      }),
    'list 50': ({ manager, past }) => manager.contexts.list(past, { filter: {}, order: 'id', limit: 50 }),
  };
  const times = new Map(
    stores.map(({ size }) => [size, Object.fromEntries(Object.keys(work).map((verb) => [verb, [] as number[]]))]),
  );
  // Interleaved, so that whatever else the machine does falls on all of them alike; the first rounds warm up.
  for (let round = -40; round < rounds; round++) {
    for (const { size, layout, store } of stores) {
      const id = `c-${1 + Math.floor(Math.random() * layout.contexts)}`;
      for (const [verb, run] of Object.entries(work)) {
        const ms = await timed(() => run(store, id, round));
        if (round >= 0) times.get(size)?.[verb]?.push(ms);
      }
    }
  }
  const verbs = Object.keys(work);
  const lines = plan.sizes.map((size) => ({
    [plan.unit]: size,
    ...Object.fromEntries(verbs.map((verb) => [verb, median(times.get(size)?.[verb] ?? [])])),
  }));
  const ratioOf = (verb: string) => {
    const of = (size: number | undefined) => median(times.get(size ?? 0)?.[verb] ?? []);
    return of(plan.sizes.at(-1)) / of(plan.sizes[0]);
  };
  const ratios = { [plan.unit]: 'last/first', ...Object.fromEntries(verbs.map((verb) => [verb, ratioOf(verb)])) };
  const targets = verbs.map((verb) => ({
    what: `${verb}: ${ratioOf(verb).toFixed(2)} × from ${plan.sizes[0]} to ${plan.sizes.at(-1)} ${plan.unit} (flat is ≤ 1.5)`,
    isMet: ratioOf(verb) <= 1.5,
  }));
  return { name: plan.name, about: plan.about, lines: [...lines, ratios], targets };
}

interface Layout {
  readonly contexts: number;
  readonly versions: number;
}

/** Lays the rows that as many writes would have left, set by set. */
async function layOut(store: RealStore, { contexts, versions }: Layout): Promise<void> {
  const each = `generate_series(1, ${contexts}) c cross join generate_series(1, ${versions}) v`;
  const body = `convert_to(format('{"context":%s,"version":%s}', c, v), 'UTF8')`;
  const at = `timestamptz '2026-01-01' + make_interval(secs => (c::bigint * ${versions} + v) * 0.001)`;
  await store.lay(`
    insert into content select 'default', sha256(${body}), 0, 'raw', ${body} from ${each};
    insert into context_version (space_id, id, version, operation, hash, content_type, size_bytes, kind, metadata, actor_kind, actor_id, created_at)
      select 'default', 'c-' || c, v, 'put', sha256(${body}), 'application/json', length(${body}), 'note',
        jsonb_build_object('team', 'team-' || c % 50), 'api', 'bench', ${at} from ${each};
    insert into context (space_id, id, version, state, hash, content_type, size_bytes, kind, metadata, actor_kind, actor_id, created_at, updated_at, kept_versions)
      select 'default', id, ${versions}, 'live', hash, content_type, size_bytes, kind, metadata, actor_kind, actor_id, created_at, created_at, ${versions}
      from context_version where version = ${versions};
    insert into context_term select 'default', t, id from context cross join lateral metadata_terms(metadata) t;
    insert into change (space_id, tick, kind, id, version, operation, hash, actor_kind, actor_id, at)
      select 'default', row_number() over (order by created_at), 'context', id, version, 'put', hash, 'api', 'bench', created_at from context_version;
    update space set clock = (select max(tick) from change) where id = 'default';
  `);
  await store.lay('vacuum analyze');
}
