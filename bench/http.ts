import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import autocannon from 'autocannon';
import { median, type Report } from './report.ts';

const rounds = 5;
const secondsEach = 2;
const target = 0.6;

/** A layer-1 read through the whole HTTP stack, beside a bare Hono handler with the same bytes, in turns. */
export async function* benchHttp(): AsyncGenerator<Report> {
  const thread = new Worker(new URL('./http-server.ts', import.meta.url));
  const [served] = (await once(thread, 'message')) as [{ store: string; bare: string; owner: string; key: string }];
  const sizes = [
    ['1 KB', '/v1/contexts/of-1024'],
    ['200 KB', '/v1/contexts/of-204800'],
  ] as const;
  const lines: Report['lines'][number][] = [];
  const targets: Report['targets'][number][] = [];
  for (const [name, path] of sizes) {
    const rates = { bare: [] as number[], owner: [] as number[], key: [] as number[] };
    for (let round = 0; round <= rounds; round++) {
      for (const who of ['bare', 'owner', 'key'] as const) {
        const rate = await run(who === 'bare' ? served.bare : served.store, path, who === 'bare' ? '' : served[who]);
        // The first round warms up.
        if (round > 0) rates[who].push(rate);
      }
    }
    const ratio = (who: 'owner' | 'key') => median(rates[who].map((rate, at) => rate / (rates.bare[at] ?? Number.NaN)));
    lines.push({
      body: name,
      'bare Hono /s': median(rates.bare),
      'owner /s': median(rates.owner),
      ratio: ratio('owner'),
      'api key /s': median(rates.key),
      'ratio ': ratio('key'),
    });
    for (const who of ['owner', 'key'] as const)
      targets.push({ what: `${name} as ${who}: at least ${target} of a bare handler`, isMet: ratio(who) >= target });
  }
  await thread.terminate();
  yield {
    name: 'http',
    about: `layer-1 reads a second through the whole HTTP stack, 16 connections, medians of ${rounds} interleaved rounds`,
    lines,
    targets,
  };
}

async function run(origin: string, path: string, token: string): Promise<number> {
  const result = await autocannon({
    url: origin + path,
    connections: 16,
    pipelining: 8,
    duration: secondsEach,
    headers: { authorization: `Bearer ${token}` },
  });
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} answers were not 200`);
  return result.requests.total / result.duration;
}
