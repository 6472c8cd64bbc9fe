import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { migrationsFolder } from '../functions/runtime.ts';
import { sha256 } from '../lib/base/hash.ts';
import { type Database, type Row, runOne, type Statement } from '../lib/postgres/database.ts';
import { splitStatements } from '../lib/postgres/migrate.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('row-level security on $name', (engine) => {
  let database: Database;
  beforeAll(async () => {
    database = await engine.open();
  });

  test('is forced on every table that holds what belongs to a space', async () => {
    const rows = await runOne(database.owner, {
      text: `select c.relname as name, c.relrowsecurity as enabled, c.relforcerowsecurity as forced,
        exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'space_id') as spaced,
        (select string_agg(a.attname, ',' order by array_position(i.indkey::int[], a.attnum::int)) from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey::int[])
          where i.indrelid = c.oid and i.indisprimary) as key
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind = 'r'`,
      params: [],
    });
    const spaced = rows.filter((row) => row['spaced'] === 't' || row['name'] === 'space');
    expect(spaced.length).toBeGreaterThan(7);
    for (const row of spaced) expect([row['name'], row['enabled'], row['forced']]).toEqual([row['name'], 't', 't']);
    for (const row of spaced.filter((one) => one['name'] !== 'space'))
      expect([row['name'], row['key']?.split(',')[0]]).toEqual([row['name'], 'space_id']);
    expect(
      rows
        .filter((row) => !spaced.includes(row))
        .map((row) => row['name'])
        .sort(),
    ).toEqual(['dropped_tenant', 'migration']);
  });

  test('views show a space nothing but its own', async () => {
    const [one, two] = [await openStore(engine, { database }), await openStore(engine, { database })];
    await one.send('PUT', `/v1/contexts/${newId()}`, { body: { content: 'x' } });
    await one.send('PUT', '/v1/peers/own', { body: { type: 'lamina', transport: { url: 'http://127.0.0.1:9' } } });
    for (const view of ['space_statistics', 'version_statistics', 'sync_statistics']) {
      const rows = await runOne(database.in({ space: one.space }), {
        text: `select space_id from ${view}`,
        params: [],
      });
      expect(rows).toEqual([{ space_id: one.space }]);
    }
    const [counted] = await runOne(database.in({ space: two.space }), {
      text: 'select contexts, content_bytes from space_statistics',
      params: [],
    });
    expect(counted).toEqual({ contexts: '0', content_bytes: '0' });
  });
});

