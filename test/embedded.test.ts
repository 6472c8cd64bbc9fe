import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { openEmbedded, openSession } from '../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { createPgliteDatabase } from '../lib/postgres/pglite.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { openStore } from './support/client.ts';
import { pgliteEngine } from './support/engines.ts';

const one = { text: 'select 1 as one', params: [] };

test('what the caches hold is answered while the embedded database works', async () => {
  const store = await openStore(pgliteEngine);
  await store.send('PUT', '/v1/contexts/held', { body: { content: 1 } });
  await store.send('GET', '/v1/contexts/held');
  const order: string[] = [];
  const sleep = { text: 'select pg_sleep(0.5)', params: [] };
  const working = store.database.owner.run([sleep]).then(() => order.push('database'));
  expect((await store.send('GET', '/v1/contexts/held')).headers.get('cache-status')).toBe('l1; hit');
  order.push('cache');
  await working;
  expect(order).toEqual(['cache', 'database']);
});

test('the log of the embedded database does not grow with what is written', async () => {
  const database = await pgliteEngine.open();
  const ask = async (text: string) => (await database.owner.run([{ text, params: [] }]))[0]?.[0]?.['n'];
  const writeMb = `select pg_logical_emit_message(false, 'test', repeat('x', 1000000)) as n`;
  const before = Number(await ask(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as n`));
  for (let mb = 0; mb < 300; mb++) await ask(writeMb);
  const after = Number(await ask(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as n`));
  expect(after - before).toBeGreaterThan(290_000_000);
  const behind = await ask(
    'select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn) as n from pg_control_checkpoint()',
  );
  expect(Number(behind)).toBeLessThan(180_000_000);
});

test('what was replaced in the embedded database makes room for what comes, and the planner knows its tables', async () => {
  const database = await pgliteEngine.open();
  const run = (...texts: string[]) => database.owner.run(texts.map((text) => ({ text, params: [] })));
  await run('create table churned (n integer, text text)', 'alter table churned alter text set storage external');
  // Values in their rows, and values beside them.
  for (const [rows, bytes] of [
    [100, 1000],
    [1, 100_000],
  ] as const) {
    const replace = `insert into churned select n, repeat('x', ${bytes}) from generate_series(1, ${rows}) n`;
    for (let turn = 0; turn < 1000; turn++) await run('delete from churned', replace);
    const [size, known] = await run(
      `select pg_table_size('churned') as bytes`,
      `select count(*) as columns from pg_stats where tablename = 'churned'`,
    );
    // Of 100 MB and more, what comes between some looks.
    expect(Number(size?.[0]?.['bytes'])).toBeLessThan(70_000_000);
    expect(known?.[0]?.['columns']).toBe('2');
    await run('truncate churned');
  }
  await run('drop table churned');
});

test('a folder that is no database is refused, with the reason', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-'));
  await writeFile(join(folder, 'PG_VERSION'), '17');
  const opening = openEmbedded({
    folder,
    migrations: migrationsFolder,
    snapshots: snapshotsFolder,
    telemetry: noTelemetry,
  });
  await expect(opening).rejects.toThrow('PGlite failed to initialize');
  await rm(folder, { recursive: true });
});

test('where its thread ends, whoever waits is told that the database does not answer, and whoever comes after', async () => {
  const script = `const { parentPort } = require('node:worker_threads');
    parentPort.on('message', () => process.exit(1));
    parentPort.postMessage({ progress: 'opening' });
    parentPort.postMessage({ opened: null });`;
  const heard: string[] = [];
  const session = await openSession(new Worker(script, { eval: true }), {
    progress: (what) => heard.push(what),
    onEnd: ({ message }) => heard.push(message),
  });
  const database = createPgliteDatabase({ session });
  const waiting = [database.owner.run([one]), database.owner.run([one])];
  for (const answer of await Promise.allSettled(waiting))
    expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'unavailable' } });
  await expect(database.owner.run([one])).rejects.toMatchObject({ code: 'unavailable' });
  await database.close();
  expect(heard).toEqual(['opening', 'The embedded database has ended.']);
});

test('to close waits for what is under way, and the process with it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-'));
  const path = join(folder, 'closing.ts');
  const of = (name: string) => JSON.stringify(new URL(`../functions/${name}`, import.meta.url));
  await writeFile(
    path,
    `import { Worker } from 'node:worker_threads';
    import { openSession } from ${of('embedded.ts')};
    const script = \`const { parentPort } = require('node:worker_threads');
      parentPort.on('message', (asked) => {
        if (asked !== 'close') return setTimeout(() => parentPort.postMessage({ id: asked.id, answers: [] }), 50);
        setTimeout(() => parentPort.close(), 300);
      });
      parentPort.postMessage({ opened: null });\`;
    const session = await openSession(new Worker(script, { eval: true }), { progress() {}, onEnd: console.log });
    session.run([]).then(() => console.log('answered'));
    await session.close();
    await session.run([]).catch(({ message }) => console.log(message));`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, [path]);
  expect(stdout.trim().split('\n')).toEqual(['answered', 'The embedded database is closed.']);
  await rm(folder, { recursive: true });
});
