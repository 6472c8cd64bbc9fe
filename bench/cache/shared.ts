import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  findRedis,
  type RedisEndpoint,
  type RedisServer,
  startRedis,
  startRedisEndpoint,
} from '../../test/servers/redis.ts';
import { median, type Report, timed } from '../report.ts';
import { createOrigin, type Origin, openLamina } from './lamina.ts';
import { type Instance, type Library, libraries } from './libraries.ts';

/** What instances do over one Redis: stampedes, commands, invalidation, coherence, and a Redis that is dead or hung. */
export async function* benchShared(): AsyncGenerator<Report> {
  const program = await findRedis();
  if (program === undefined)
    throw new Error('This benchmark needs redis-server (Debian: apt-get install redis-server).');
  const redis = await startRedis(program);
  const endpoint = await startRedisEndpoint(redis.port);
  try {
    yield await benchStampede(redis, endpoint);
    yield await benchCommands(redis, endpoint);
    yield await benchInvalidation(redis, endpoint);
    yield await benchCoherence(redis, endpoint);
    yield await benchOutage(redis, endpoint);
  } finally {
    await endpoint.stop();
    await redis.stop();
  }
}

/** The subject of one measurement: some instances of each library over the same Redis, and of Lamina. */
async function openAll(
  redis: RedisServer,
  endpoint: RedisEndpoint,
  options: { count: number; windowMs?: number; with?: readonly Library[] },
): Promise<{ name: string; origin: Origin | undefined; instances: Instance[] }[]> {
  const origin = createOrigin();
  const many = <Made>(make: () => Made) => Promise.all(Array.from({ length: options.count }, make));
  const found = [];
  for (const library of options.with ?? libraries)
    found.push({ name: library.name, origin: undefined, instances: await many(() => library.open(redis.port)) });
  const { windowMs = 60_000 } = options;
  found.push({
    name: 'Lamina',
    origin,
    instances: await many(() => openLamina({ origin, redis: endpoint, windowMs })),
  });
  return found;
}

async function benchStampede(redis: RedisServer, endpoint: RedisEndpoint): Promise<Report> {
  const lines = [];
  let own = 0;
  for (const { name, instances } of await openAll(redis, endpoint, { count: 5 })) {
    await redis.command('FLUSHALL');
    // Each is connected, as instances are that are at work.
    for (const instance of instances) await instance.getOrLoad('connected', async () => 1);
    let loads = 0;
    const load = async () => {
      loads++;
      await sleep(50);
      return { value: 1 };
    };
    const callers = instances.flatMap((instance) =>
      Array.from({ length: 200 }, () => instance.getOrLoad('stampede', load)),
    );
    await Promise.all(callers);
    lines.push({ library: name, instances: instances.length, callers: callers.length, loads });
    if (name === 'Lamina') own = loads;
    await close(instances);
  }
  return {
    name: 'cache-stampede',
    about: 'a missing key asked for everywhere at once, its load 50 ms',
    lines,
    targets: [{ what: 'one load over all instances', isMet: own === 1 }],
  };
}

async function commandsOf(redis: RedisServer, work: () => Promise<unknown>): Promise<number> {
  const count = async () =>
    Number(/total_commands_processed:(\d+)/.exec(String(await redis.command('INFO', 'stats')))?.[1]);
  const before = await count();
  await work();
  await sleep(20);
  // The looking counts, too.
  return (await count()) - before - 1;
}