// Every statement of the app and of its functions, run without its own `space_id = …`: row-level security alone must
// keep the spaces apart.
describe.each(engines)('without their predicates on $name', (engine) => {
  const canary = 'canary-of-another-space';
  let stripped = 0;
  let store: TestStore;
  let victim: TestStore;

  // The parameter stays in use, or PostgreSQL would not know its type.
  const strip = (text: string) =>
    text.replaceAll(
      /\b(?:\w+\.space_id|space_id|s\.id) = (\$\d+|current_setting\('{1,2}lamina\.space'{1,2}\)|\w+\.(?:id|space_id)|v_space)(?=\s|\)|;|$)/g,
      (_predicate, value: string) => {
        stripped++;
        return value.startsWith('$') ? `(${value}::text is not null)` : 'true';
      },
    );

  beforeAll(async () => {
    const plain = await engine.open();
    // The functions are replaced in a schema of their own, so that the others of the run keep theirs.
    const functions = join(migrationsFolder, 'functions');
    const statements: Statement[] = [
      { text: 'create schema if not exists stripped', params: [] },
      { text: 'grant usage on schema stripped to lamina_app', params: [] },
      { text: 'set local search_path to stripped, public', params: [] },
    ];
    for (const name of (await readdir(functions)).sort()) {
      for (const text of splitStatements(await readFile(join(functions, name), 'utf8')))
        statements.push({ text: strip(text), params: [] });
    }
    // What stays is the owner's door, which names the space it removes.
    for (const { text } of statements) expect(text).not.toMatch(/space_id = (?!p_name)/);
    await plain.owner.run(statements);
    const database: Database = {
      ...plain,
      in: (visitor) => ({
        async run(own, options) {
          const path = { text: 'set local search_path to stripped, public', params: [] };
          const bare = own.map(({ text, params }) => ({ text: strip(text), params }));
          const [, ...answers] = await plain.in(visitor).run([path, ...bare], options);
          return answers as Row[][];
        },
      }),
    };
    victim = await openStore(engine, { database: plain });
    for (const id of ['root', 'leaf', 'other']) {
      await victim.send('PUT', `/v1/contexts/${id}`, {
        body: { content: { canary }, metadata: { canary, tags: [canary] }, parentId: id === 'leaf' ? 'root' : null },
        headers: { 'idempotency-key': `k-${id}` },
      });
    }
    store = await openStore(engine, { database });
  });

  test('nothing of another space is read, changed or deleted', async () => {
    // The functions alone hold this many; the statements of the app come on top.
    expect(stripped).toBeGreaterThan(40);
    const own = (of: string) => `/v1/contexts/${of}`;
    const leaks: string[] = [];
    const probe = async (method: string, path: string, options: Parameters<TestStore['send']>[2] = {}) => {
      const answer = await store.send(method, path, options);
      expect([method, path, answer.status < 500]).toEqual([method, path, true]);
      if (answer.text.includes(canary)) leaks.push(`${method} ${path}`);
      return answer;
    };
    await probe('PUT', own('mine'), {
      body: { content: 1, metadata: { tags: ['mine'] } },
      headers: { 'idempotency-key': 'k-root' },
    });
    for (const { manager, ref } of [victim, store]) await manager.index({ only: ref, budgetMs: 10_000 });
    await probe('POST', '/v1/search', { body: { query: `${canary} 1`, consistency: 'indexed', include: ['content'] } });
    const transport = { url: 'http://127.0.0.1:9', headers: { canary } };
    await victim.send('PUT', `/v1/peers/${canary}`, { body: { type: 'lamina', transport } });
    await victim.send('POST', `/v1/peers/${canary}/sync`);
    for (const path of ['/v1/peers', '/v1/conflicts', '/v1/conflicts?status=settled', '/v1/stats'])
      await probe('GET', path);
    const begin = { body: { sizeBytes: 30, contentType: 'text/plain' } };
    const theirs = (await victim.send('POST', '/v1/uploads', begin)).json.uploadId;
    const raw = `${canary} of`.padEnd(30);
    await victim.send('PUT', `/v1/uploads/${theirs}/parts/1`, { raw });
    const ours = (await probe('POST', '/v1/uploads', begin)).json.uploadId;
    for (const id of [theirs, ours]) {
      await probe('GET', `/v1/uploads/${id}`);
      if (id === theirs) await probe('PUT', `/v1/uploads/${id}/parts/1`, { raw: 'x'.repeat(30) });
      await probe('PUT', own('mine'), { body: { upload: id } });
      await probe('DELETE', `/v1/uploads/${id}`);
    }
    expect((await victim.send('GET', `/v1/uploads/${theirs}`)).json).toMatchObject({
      received: [{ hash: `sha256:${sha256(raw)}` }],
      usedBy: null,
    });
    await probe('PUT', '/v1/peers/mine', { body: { type: 'lamina', transport: { url: 'http://127.0.0.1:9' } } });
    await probe('GET', '/v1/peers/mine/runs');
    await probe('DELETE', '/v1/peers/mine');
    await probe('PUT', own('child'), { body: { content: 1, parentId: 'mine' } });
    for (const id of ['root', 'leaf', 'other', 'mine', 'child']) {
      for (const path of [
        '',
        '?version=1',
        '?at=2100-01-01T00:00:00Z',
        '?resolve=ancestors',
        '/content',
        '/versions',
        '/children',
        '/ancestors',
        '/tree',
        '/diff?from=1&to=1',
      ]) {
        await probe('GET', own(id) + path);
      }
    }
    for (const query of [
      '',
      '?include=content',
      '?order=updated',
      `?metadata.canary=${canary}`,
      '?subtreeOf=root',
      '?parentId=root',
      '?kind=note',
    ])
      await probe('GET', `/v1/contexts${query}`);
    await probe('GET', '/v1/changes');
    await probe('POST', '/v1/batch/get', { body: { ids: ['root', 'leaf', 'mine'] } });
    await probe('POST', '/v1/merge', { body: { strategy: 'union', sources: [{ id: 'root' }, { content: {} }] } });
    await probe('GET', '/v1/keys');
    await probe('GET', '/v1/audit');
    await probe('PUT', own('other'), { body: { content: 'overwritten' } });
    await probe('POST', `${own('mine')}/restore`, { body: { version: 1 } });
    await probe('POST', `${own('mine')}/versions/1/pin`, { body: { pinned: true } });
    await probe('DELETE', `${own('mine')}?children=delete`);
    await probe('DELETE', `${own('other')}?erase=true`);
    await probe('POST', '/v1/maintenance/run', { body: { task: 'cleanup' } });
    expect(leaks).toEqual([]);
    for (const id of ['root', 'leaf', 'other']) {
      const kept = await victim.send('GET', own(id));
      expect([kept.status, kept.json.version, kept.json.content]).toEqual([200, 1, { canary }]);
    }
  });
});
