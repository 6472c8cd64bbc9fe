import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createUpstashRedis } from '../../lib/redis/upstash.ts';
import { roundTrips, type Trips } from '../../tools/round-trips.ts';
import { type RedisEndpoint, type RedisServer, startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { newId, openStore, type SendOptions, type TestStore } from '../support/client.ts';
import { hasPostgres, neonEngine, realPostgres, redisProgram } from '../support/engines.ts';

const windowMs = 400;

describe.skipIf(redisProgram === undefined || !hasPostgres)(
  'the cache in front of a real PostgreSQL and a real Redis',
  () => {
    let redis: RedisServer;
    let endpoint: RedisEndpoint;
    let one: TestStore;
    let two: TestStore;

    beforeAll(async () => {
      redis = await startRedis(redisProgram as string);
      endpoint = await startRedisEndpoint(redis.port);
      const database = await neonEngine.open();
      const options = {
        database,
        settings: { cache: { windowMs, breakerOpenMs: 1000 } },
        redis: (bounds: Parameters<NonNullable<Parameters<typeof openStore>[1]>['redis'] & object>[0]) =>
          createUpstashRedis({ url: endpoint.url, token: endpoint.token, bounds }),
      };
      one = await openStore(neonEngine, options);
      // A second instance of the same deployment, with the first one's key.
      two = Object.assign(await openStore(neonEngine, { ...options, isBare: true }), {
        token: one.token,
        space: one.space,
      });
      // The scripts are loaded by whoever runs them first: a few requests more, once.
      for (const store of [one, two]) {
        await store.send('PUT', '/v1/contexts/first', { body: { content: store === one } });
        await store.send('GET', '/v1/contexts/another');
      }
    });
    afterAll(async () => {
      endpoint?.fail(undefined);
      await endpoint?.stop();
      await redis?.stop();
    });

    /** Requests to Redis and to PostgreSQL, and what the caches said of it. */
    async function trips(store: TestStore, method: string, path: string, options?: SendOptions) {
      const { endpoint: postgres } = await realPostgres();
      const before = [endpoint.requests(), postgres.requests()] as const;
      const answer = await store.send(method, path, options);
      expect(answer.status).toBeLessThan(500);
      const after = [endpoint.requests(), postgres.requests()] as const;
      return {
        redis: after[0] - before[0],
        sql: after[1] - before[1],
        status: answer.headers.get('cache-status'),
        answer,
      };
    }
    const counts = ({ redis: asked, sql }: Trips) => `${asked}/${sql}`;
    /** Credentials are looked at by SQL once a window and instance; that request is not the read's. */
    const warmed = async (...stores: TestStore[]) => {
      for (const store of stores)
        await store.send('GET', '/v1/contexts/nothing-at-all', { headers: { 'cache-control': 'no-cache' } });
    };

    test('a write is 1/1, a read after it 0/0 inside the window, 1/0 after it', async () => {
      const id = newId();
      await warmed(one);
      const written = await trips(one, 'PUT', `/v1/contexts/${id}`, { body: { content: { a: 1 } } });
      expect(counts(written)).toBe(counts(roundTrips.write));
      const inside = await trips(one, 'GET', `/v1/contexts/${id}`);
      expect([counts(inside), inside.status]).toEqual([counts(roundTrips.inWindow), 'l1; hit']);
      await sleep(windowMs + 50);
      await warmed(one);
      await sleep(windowMs / 2);
      // The window counts from the last reply; let it pass while the key is still known.
      await sleep(windowMs / 2 + 20);
      const after = await trips(one, 'GET', `/v1/contexts/${id}`);
      expect([after.redis, after.status]).toEqual([roundTrips.revalidated.redis, 'l1; hit']);
    });

    test('what one instance wrote another has from layer 2, any number of ids in one request', async () => {
      const ids = Array.from({ length: 20 }, () => newId());
      const operations = ids.map((id) => ({ op: 'put', id, content: { id } }));
      await warmed(one);
      expect(counts(await trips(one, 'POST', '/v1/batch/write', { body: { operations } }))).toBe(
        counts(roundTrips.write),
      );
      await sleep(windowMs + 50);
      await warmed(two);
      await sleep(20);
      const single = await trips(two, 'GET', `/v1/contexts/${ids[0]}`, {
        headers: { 'context-seq': (await one.send('GET', `/v1/contexts/${ids[0]}`)).headers.get('context-seq')! },
      });
      expect(single.answer.json.content).toEqual({ id: ids[0] });
      const many = await trips(two, 'POST', '/v1/batch/get', { body: { ids } });
      expect([counts(many), many.answer.json.items.length]).toEqual([counts(roundTrips.layer2), 20]);
    });

    test('a miss is 2/1, the next reader anywhere 1/0 at most', async () => {
      const id = newId();
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
      for (const key of (await redis.command('KEYS', `*:e:head:${id}`)) as string[]) await redis.command('DEL', key);
      await sleep(windowMs + 50);
      await warmed(two);
      const missed = await trips(two, 'GET', `/v1/contexts/${id}`);
      expect([counts(missed), missed.status]).toEqual([counts(roundTrips.miss), expect.stringContaining('fwd=miss')]);
      expect(counts(await trips(two, 'GET', `/v1/contexts/${id}`))).toBe('0/0');
    });

    test('a missing context and a deleted one are values like any other', async () => {
      const id = newId();
      await warmed(one);
      await one.send('GET', `/v1/contexts/${id}`);
      const absent = await trips(one, 'GET', `/v1/contexts/${id}`);
      expect([counts(absent), absent.answer.json.code]).toEqual(['0/0', 'context_not_found']);
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
      expect((await one.send('GET', `/v1/contexts/${id}`)).json.content).toBe(1);
      await one.send('DELETE', `/v1/contexts/${id}`);
      const gone = await trips(one, 'GET', `/v1/contexts/${id}`);
      expect([counts(gone), gone.answer.json.code]).toEqual(['0/0', 'gone']);
    });

    test('no-cache asks past every layer', async () => {
      const id = newId();
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: 1 } });
      await warmed(one);
      const asked = await trips(one, 'GET', `/v1/contexts/${id}`, { headers: { 'cache-control': 'no-cache' } });
      expect([asked.sql, asked.status]).toEqual([1, 'l2; fwd=bypass, l1; fwd=bypass']);
    });

    test('an erase takes the bytes from Redis, not only their validity', async () => {
      const id = newId();
      await one.send('PUT', `/v1/contexts/${id}`, { body: { content: 'canary of layer two' } });
      const held = async () => ((await redis.command('KEYS', `*:e:head:${id}`)) as string[]).length;
      expect(await held()).toBe(1);
      // Beside the command that tells of it, one to look through the keys and one to remove what was found.
      expect(counts(await trips(one, 'DELETE', `/v1/contexts/${id}?erase=true`))).toBe('3/1');
      expect(await held()).toBe(0);
      expect((await one.send('GET', `/v1/contexts/${id}`)).json.code).toBe('context_not_found');
    });

    test('corrupt, foreign and older entries are loaded again, never served and never an error', async () => {
      for (const body of [
        '',
        'nonsense',
        'h1\n{',
        'h1\n{"head":{},"hasContent":true}\nx',
        'h1\n{"head":null,"hasContent":false}\n{',
        'h1znot base64',
        'h0\n{"head":{"id":"other"}}\n',
        `h1z${Buffer.from('x').toString('base64')}`,
      ]) {
        const id = newId();
        await one.send('PUT', `/v1/contexts/${id}`, { body: { content: { right: true } } });
        const [key] = (await redis.command('KEYS', `*:e:head:${id}`)) as string[];
        await redis.command('HSET', key as string, 'body', body);
        await sleep(5);
        const read = await two.send('GET', `/v1/contexts/${id}`, {
          headers: { 'context-seq': (await one.send('GET', '/v1/changes?since=latest')).json.nextCursor },
        });
        expect([body, read.status, read.json.content]).toEqual([body, 200, { right: true }]);
      }
    });

    test('a Redis that is dead, hung, slow, full or talks nonsense changes no answer, and soon costs nothing', async () => {
      const id = newId();
      for (const failure of ['drop', 'hang', '500', 'not json', { slowMs: 2000 }] as const) {
        endpoint.fail(undefined);
        await sleep(1100);
        await one.send('PUT', `/v1/contexts/${id}`, { body: { content: JSON.stringify(failure) } });
        endpoint.fail(failure);
        await sleep(windowMs + 20);
        for (let round = 0; round < 8; round++) {
          const read = await one.send('GET', `/v1/contexts/${id}`);
          expect([failure, read.json.content]).toEqual([failure, JSON.stringify(failure)]);
          await sleep(10);
        }
        // Writes are acknowledged all the same, and their own reader sees them.
        const { version } = (await one.send('PUT', `/v1/contexts/${id}`, { body: { content: failure } })).json;
        expect((await one.send('GET', `/v1/contexts/${id}`)).json.version).toBe(version);
        const asked = endpoint.requests();
        await one.send('GET', `/v1/contexts/${id}`);
        expect([failure, endpoint.requests() - asked]).toEqual([failure, 0]);
      }
      endpoint.fail(undefined);
      await sleep(1100);
      // What was written behind Redis's back is seen by who presents its tick, on the other instance too.
      const head = await one.send('GET', `/v1/contexts/${id}`);
      const seen = await two.send('GET', `/v1/contexts/${id}`, {
        headers: { 'context-seq': head.headers.get('context-seq')! },
      });
      expect(seen.json.version).toBe(head.json.version);
    });

    test('a load that fails lets go of its lease, and what was too much for one request is loaded again', async () => {
      const id = newId();
      await warmed(one, two);
      const ahead = await one.send('GET', `/v1/contexts/${id}`, { headers: { 'context-seq': '99999999' } });
      expect(ahead.json.code).toBe('invalid_request');
      const started = Date.now();
      expect((await two.send('GET', `/v1/contexts/${id}`)).json.code).toBe('context_not_found');
      // The lease is a second long.
      expect(Date.now() - started).toBeLessThan(900);
      const ids = Array.from({ length: 10 }, () => newId());
      const noise = () => randomBytes(300_000).toString('base64');
      const operations = ids.map((each) => ({ op: 'put', id: each, content: noise() }));
      const written = await one.send('POST', '/v1/batch/write', { body: { operations } });
      const headers = { 'context-seq': written.headers.get('context-seq')! };
      for (const [at, each] of ids.entries()) {
        const read = await two.send('GET', `/v1/contexts/${each}`, { headers });
        expect([at, read.json.content === operations[at]!.content]).toEqual([at, true]);
      }
    });

    test('a flushed Redis, and one that lost half of a space, revive nothing', async () => {
      const id = newId();
      for (let round = 1; round <= 12; round++) {
        const written = await one.send('PUT', `/v1/contexts/${id}`, { body: { content: round } });
        if (round % 3 === 0) await redis.command('FLUSHALL');
        if (round % 3 === 1)
          for (const key of (await redis.command('KEYS', '*:t')) as string[]) await redis.command('DEL', key);
        const headers = { 'context-seq': written.headers.get('context-seq')! };
        expect((await two.send('GET', `/v1/contexts/${id}`, { headers })).json.content).toBe(round);
        expect((await one.send('GET', `/v1/contexts/${id}`)).json.content).toBe(round);
      }
    });

    test('random readers and writers on two instances: with their seq nothing stale, without it never beyond the window', async () => {
      const ids = Array.from({ length: 6 }, () => newId());
      const acknowledged = new Map(ids.map((id) => [id, [] as { version: number; atMs: number }[]]));
      let latest = 0;
      let reads = 0;
      const until = Date.now() + 4000;
      const worker = async (store: TestStore) => {
        while (Date.now() < until) {
          const id = ids[Math.floor(Math.random() * ids.length)] as string;
          if (Math.random() < 0.2) {
            const written = await store.send('PUT', `/v1/contexts/${id}`, { body: { content: Math.random() } });
            acknowledged.get(id)?.push({ version: written.json.version, atMs: Date.now() });
            latest = Math.max(latest, Number(written.headers.get('context-seq')));
          } else {
            const isAsking = Math.random() < 0.5;
            const beganMs = Date.now();
            const seen = acknowledged.get(id)?.filter(({ atMs }) => isAsking || atMs < beganMs - windowMs) ?? [];
            const least = Math.max(0, ...seen.map(({ version }) => version));
            const headers: Record<string, string> = isAsking ? { 'context-seq': String(latest) } : {};
            const read = await store.send('GET', `/v1/contexts/${id}`, { headers });
            expect(read.json.version ?? 0).toBeGreaterThanOrEqual(least);
            reads++;
          }
        }
      };
      await Promise.all([one, two, one, two, one, two].map(worker));
      expect(reads).toBeGreaterThan(300);
      await sleep(windowMs + 50);
      for (const id of ids) {
        const versions = await Promise.all(
          [one, two].map(async (store) => (await store.send('GET', `/v1/contexts/${id}`)).json.version),
        );
        const truth = (await one.send('GET', `/v1/contexts/${id}`, { headers: { 'cache-control': 'no-cache' } })).json
          .version;
        expect(versions).toEqual([truth, truth]);
      }
    });
  },
);
