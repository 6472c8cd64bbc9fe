import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Entry } from '../infra/files.ts';
import { type Instance, startInstance } from '../test/servers/lambda-runtime.ts';
import { urlEvent } from '../test/support/events.ts';
import { deployFunctions } from '../test/support/functions.ts';
import { startLambdaEngines } from '../test/support/lambda-engines.ts';
import { median, type Report } from './report.ts';

const runs = 30;
const ownFirst = 'without an engine, first';
const entries: readonly Entry[] = ['api', 'index-orders', 'sync-orders', 'schedule', 'migrate'];
/** What a start may take beyond that of an empty handler. */
const beyondMs: Readonly<Record<string, number>> = {
  api: 75,
  'index-orders': 50,
  'sync-orders': 50,
  schedule: 50,
  migrate: 50,
};
const firstMs = 10;
/** What instances of the API are asked first, one after another of these: no engine, layer 2, PostgreSQL. */
const asked = [
  [[ownFirst, '/healthz']],
  [
    ['a context from Redis, first', '/v1/contexts/cold'],
    ['a context from Redis, second', '/v1/contexts/colder'],
  ],
  [
    ['a version from PostgreSQL, first', '/v1/contexts/cold?version=1'],
    ['a version from PostgreSQL, second', '/v1/contexts/colder?version=1'],
  ],
] as const;
const emptyHandler = 'export const handler = async () => {};\n';

/**
 * Starts of the functions as they are deployed, by AWS's own runtime client, each beside an empty handler: from the start of
 * the process until it asks for its first event, and what the first requests take then.
 */
export async function* benchCold(): AsyncGenerator<Report> {
  const engines = await startLambdaEngines();
  const deployed = await deployFunctions({ entries });
  const empty = await mkdtemp(join(tmpdir(), 'lamina-empty-'));
  await writeFile(join(empty, 'bundle.mjs'), emptyHandler);
  const variables = await engines.prepare(deployed);
  const inits: Record<string, number[]> = { empty: [] };
  const cpus: Record<string, number[]> = { empty: [] };
  const requests: Record<string, number[]> = {};
  const time = async (what: string, instance: Instance, event: unknown) => {
    const { tookMs } = await instance.invoke(event);
    requests[what] = [...(requests[what] ?? []), tookMs];
  };

  for (let run = 0; run < runs; run++) {
    for (const name of ['empty', ...entries]) {
      const folder = name === 'empty' ? empty : deployed.folderOf(name as Entry);
      const instance = await startInstance({ folder, variables });
      inits[name] = [...(inits[name] ?? []), instance.initMs];
      cpus[name] = [...(cpus[name] ?? []), instance.initCpuMs];
      if (name === 'empty') await time('the empty handler, first', instance, {});
      if (name === 'api')
        for (const [what, path] of asked[run % asked.length] ?? []) await time(what, instance, urlEvent('GET', path));
      await instance.stop();
    }
  }
  await deployed.remove();
  await engines.stop();
  await rm(empty, { recursive: true });

  const floor = median(inits['empty'] ?? []);
  const beyond = (name: string) => median(inits[name] ?? []) - floor;
  yield {
    name: 'cold-start',
    about: `from the start of the process until its first event is asked for, medians of ${runs} runs, interleaved`,
    lines: Object.entries(inits).map(([name, times]) => ({
      function: name,
      'init ms': median(times),
      'over the empty one ms': median(times) - floor,
      ratio: median(times) / floor,
      'processor ms': median(cpus[name] ?? []),
      'over the empty one': median(cpus[name] ?? []) - median(cpus['empty'] ?? []),
      'allowed ms': beyondMs[name] ?? 0,
    })),
    targets: entries.map((name) => ({
      what: `${name}: within ${beyondMs[name]} ms of an empty handler (${beyond(name).toFixed(0)})`,
      isMet: beyond(name) <= (beyondMs[name] ?? 0),
    })),
  };
  const first = median(requests[ownFirst] ?? []);
  yield {
    name: 'cold-request',
    about: 'the first requests of an instance; contexts come from a database and a Redis of this machine',
    lines: Object.entries(requests).map(([request, times]) => ({ request, 'median ms': median(times) })),
    targets: [{ what: `what Lamina does itself within ${firstMs} ms (${first.toFixed(1)})`, isMet: first <= firstMs }],
  };
}