async function benchCommands(redis: RedisServer, endpoint: RedisEndpoint): Promise<Report> {
  const lines = [];
  for (const { name, instances } of await openAll(redis, endpoint, { count: 2 })) {
    const [one, two] = instances as [Instance, Instance];
    const load = async () => ({ value: 'x'.repeat(200) });
    for (const instance of instances) await instance.getOrLoad('first', load);
    const hit = await commandsOf(redis, () => one.getOrLoad('first', load));
    const miss = await commandsOf(redis, () => one.getOrLoad('missing', load));
    const far = await commandsOf(redis, () => two.getOrLoad('missing', load));
    const set = await commandsOf(redis, () => one.set('missing', { value: 2 }));
    const gone = await commandsOf(redis, () => one.delete('missing'));
    lines.push({ library: name, 'L1 hit': hit, 'L2 hit': far, 'miss + fill': miss, set, delete: gone });
    await close(instances);
  }
  // A script counts itself and the commands it runs inside Redis; what travels is one request.
  const lamina = openLamina({ origin: createOrigin(), redis: endpoint });
  const requestsOf = async (work: () => Promise<unknown>) => {
    const before = endpoint.requests();
    await work();
    return endpoint.requests() - before;
  };
  await requestsOf(() => lamina.getOrLoad('first', async () => 1));
  await requestsOf(() => lamina.set('first', 1));
  // Another instance that has the scripts, and not yet the value.
  const other = openLamina({ origin: createOrigin(), redis: endpoint });
  await other.getOrLoad('other', async () => 1);
  const requests = {
    'L1 hit': await requestsOf(() => lamina.getOrLoad('first', async () => 1)),
    'L2 hit': await requestsOf(() => other.getOrLoad('first', async () => 1)),
    'miss + fill': await requestsOf(() => lamina.getOrLoad('counted', async () => 1)),
    set: await requestsOf(() => lamina.set('counted', 2)),
    delete: await requestsOf(() => lamina.delete('counted')),
  };
  lines.push({ library: 'Lamina, requests', ...requests });
  const counted = Object.values(requests).join('/');
  return {
    name: 'cache-commands',
    about:
      'commands that Redis carries out for an operation, those inside a script included; Lamina sends one request each, two for a miss',
    lines,
    targets: [
      {
        what: `one request an operation, none for a hit of layer 1, two for a miss (${counted})`,
        isMet: counted === '0/1/2/1/1',
      },
    ],
  };
}

const manyKeys = 100_000;

async function benchInvalidation(redis: RedisServer, endpoint: RedisEndpoint): Promise<Report> {
  const lines = [];
  let ownMs = Number.NaN;
  for (const { name, instances } of await openAll(redis, endpoint, { count: 1 })) {
    await redis.command('FLUSHALL');
    const [instance] = instances as [Instance & { invalidateAll?: () => Promise<unknown> }];
    if (name === 'Lamina') {
      // Its first call loads the scripts and learns the incarnation.
      await instance.getOrLoad('first', async () => 1);
      const inc = String(await redis.command('HGET', '{bench}:s', 'inc'));
      for (let from = 0; from < manyKeys; from += 1000) {
        await Promise.all(
          Array.from({ length: 1000 }, (_, at) =>
            redis.command(
              'HSET',
              `{bench}:e:bench:k${from + at}`,
              'inc',
              inc,
              'at',
              '0',
              'deps',
              `c:k${from + at}`,
              'body',
              '1',
            ),
          ),
        );
      }
      const samples = [];
      for (let round = 0; round < 5; round++) samples.push(await timed(() => instance.invalidateAll?.()));
      ownMs = median(samples);
      lines.push({ library: name, ms: ownMs, requests: 1 });
    } else {
      for (let from = 0; from < manyKeys; from += 1000)
        await Promise.all(Array.from({ length: 1000 }, (_, at) => instance.set(`k${from + at}`, 1)));
      let ms = Number.NaN;
      const requests = await commandsOf(redis, async () => {
        ms = await timed(() => instance.clear?.());
      });
      const left = Number(await redis.command('DBSIZE'));
      lines.push({ library: name, ms, requests, 'keys left': left });
    }
    await close(instances);
  }
  await redis.command('FLUSHALL');
  return {
    name: 'cache-invalidation',
    about: `forgetting ${manyKeys} entries at once, by what each library has for it (its entries are written by its own set; Lamina's beforehand)`,
    lines,
    targets: [{ what: `one request, under 5 ms (${ownMs.toFixed(1)} ms)`, isMet: ownMs < 5 }],
  };
}

