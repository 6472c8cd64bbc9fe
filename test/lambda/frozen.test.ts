import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Entry } from '../../infra/files.ts';
import { type Instance, type Invoked, startInstance } from '../servers/lambda-runtime.ts';
import { batchEvent, urlEvent } from '../support/events.ts';
import { type Deployed, deployFunctions } from '../support/functions.ts';
import { canRunFunctions, type LambdaEngines, startLambdaEngines } from '../support/lambda-engines.ts';

const minuteMs = 60_000;
// Servers here end an idle connection after five seconds, as engines do.
const idleMs = 6000;

describe.skipIf(!canRunFunctions)('a function that is frozen between its requests', () => {
  const instances: Instance[] = [];
  let engines: LambdaEngines;
  let deployed: Deployed;
  let variables: Record<string, string>;

  async function startEntry(entry: Entry): Promise<Instance> {
    const instance = await startInstance({ folder: deployed.folderOf(entry), variables });
    instances.push(instance);
    return instance;
  }
  const asked = () => engines.postgres.requests() + engines.redis.requests();
  const textOf = ({ pieces }: Invoked) => Buffer.concat(pieces.map(({ bytes }) => bytes)).toString();
  const put = (api: Instance, id: string, content: string) =>
    api.invoke(urlEvent('PUT', `/v1/contexts/${id}`, { body: { content } }));
  const read = async (api: Instance, id: string) =>
    textOf(await api.invoke(urlEvent('GET', `/v1/contexts/${id}/content`)));
  const order = () => ({ space: 'default', slot: variables['LAMINA_DEFAULT_SLOT'], task: 'index' });

  beforeAll(async () => {
    engines = await startLambdaEngines();
    deployed = await deployFunctions({ entries: ['api', 'migrate', 'sync-orders', 'schedule'] });
    variables = await engines.prepare(deployed);
  });
  afterAll(async () => {
    await Promise.all(instances.map((one) => one.stop()));
    await deployed?.remove();
    await engines?.stop();
  });

  test('leaves nothing behind its answers: no timer, no request, no line, even if it were let run on', async () => {
    const [api, worker, schedule] = [
      await startEntry('api'),
      await startEntry('sync-orders'),
      await startEntry('schedule'),
    ];
    const event = { sessionId: 's1', hookEventName: 'SessionStart', cwd: '/', transcriptPath: '/t' };
    const headers = { accept: 'application/json, text/event-stream' };
    const list = { jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} };
    const runs: [Instance, unknown][] = [
      [api, urlEvent('PUT', '/v1/contexts/left', { body: { content: 'A heron.' } })],
      [api, urlEvent('GET', '/v1/contexts/left')],
      [api, urlEvent('GET', '/v1/contexts/left?resolve=ancestors')],
      [api, urlEvent('POST', '/v1/search', { body: { query: 'heron' } })],
      [api, urlEvent('POST', '/v1/events/factory', { body: event })],
      [api, urlEvent('GET', '/v1/stats')],
      [api, urlEvent('GET', '/v1/changes?since=latest&waitSeconds=1')],
      [api, urlEvent('POST', '/mcp', { body: list, headers })],
      [api, urlEvent('GET', '/readyz')],
      [worker, batchEvent([order(), { ...order(), task: 'work' }, { ...order(), task: 'synchronise' }])],
      [schedule, { task: 'warm', budgetMs: 1000 }],
      [schedule, { task: 'synchronise', budgetMs: 1000 }],
    ];
    for (const [instance, given] of runs) {
      await instance.invoke(given);
      expect([given, instance.awake()]).toEqual([given, []]);
    }
    // An order that hangs is given up before the function is frozen, and whoever looks at its log hears of it.
    engines.sqs.fail('hang');
    api.pass(minuteMs);
    await put(api, 'left', 'A crane.');
    expect(api.output()).toContain('order.failed');
    engines.sqs.fail(undefined);
    const before = [asked(), ...[api, worker, schedule].map((one) => one.output())];
    engines.sqs.take();
    for (const one of [api, worker, schedule]) one.thaw();
    await sleep(2500);
    expect([asked(), ...[api, worker, schedule].map((one) => one.output())]).toEqual(before);
    expect(engines.sqs.take()).toEqual([]);
  });

  test.each(['both', 'wall'] as const)(
    'serves what others wrote meanwhile, its own memory before that (%s clocks go on)',
    async (clocks) => {
      const [one, other] = [await startEntry('api'), await startEntry('api')];
      const id = `read-${clocks}`;
      await put(other, id, 'first');
      expect(await read(one, id)).toBe('"first"');
      await put(other, id, 'second');
      // Within the window of a second what it remembers is good enough.
      const before = asked();
      const again = await read(one, id);
      if (asked() === before) expect(again).toBe('"first"');
      one.pass(10 * minuteMs, clocks);
      expect(await read(one, id)).toBe('"second"');
      await put(one, id, 'third');
      other.pass(10 * minuteMs, clocks);
      expect(await read(other, id)).toBe('"third"');
    },
  );

  test('deadlines count from the event, however long it stood still', async () => {
    const [api, worker] = [await startEntry('api'), await startEntry('sync-orders')];
    for (let round = 0; round < 3; round++) {
      expect((await worker.invoke(batchEvent([order()]))).payload).toEqual({ batchItemFailures: [] });
      const { prelude, tookMs } = await api.invoke(urlEvent('GET', '/v1/changes?since=latest&waitSeconds=1'));
      expect(prelude?.statusCode).toBe(200);
      expect(tookMs).toBeGreaterThan(900);
      expect(tookMs).toBeLessThan(5000);
      for (const one of [api, worker]) one.pass(20 * minuteMs);
    }
  });

  test('orders what was written after it stood still, although the same was ordered before', async () => {
    const api = await startEntry('api');
    engines.sqs.take();
    await put(api, 'ordered', 'one');
    api.pass(5 * minuteMs);
    await put(api, 'ordered', 'two');
    expect(engines.sqs.take().filter(({ queue }) => queue === 'index')).toHaveLength(2);
  });

  test('loses none of what it counted', async () => {
    const api = await startEntry('api');
    const tell = async () => {
      const metrics = textOf(await api.invoke(urlEvent('GET', '/metrics')));
      const count = (engine: string) =>
        Number(new RegExp(`^lamina_engine_seconds_count.*engine="${engine}".* (\\d+)$`, 'm').exec(metrics)?.[1]);
      return { postgres: count('postgres'), redis: count('redis') };
    };
    // The first call of a script is three requests: whether Redis has it, and what of it Redis takes.
    await put(api, 'counted', 'x');
    const [before, sent] = [await tell(), { postgres: engines.postgres.requests(), redis: engines.redis.requests() }];
    for (let round = 0; round < 3; round++) {
      await put(api, `counted-${round}`, 'x');
      await read(api, `counted-${round}`);
      api.pass(30 * minuteMs);
    }
    const after = await tell();
    expect(sent.postgres).toBeLessThan(engines.postgres.requests());
    expect({ postgres: after.postgres - before.postgres, redis: after.redis - before.redis }).toEqual({
      postgres: engines.postgres.requests() - sent.postgres,
      redis: engines.redis.requests() - sent.redis,
    });
  });

  test('asks engines that have ended its idle connections meanwhile as if nothing had been', async () => {
    const all = await Promise.all([1, 2, 3].map(() => startEntry('api')));
    for (const [index, api] of all.entries()) await put(api, `idle-${index}`, 'before');
    await sleep(idleMs);
    for (const [index, api] of all.entries()) {
      expect((await put(api, `idle-${index}`, 'after')).prelude?.statusCode).toBe(200);
      expect(await read(api, `idle-${index}`)).toBe('"after"');
    }
  });
});
