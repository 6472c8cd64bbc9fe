import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';
import { createGate } from './support/intercept.ts';

describe.each(engines)('idempotency keys on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  let keys = 0;
  const newKey = () => `key-${++keys}`;
  const clock = async () => (await store.send('GET', '/v1/changes?since=latest')).json.nextCursor;
  /** Sends the same request twice under one key; the second answer must be the first and change nothing. */
  async function twice(method: string, path: string, options: Parameters<TestStore['send']>[2] = {}) {
    const headers = { ...options.headers, 'idempotency-key': newKey() };
    const first = await store.send(method, path, { ...options, headers });
    const between = await clock();
    const second = await store.send(method, path, { ...options, headers });
    expect([second.status, second.text]).toEqual([first.status, first.text]);
    expect(await clock()).toBe(between);
    return first;
  }

  test('every write under a key is carried out once and answered the same again', async () => {
    const id = newId();
    expect((await twice('POST', '/v1/contexts', { body: { content: { a: 1 } } })).status).toBe(201);
    await twice('PUT', `/v1/contexts/${id}`, { body: { content: { a: 1 } } });
    await twice('PATCH', `/v1/contexts/${id}`, {
      raw: '[{"op":"add","path":"/n","value":1}]',
      headers: { 'content-type': 'application/json-patch+json' },
    });
    await twice('PUT', `/v1/contexts/${id}`, { body: { content: { a: 9 } }, headers: { 'if-match': '"2"' } });
    await twice('POST', `/v1/contexts/${id}/restore`, { body: { version: 1 } });
    await twice('POST', `/v1/contexts/${id}/versions/1/pin`, { body: { pinned: true } });
    await twice('POST', '/v1/batch/write', {
      body: {
        operations: [
          { op: 'put', id: newId(), content: 1 },
          { op: 'delete', id: 'none' },
        ],
      },
    });
    await twice('POST', '/v1/merge', {
      body: { strategy: 'union', sources: [{ id }, { content: { b: 2 } }], target: { id } },
    });
    await twice('DELETE', `/v1/contexts/${id}`);
    await twice('DELETE', `/v1/contexts/${id}?erase=true`);
    await twice('POST', '/v1/keys', { body: { name: 'ci', scopes: ['read'] } });
  });

  test('a merge on a stale base is answered with its report again', async () => {
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: { a: 1, b: 1 } } });
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: { a: 2, b: 1 } } });
    const merged = await twice('PUT', `/v1/contexts/${id}?onConflict=three-way`, {
      body: { content: { a: 1, b: 3 } },
      headers: { 'if-match': '"1"' },
    });
    expect(merged.json).toMatchObject({
      version: 3,
      content: { a: 2, b: 3 },
      merge: { base: 1, head: 2, conflicts: [] },
    });
  });

  test('the first answer is given again after the head has moved on', async () => {
    const id = newId();
    const headers = { 'idempotency-key': newKey() };
    const first = await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers });
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 2 } });
    expect((await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers })).json).toEqual(first.json);
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.content).toBe(2);
  });

  test('maintenance and warming under a key run once', async () => {
    const id = newId();
    const expiresAt = new Date(Date.now() + 50).toISOString();
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1, expiresAt } });
    await new Promise((resolve) => setTimeout(resolve, 60));
    const headers = { 'idempotency-key': newKey() };
    const run = (task: string) => store.send('POST', '/v1/maintenance/run', { body: { task }, headers });
    const first = await run('cleanup');
    expect(first.json).toMatchObject({ task: 'cleanup', expired: 1 });
    const before = await clock();
    const { value, requests } = await store.counting(() => run('cleanup'));
    expect([value.status, value.text, requests]).toEqual([200, first.text, 1]);
    expect(await clock()).toBe(before);
    expect((await run('warm')).json.code).toBe('idempotency_mismatch');
    for (const task of ['warm', 'cleanup', 'reconcile', 'index', 'reindex'])
      await twice('POST', '/v1/maintenance/run', { body: { task } });
    await twice('POST', '/v1/cache/warm', { body: { top: 5 } });
  });

  test('of two runs at once under a key one is carried out; the other is told to ask again, and one that failed may', async () => {
    const gate = createGate();
    const { manager } = store;
    const { cleanup } = manager;
    let runs = 0;
    const headers = { 'idempotency-key': newKey() };
    const run = () => store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' }, headers });
    try {
      manager.cleanup = async () => {
        runs++;
        throw new Error('killed');
      };
      expect((await run()).status).toBe(500);
      manager.cleanup = async (options) => {
        runs++;
        await gate.pass();
        return cleanup(options);
      };
      const first = run();
      await gate.isReached;
      const second = await run();
      expect([second.status, second.headers.get('retry-after')]).toEqual([503, '1']);
      gate.release();
      const { text } = await first;
      expect((await run()).text).toBe(text);
      expect(runs).toBe(2);
    } finally {
      manager.cleanup = cleanup;
    }
  });

  test('a run whose process was killed may be begun again after a minute', async () => {
    const headers = { 'idempotency-key': newKey() };
    const run = () => store.send('POST', '/v1/maintenance/run', { body: { task: 'cleanup' }, headers });
    const first = await run();
    const left = async (seconds: number) =>
      store.database.in(store.ref).run([
        {
          text: `update idempotency set answer = jsonb_build_object('until', to_ms(clock_timestamp() + make_interval(secs => $1::int)))
            where answer ->> 'body' = $2 or answer ? 'until'`,
          params: [seconds, first.text],
        },
      ]);
    await left(30);
    expect((await run()).status).toBe(503);
    await left(-1);
    const again = await run();
    expect(again.json).toMatchObject({ task: 'cleanup' });
    expect((await run()).text).toBe(again.text);
  });

  test('the same key with another body, path, query or precondition is 409', async () => {
    const [id, headers] = [newId(), { 'idempotency-key': newKey() }];
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers });
    const others: [string, Record<string, unknown>][] = [
      [`/v1/contexts/${id}`, { body: { content: 2 }, headers }],
      [`/v1/contexts/${newId()}`, { body: { content: 1 }, headers }],
      [`/v1/contexts/${id}?onConflict=fail`, { body: { content: 1 }, headers }],
      [`/v1/contexts/${id}`, { body: { content: 1 }, headers: { ...headers, 'if-match': '*' } }],
    ];
    for (const [path, options] of others)
      expect((await store.send('PUT', path, options)).json.code).toBe('idempotency_mismatch');
    expect((await store.send('DELETE', `/v1/contexts/${id}`, { headers })).json.code).toBe('idempotency_mismatch');
  });

  test('a batch that was refused in part is answered the same again', async () => {
    const [stale, deleted] = [newId(), newId()];
    for (const content of [1, 2]) await store.send('PUT', `/v1/contexts/${stale}`, { body: { content } });
    await store.send('PUT', `/v1/contexts/${deleted}`, { body: { content: 1 } });
    await store.send('DELETE', `/v1/contexts/${deleted}`);
    const operations = [
      { op: 'put', id: stale, content: 3, ifVersion: 1 },
      { op: 'delete', id: deleted },
      { op: 'put', id: newId(), content: 1 },
    ];
    const first = await twice('POST', '/v1/batch/write', { body: { operations } });
    expect(first.json.results).toMatchObject([
      { problem: { code: 'version_conflict', currentVersion: 2 } },
      { problem: { code: 'gone', version: 2 } },
      { status: 201 },
    ]);
  });

  test('what was erased is not written again by a request that is sent again', async () => {
    const id = newId();
    const headers = { 'idempotency-key': `erased-${id}` };
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 'private' }, headers });
    await store.send('DELETE', `/v1/contexts/${id}?erase=true`);
    const again = await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 'private' }, headers });
    expect(again.json.code).toBe('idempotency_mismatch');
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.code).toBe('context_not_found');
  });

  test('spaces are made and removed once under a key of whoever asks', async () => {
    const owner = { token: store.ownerToken };
    const [one, two] = [`one-${process.pid}-${newId()}`, `two-${process.pid}-${newId()}`];
    const make = (name: string) =>
      store.send('POST', '/v1/spaces', { body: { name }, headers: { 'idempotency-key': `make-${one}` }, ...owner });
    const [first, second] = [await make(one), await make(one)];
    expect(second.json).toEqual(first.json);
    expect((await make(two)).json.code).toBe('idempotency_mismatch');
    const remove = () =>
      store.send('DELETE', `/v1/spaces/${one}?erase=true`, { headers: { 'idempotency-key': `drop-${one}` }, ...owner });
    expect([(await remove()).status, (await remove()).status]).toEqual([200, 200]);
    const late = await store.send('PUT', '/v1/contexts/late', { body: { content: 1 }, token: first.json.key.token });
    expect(late.json.code).toBe('unauthenticated');
  });

  test('a refusal is not remembered', async () => {
    const [id, headers] = [newId(), { 'idempotency-key': newKey(), 'if-match': '"1"' }];
    expect((await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 2 }, headers })).status).toBe(412);
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
    expect((await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 2 }, headers })).status).toBe(200);
  });

  test('keys of one space are nothing to another', async () => {
    const other = await openStore(engine, { database: store.database });
    const headers = { 'idempotency-key': newKey() };
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers });
    expect((await other.send('PUT', `/v1/contexts/${id}`, { body: { content: 2 }, headers })).status).toBe(201);
  });

  test('20 requests under one key at once make one version', async () => {
    const [id, headers] = [newId(), { 'idempotency-key': newKey() }];
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 }, headers })),
    );
    expect(new Set(answers.map((one) => one.text)).size).toBe(1);
    expect(answers.every((one) => one.status === 201)).toBe(true);
  });
});
