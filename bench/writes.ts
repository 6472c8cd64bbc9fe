import type { RequestContext } from '../lib/contexts/request.ts';
import { type RealStore, startServer } from './real-store.ts';
import type { Report } from './report.ts';

const writers = 16;
const seconds = 5;

/** How many writes a second one clock takes, and ten, beside an append without clock, history and feed. */
export async function* benchWrites(): AsyncGenerator<Report> {
  const server = await startServer();
  try {
    const store = await server.open('writes');
    await store.lay(`
      insert into space (id) select 'space-' || n from generate_series(0, 9) n;
      create table plain (space_id text, id text, version integer, body text, primary key (space_id, id));
      grant select, insert, update on plain to lamina_app;
    `);
    const requests = await store.requests();
    const put = (space: string, at: number) =>
      store.manager.contexts.write(
        requests.get(space) as RequestContext,
        [
          {
            op: 'put',
            id: `c-${at % 1000}`,
            content: { bytes: Buffer.from(`{"at":${at}}`), contentType: 'application/json' },
          },
        ],
        { atomic: true },
      );
    const plain = (space: string, at: number) =>
      store.database.in({ space }).run([
        {
          text: 'insert into plain values ($1, $2, 1, $3) on conflict (space_id, id) do update set version = plain.version + 1, body = excluded.body',
          params: [space, `c-${at % 1000}`, `{"at":${at}}`],
        },
      ]);
    const batch = (space: string, at: number) =>
      store.manager.contexts.write(
        requests.get(space) as RequestContext,
        Array.from({ length: 100 }, (_, index) => ({
          op: 'put' as const,
          id: `b-${(at * 100 + index) % 5000}`,
          content: { bytes: Buffer.from(`{"at":${at}}`), contentType: 'application/json' },
        })),
        { atomic: false },
      );
    const perSecond = {
      'one space': [] as number[],
      'ten spaces': [] as number[],
      'one space, batches of 100': [] as number[],
      'plain upsert, no history': [] as number[],
    };
    // Twice each in turn: what the machine does beside falls on all of them.
    for (let round = 0; round < 2; round++) {
      perSecond['one space'].push(await rate((at) => put('space-0', at)));
      perSecond['ten spaces'].push(await rate((at) => put(`space-${at % 10}`, at)));
      perSecond['one space, batches of 100'].push(100 * (await rate((at) => batch('space-0', at))));
      perSecond['plain upsert, no history'].push(await rate((at) => plain('space-0', at)));
    }
    await requireGapless(store);
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const plainRate = mean(perSecond['plain upsert, no history']);
    const lines = Object.entries(perSecond).map(([what, values]) => ({
      what,
      'writes/s': Math.round(mean(values)),
      'of plain': mean(values) / plainRate,
    }));
    const about = `writes a second, ${writers} writers, ${seconds} s each, Neon's driver over HTTP, endpoint and server on the same machine`;
    yield { name: 'writes', about, lines, targets: [] };
  } finally {
    await server.stop();
  }
}

async function rate(write: (at: number) => Promise<unknown>): Promise<number> {
  const until = performance.now() + seconds * 1000;
  let done = 0;
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: writers }, async () => {
      while (performance.now() < until) {
        await write(next++);
        done++;
      }
    }),
  );
  return (done * 1000) / (performance.now() - started);
}

// What was fast must also have been right.
async function requireGapless(store: RealStore): Promise<void> {
  await store.lay(`do $$ begin
    if exists (select from space s where clock <> (select count(*) from change c where c.space_id = s.id)) then
      raise exception 'the clock has a gap';
    end if;
  end $$`);
}