async function benchCoherence(redis: RedisServer, endpoint: RedisEndpoint): Promise<Report> {
  const lines = [];
  let ownStale = Number.NaN;
  const chosen = libraries.filter(({ name }) => name === 'bentocache' || name === 'cacheable');
  const subjects = [
    ...(await openAll(redis, endpoint, { count: 4, windowMs: 0, with: chosen })),
    ...(await openAll(redis, endpoint, { count: 4, windowMs: 250, with: [] })).map((one) => ({
      ...one,
      name: 'Lamina, window 250 ms',
    })),
  ];
  for (const { name, instances } of subjects) {
    await redis.command('FLUSHALL');
    const keys = Array.from({ length: 40 }, (_, at) => `race${at}`);
    const truth = new Map(keys.map((key) => [key, 0]));
    const done = new Map(keys.map((key) => [key, 0]));
    const busy = new Set<string>();
    let reads = 0;
    let stale = 0;
    let greatestMs = 0;
    const doneAt = new Map<string, number[]>(keys.map((key) => [key, [performance.now()]]));
    const until = performance.now() + 3000;
    const worker = async (at: number) => {
      const instance = instances[at % instances.length] as Instance;
      while (performance.now() < until) {
        const key = keys[Math.floor(Math.random() * keys.length)] as string;
        if (Math.random() < 0.1 && !busy.has(key)) {
          busy.add(key);
          await sleep(1);
          const version = (truth.get(key) ?? 0) + 1;
          truth.set(key, version);
          await instance.set(key, { version });
          done.set(key, version);
          doneAt.get(key)?.push(performance.now());
          busy.delete(key);
        } else {
          const least = done.get(key) ?? 0;
          const began = performance.now();
          const load = async () => {
            const version = truth.get(key);
            await sleep(3);
            return { version };
          };
          const { version = 0 } = ((await instance.getOrLoad(key, load)) ?? {}) as { version?: number };
          reads++;
          if (version < least) {
            stale++;
            greatestMs = Math.max(greatestMs, began - (doneAt.get(key)?.[version + 1] ?? began));
          }
        }
        await sleep(0);
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, at) => worker(at)));
    lines.push({ cache: name, reads, 'stale %': (100 * stale) / reads, 'by up to ms': greatestMs });
    if (name === 'Lamina') ownStale = stale;
    await close(instances);
  }
  return {
    name: 'cache-coherence',
    about:
      '4 instances, 16 workers, 10 % writes, no bus: reads that began after a write was done and gave what was before it',
    lines,
    targets: [{ what: 'none at window 0', isMet: ownStale === 0 }],
  };
}

async function benchOutage(redis: RedisServer, endpoint: RedisEndpoint): Promise<Report> {
  const lines: Report['lines'][number][] = [];
  const targets: Report['targets'][number][] = [];
  const load = async () => ({ value: 1 });
  for (const how of ['dead', 'hung'] as const) {
    const silent = how === 'hung' ? await listenSilently() : undefined;
    const port = silent === undefined ? 1 : (silent.address() as { port: number }).port;
    for (const library of libraries) {
      const instance = await library.open(port);
      // What waits for its own time-outs for ever is given up on.
      const read = (key: string) => Promise.race([instance.getOrLoad(key, load), sleep(patienceMs)]);
      const firstMs = await timed(() => read('a').catch(() => {}));
      const later = [];
      for (let at = 0; at < 3 && firstMs < patienceMs; at++)
        later.push(await timed(() => read(`b${at}`).catch(() => {})));
      lines.push({
        library: library.name,
        redis: how,
        'first read ms': firstMs,
        'then ms': later.length > 0 ? median(later) : '–',
      });
      await Promise.race([instance.close(), sleep(100)]);
    }
    silent?.close();
    const origin = createOrigin();
    const lamina = openLamina({ origin, redis: endpoint });
    await lamina.getOrLoad('warm', load);
    endpoint.fail(how === 'dead' ? 'drop' : 'hang');
    const firstMs = await timed(() => lamina.getOrLoad('a', load));
    for (let at = 0; at < 10; at++) await lamina.getOrLoad(`c${at}`, load);
    const later = [];
    for (let at = 0; at < 20; at++) later.push(await timed(() => lamina.getOrLoad(`b${at}`, load)));
    endpoint.fail(undefined);
    lines.push({ library: 'Lamina', redis: how, 'first read ms': firstMs, 'then ms': median(later) });
    const limit = 100;
    targets.push(
      { what: `${how}: first read under ${limit} ms extra (${firstMs.toFixed(1)})`, isMet: firstMs < limit },
      { what: `${how}: then under 2 ms (${median(later).toFixed(2)})`, isMet: median(later) < 2 },
    );
  }
  void redis;
  return {
    name: 'cache-outage',
    about: 'a read of a missing key, its load free, over a Redis that is dead or hung',
    lines,
    targets,
  };
}

// What has not answered by then is not waited for.
const patienceMs = 3000;

/** A server that takes connections and never says a word. */
async function listenSilently(): Promise<Server> {
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const close = (instances: readonly Instance[]) =>
  Promise.race([Promise.all(instances.map((instance) => instance.close())), sleep(500)]);
