import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { LambdaFunctionUrlSchema } from '@aws-lambda-powertools/parser/schemas/lambda';
import { SqsSchema } from '@aws-lambda-powertools/parser/schemas/sqs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Entry } from '../../infra/files.ts';
import { type Instance, type Invoked, payloadBytesMax, startInstance } from '../servers/lambda-runtime.ts';
import { createDatabase, realPostgres } from '../support/engines.ts';
import { batchEvent, messageIds, urlEvent } from '../support/events.ts';
import { type Deployed, deployFunctions } from '../support/functions.ts';
import { canRunFunctions, type LambdaEngines, startLambdaEngines } from '../support/lambda-engines.ts';

describe('the sample events', () => {
  test('are what AWS sends, by a public schema', () => {
    const request = urlEvent('POST', '/v1/search?why=not', { body: { query: 'words' } });
    expect(LambdaFunctionUrlSchema.parse(request)).toMatchObject({ rawPath: '/v1/search', rawQueryString: 'why=not' });
    expect(SqsSchema.parse(batchEvent([{ a: 1 }, 'nonsense'])).Records).toHaveLength(2);
    const { requestContext: _context, ...broken } = request;
    expect(LambdaFunctionUrlSchema.safeParse(broken).success).toBe(false);
  });
});

describe.skipIf(!canRunFunctions)('the built functions, run by AWS’s runtime client', () => {
  const instances: Instance[] = [];
  let engines: LambdaEngines;
  let deployed: Deployed;
  let variables: Record<string, string>;

  async function startEntry(entry: Entry, more: Record<string, string> = {}): Promise<Instance> {
    const instance = await startInstance({ folder: deployed.folderOf(entry), variables: { ...variables, ...more } });
    instances.push(instance);
    return instance;
  }
  const order = (task = 'index') => ({ space: 'default', slot: variables['LAMINA_DEFAULT_SLOT'], task });
  const textOf = ({ pieces }: Invoked) => Buffer.concat(pieces.map(({ bytes }) => bytes)).toString();
  const jsonOf = (invoked: Invoked) => JSON.parse(textOf(invoked)) as Record<string, unknown>;
  const problem = async (instance: Instance, event: unknown) => {
    const invoked = await instance.invoke(event);
    return { status: invoked.prelude?.statusCode, code: jsonOf(invoked)['code'], text: textOf(invoked) };
  };

  beforeAll(async () => {
    engines = await startLambdaEngines();
    deployed = await deployFunctions({
      entries: ['api', 'migrate', 'sync-orders', 'schedule'],
      settings: (settings) => ({ ...settings, cache: { ...settings.cache, originMs: 500 } }),
    });
    variables = await engines.prepare(deployed);
  });
  afterAll(async () => {
    await Promise.all(instances.map((one) => one.stop()));
    await deployed?.remove();
    await engines?.stop();
  });

  describe('requests of the Function URL', () => {
    let api: Instance;
    beforeAll(async () => {
      api = await startEntry('api');
    });

    test('are answered with their status and headers before the body', async () => {
      const put = await api.invoke(urlEvent('PUT', '/v1/contexts/made', { body: { content: 'Blue.' } }));
      expect(put.prelude).toMatchObject({ statusCode: 201, headers: { etag: '"1"', location: '/v1/contexts/made' } });
      const got = await api.invoke(urlEvent('GET', '/v1/contexts/made/content'));
      expect([got.prelude?.headers['content-type'], textOf(got)]).toEqual(['application/json', '"Blue."']);
      expect(await problem(api, urlEvent('GET', '/v1/contexts/nobody'))).toMatchObject({ status: 404 });
    });

    // Of what cannot be compressed, so that it is read from the database in many parts.
    const content = Buffer.from(randomBytes(5_625_000).toString('base64'));
    test('a content above what an event may have comes in parts, and goes out as a stream above what an answer may have', async () => {
      const announced = { sizeBytes: content.length, contentType: 'text/plain' };
      const { uploadId, partBytes } = jsonOf(await api.invoke(urlEvent('POST', '/v1/uploads', { body: announced })));
      const size = Number(partBytes);
      for (let at = 0; at * size < content.length; at++) {
        const event = {
          ...urlEvent('PUT', `/v1/uploads/${uploadId}/parts/${at + 1}`, {
            body: content.subarray(at * size, (at + 1) * size).toString('base64'),
            headers: { 'content-type': 'application/octet-stream' },
          }),
          isBase64Encoded: true,
        };
        expect((await api.invoke(event)).prelude?.statusCode).toBe(200);
      }
      const taken = await api.invoke(urlEvent('PUT', '/v1/contexts/large', { body: { upload: uploadId } }));
      expect(taken.prelude?.statusCode).toBe(201);
      const got = await api.invoke(urlEvent('GET', '/v1/contexts/large/content'));
      expect(content.length).toBeGreaterThan(payloadBytesMax);
      expect(got.error).toBeUndefined();
      expect(Buffer.concat(got.pieces.map(({ bytes }) => bytes)).equals(content)).toBe(true);
      expect(got.pieces.length).toBeGreaterThan(10);
    });

    test('a download that fails in the middle breaks off for its reader, is logged once without what the driver says, and the next request is served', async () => {
      const before = engines.postgres.requests();
      const getting = api.invoke(urlEvent('GET', '/v1/contexts/large/content'));
      while (engines.postgres.requests() < before + 3) await new Promise((resolve) => setTimeout(resolve, 1));
      engines.postgres.fail('507');
      const got = await getting;
      engines.postgres.fail(undefined);
      const bytes = Buffer.concat(got.pieces.map(({ bytes: piece }) => piece));
      expect(got.prelude?.statusCode).toBe(200);
      expect(bytes.length).toBeLessThan(content.length);
      expect(bytes.equals(content.subarray(0, bytes.length))).toBe(true);
      const requestId = got.prelude?.headers['x-request-id'] as string;
      expect(got.error?.errorMessage).toContain(`The answer to request ${requestId} broke off.`);
      expect(api.isAlive()).toBe(true);
      const failed = api
        .output()
        .split('\n')
        .filter((line) => line.includes('http.failed'));
      expect(failed).toHaveLength(1);
      expect(failed[0]).toContain(requestId);
      expect(api.output()).not.toMatch(/response is too large|max is 67108864/);
      expect((await api.invoke(urlEvent('GET', '/healthz'))).prelude?.statusCode).toBe(200);
    });

    test.each([
      ['a GET with a body', urlEvent('GET', '/healthz', { body: 'x' }), 200],
      ['a method that no request may have', urlEvent('TRACE', '/healthz'), 400],
      [
        'a name with a port beyond all',
        urlEvent('GET', '/healthz', { headers: { 'x-forwarded-host': 'a:99999' } }),
        200,
      ],
      ['a name that is none', urlEvent('GET', '/healthz', { headers: { 'x-forwarded-host': '1.2.3.4.5' } }), 200],
      ['a header that is not ASCII', urlEvent('GET', '/healthz', { headers: { 'user-agent': 'Zürich €' } }), 200],
      ['a header of two lines', urlEvent('GET', '/healthz', { headers: { 'user-agent': 'a\nb' } }), 400],
      ['a path of two slashes', { ...urlEvent('GET', '/healthz'), rawPath: '//healthz' }, 404],
      ['a malformed escape', { ...urlEvent('GET', '/healthz'), rawPath: '/v1/contexts/%E0%A4%A' }, 400],
      ['a body that is null', { ...urlEvent('PUT', '/v1/contexts/b', { body: 'x' }), body: null }, 400],
      ['cookies', { ...urlEvent('GET', '/healthz'), cookies: ['a=b', 'c=d'] }, 200],
    ])('%s has an answer with a status and a request id', async (_name, event, status) => {
      const got = await api.invoke(event);
      expect(got.error).toBeUndefined();
      expect(got.prelude).toMatchObject({ statusCode: status, headers: { 'x-request-id': expect.any(String) } });
      if (status >= 400) expect(got.prelude?.headers['content-type']).toBe('application/problem+json');
    });

    test('what is larger than Lambda takes never reaches it', async () => {
      const event = urlEvent('PUT', '/v1/contexts/huge', { body: { content: 'x'.repeat(payloadBytesMax) } });
      await expect(api.invoke(event)).rejects.toThrow('413');
    });

    test('whoever waits for changes is answered before the function is out of time', async () => {
      const event = urlEvent('GET', '/v1/changes?since=latest&waitSeconds=1');
      const { prelude, tookMs } = await api.invoke(event, { seconds: 10 });
      expect(prelude?.statusCode).toBe(200);
      expect(tookMs).toBeGreaterThan(900);
    });

    test('MCP begins, lists its tools and calls one', async () => {
      const headers = { accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-11-25' };
      const call = async (id: number, method: string, params: unknown) => {
        const body = { jsonrpc: '2.0', id, method, params };
        const invoked = await api.invoke(urlEvent('POST', '/mcp', { body, headers }));
        expect(invoked.prelude?.statusCode).toBe(200);
        const text = textOf(invoked);
        const data = text.startsWith('{') ? text : (/^data: (.*)$/m.exec(text)?.[1] ?? '{}');
        return (JSON.parse(data) as { result: Record<string, unknown> }).result;
      };
      const clientInfo = { name: 'test', version: '1.0.0' };
      const begun = await call(1, 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
      expect(begun).toMatchObject({ serverInfo: { name: 'lamina' } });
      const { tools } = (await call(2, 'tools/list', {})) as { tools: { name: string }[] };
      expect(tools.map(({ name }) => name)).toContain('create_entities');
      const entities = [{ name: 'Ada', entityType: 'person', observations: ['wrote the first program'] }];
      await call(3, 'tools/call', { name: 'create_entities', arguments: { entities } });
      const opened = await call(4, 'tools/call', { name: 'open_nodes', arguments: { names: ['Ada'] } });
      expect(opened['structuredContent']).toMatchObject({ entities });
    });

    test('a subscription over MCP is ended in order before the function is out of time, and may be begun again', async () => {
      const revision = '2026-07-28';
      const _meta = {
        'io.modelcontextprotocol/protocolVersion': revision,
        'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1.0.0' },
        'io.modelcontextprotocol/clientCapabilities': {},
      };
      const params = { _meta, notifications: { resourceSubscriptions: ['context://made'] } };
      const headers = {
        accept: 'application/json, text/event-stream',
        'mcp-method': 'subscriptions/listen',
        'mcp-protocol-version': revision,
      };
      for (const id of ['listen:0', 'listen:1']) {
        const body = { jsonrpc: '2.0', id, method: 'subscriptions/listen', params };
        const listening = await api.invoke(urlEvent('POST', '/mcp', { body, headers }), { seconds: 7 });
        expect(listening).toMatchObject({ error: undefined, prelude: { statusCode: 200 } });
        expect(listening.tookMs).toBeGreaterThan(1500);
        const messages = [...textOf(listening).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(String(data)));
        expect(messages).toMatchObject([
          { method: 'notifications/subscriptions/acknowledged' },
          { id, result: { resultType: 'complete' } },
        ]);
        expect(api.awake()).not.toContain('Timeout');
      }
    });

    test('an event that is no request is an error of the invocation, and the next one is served', async () => {
      for (const event of [{}, [], 'text', { headers: {} }, { requestContext: {}, headers: {} }]) {
        expect((await api.invoke(event)).error?.errorMessage).toContain('no request of a Function URL');
      }
      expect((await api.invoke(urlEvent('GET', '/healthz'))).prelude?.statusCode).toBe(200);
    });
  });

  describe('a batch of orders', () => {
    test('of ten with three poisons gives back the three, and the others are carried out', async () => {
      const [api, worker] = [await startEntry('api'), await startEntry('sync-orders')];
      await api.invoke(urlEvent('PUT', '/v1/contexts/found', { body: { content: 'A heron stands in the reeds.' } }));
      const good = [order(), order('work'), order('synchronise'), order(), order(), order('work'), order()];
      const bodies = [...good.slice(0, 2), 'nonsense', ...good.slice(2, 4), { ...order(), also: 1 }, ...good.slice(4)];
      const event = batchEvent([...bodies, { ...order(), task: 'drop' }]);
      expect(event.Records).toHaveLength(10);
      const { payload } = await worker.invoke(event);
      expect(payload).toEqual({ batchItemFailures: messageIds(event, 2, 5, 9) });
      const found = await api.invoke(urlEvent('POST', '/v1/search', { body: { query: 'heron', mode: 'keyword' } }));
      expect(jsonOf(found)['hits']).toMatchObject([{ id: 'found' }]);
      expect(worker.output()).not.toContain('nonsense');
    });

    test('with a run of a peer that does not answer ends the run before its time is over, and tells it as failed', async () => {
      const silent = createServer(() => {});
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      try {
        const [api, worker] = [await startEntry('api'), await startEntry('sync-orders')];
        const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
        const body = { type: 'lamina', transport: { url }, strategy: 'three-way', direction: 'both' };
        await api.invoke(urlEvent('PUT', '/v1/peers/silent', { body }));
        const { runId } = jsonOf(await api.invoke(urlEvent('POST', '/v1/peers/silent/sync')));
        const event = batchEvent([{ ...order('run'), peer: 'silent', runId, isForced: false }, order('work')]);
        expect(await worker.invoke(event, { seconds: 9 })).toMatchObject({
          error: undefined,
          payload: { batchItemFailures: messageIds(event, 0) },
        });
        expect(worker.awake()).not.toContain('Timeout');
        const told = jsonOf(await api.invoke(urlEvent('GET', '/v1/peers/silent/runs')));
        expect(told).toMatchObject({ items: [{ id: runId, outcome: 'failed' }] });
        // Delivered again, it has ended already.
        expect((await worker.invoke(event, { seconds: 9 })).payload).toEqual({ batchItemFailures: [] });
      } finally {
        silent.closeAllConnections();
        silent.close();
      }
    });

    test('that is none is an error of the invocation', async () => {
      const worker = await startEntry('sync-orders');
      for (const event of [{}, { Records: 'all' }, 'text'])
        expect((await worker.invoke(event)).error?.errorMessage).toContain('no batch of a queue');
    });

    test('whose engine hangs until the time is over is killed, and comes again to another instance', async () => {
      const worker = await startEntry('sync-orders');
      const event = batchEvent([order()]);
      engines.postgres.fail('hang');
      const { error } = await worker.invoke(event, { seconds: 6 });
      engines.postgres.fail(undefined);
      expect(error?.errorMessage).toBe('Task timed out after 6.00 seconds');
      expect(worker.isAlive()).toBe(false);
      const next = await startEntry('sync-orders');
      expect((await next.invoke(event)).payload).toEqual({ batchItemFailures: [] });
    });
  });

  test('schedules run each of their tasks, and anything else is an error of the invocation', async () => {
    const schedule = await startEntry('schedule');
    for (const task of ['warm', 'cleanup', 'reconcile', 'index', 'synchronise', 'work'])
      expect(await schedule.invoke({ task, budgetMs: 1000 })).toMatchObject({ payload: null, error: undefined });
    for (const event of [{}, { task: 'reindex', budgetMs: 1 }, { task: 'warm', budgetMs: 0 }, { task: 'warm' }, 7])
      expect((await schedule.invoke(event)).error?.errorMessage).toContain('{task, budgetMs}');
  });

  describe('a stage that is not as it should be', () => {
    test('secrets that are missing are named when it starts', async () => {
      const { DATABASE_URL: _url, LAMINA_TOKEN: _token, ...rest } = engines.secrets;
      const more = await deployed.variables(rest);
      await expect(startEntry('api', more)).rejects.toThrow(
        'Secrets of this stage are missing: DatabaseUrl, LaminaToken',
      );
    });

    // A schema of none is the oldest there is.
    test.each(['none', 'empty', 'unpermitted'] as const)(
      'a database that is %s answers with a problem, tells no secret, and does not hang',
      async (kind) => {
        const api = await startEntry(
          'api',
          await deployed.variables({ ...engines.secrets, DATABASE_URL: await databaseUrl(kind) }),
        );
        const write = urlEvent('PUT', '/v1/contexts/half', { body: { content: 'Half.' } });
        for (const event of [urlEvent('GET', '/v1/contexts/half'), write, urlEvent('GET', '/readyz')]) {
          const { status, text } = await problem(api, event);
          expect(status).toBeGreaterThanOrEqual(500);
          expect(text).not.toMatch(/postgresql:|password|relation|permission|secret/i);
        }
        const worker = await startEntry(
          'sync-orders',
          await deployed.variables({ ...engines.secrets, DATABASE_URL: await databaseUrl(kind) }),
        );
        const event = batchEvent([order()]);
        expect((await worker.invoke(event)).payload).toEqual({ batchItemFailures: messageIds(event, 0) });
      },
    );

    test('a database that hangs answers 503 in time, and nothing of a write is half done', async () => {
      const api = await startEntry('api');
      engines.postgres.fail('hang');
      const { status } = await problem(api, urlEvent('GET', '/v1/contexts/unread'));
      expect(status).toBe(503);
      // Killed in the middle of a write.
      const { error } = await api.invoke(urlEvent('PUT', '/v1/contexts/killed', { body: { content: 'x' } }), {
        seconds: 2,
      });
      engines.postgres.fail(undefined);
      expect(error?.errorType).toBe('Sandbox.Timedout');
      const next = await startEntry('api');
      expect(await problem(next, urlEvent('GET', '/v1/contexts/killed'))).toMatchObject({ status: 404 });
    });
  });
});

async function databaseUrl(kind: 'none' | 'empty' | 'unpermitted'): Promise<string> {
  const { server } = await realPostgres();
  if (kind === 'none') return server.url('nowhere');
  if (kind === 'empty') return server.url(await createDatabase('empty'));
  const name = await createDatabase();
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: server.url(name) });
  await client.connect();
  const role = `stranger_${name}`;
  await client.query(`create role ${role} login`);
  await client.end();
  const url = new URL(server.url(name));
  url.username = role;
  return url.href;
}
