import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { migrationsFolder } from '../functions/runtime.ts';
import { sha256 } from '../lib/base/hash.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { slotOf } from '../lib/contexts/request.ts';
import type { Database } from '../lib/postgres/database.ts';
import { migrate } from '../lib/postgres/migrate.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { createPgliteDatabase } from '../lib/postgres/pglite.ts';
import { createPgliteSession } from '../lib/postgres/pglite-session.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';
import { missingIn, readSurface, type Surface } from '../tools/surface.ts';
import { createDatabase, hasPostgres, realPostgres } from './support/engines.ts';

/** Opens an empty database of its own. */
type Open = () => Promise<Database>;

let pglite: PGlite | undefined;
/** The one PGlite of this suite, emptied each time: a new one takes seconds. */
const openPglite: Open = async () => {
  pglite ??= await PGlite.create({ extensions: { vector } });
  await pglite.exec('drop schema public cascade; create schema public');
  return { ...createPgliteDatabase({ session: createPgliteSession(pglite) }), close: async () => {} };
};
const openReal: Open = async () => {
  const { server, endpoint } = await realPostgres();
  return createNeonDatabase({ url: server.url(await createDatabase('empty')), endpoint: endpoint.url });
};
const search = { mode: 'keyword', limit: 10, filter: null, groupBy: 'context', isIndexed: false } as const;
const numbered = (await readdir(migrationsFolder)).filter((name) => name.endsWith('.sql')).sort();
const functions = (await readdir(join(migrationsFolder, 'functions'))).sort();

describe.each([['PGlite', openPglite], ...(hasPostgres ? [['PostgreSQL', openReal] as const] : [])] as const)(
  'migrations on %s',
  (_name, open) => {
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'lamina-migrations-'));
    });
    afterAll(() => rm(folder, { recursive: true }));

    /** The migrations as they were when so many numbered ones were there, without the functions of later ones. */
    async function folderAt(count: number): Promise<string> {
      const at = join(folder, `at-${count}`);
      await mkdir(join(at, 'functions'), { recursive: true });
      for (const name of numbered.slice(0, count)) await cp(join(migrationsFolder, name), join(at, name));
      return at;
    }
    /** All of them, to be changed. */
    async function copy(name: string): Promise<string> {
      await cp(migrationsFolder, join(folder, name), { recursive: true });
      return join(folder, name);
    }
    const ask = async (database: Database, text: string) => (await database.owner.run([{ text, params: [] }]))[0] ?? [];
    const shapeOf = async (database: Database) => [
      ...(await ask(
        database,
        `select table_name, column_name, data_type, is_nullable, column_default, ordinal_position from information_schema.columns
          where table_schema = 'public' order by 1, 6`,
      )),
      ...(await ask(database, `select indexdef from pg_indexes where schemaname = 'public' order by 1`)),
      ...(await ask(
        database,
        `select conrelid::regclass::text as on, pg_get_constraintdef(oid) as is from pg_constraint
          where connamespace = 'public'::regnamespace order by 1, 2`,
      )),
      ...(await ask(
        database,
        `select tablename, policyname, roles::text, qual, with_check from pg_policies where schemaname = 'public' order by 1, 2`,
      )),
      ...(await ask(
        database,
        `select p.oid::regprocedure::text as is, md5(prosrc) as text from pg_proc p
          where pronamespace = 'public'::regnamespace and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
          order by 1`,
      )),
    ];

    const bytes = Buffer.from('{"kept":"since the first schema"}');
    /** A context as the first schema held it. */
    async function writeOld(database: Database): Promise<void> {
      const hash = sha256(bytes);
      const values = `decode('${hash}', 'hex'), 'application/json', ${bytes.length}, 'note', null, '{"tags": ["old"]}', null, 'api', 'old'`;
      await database.owner.run(
        [
          `insert into space (id, clock) values ('default', 1)`,
          // The owner's door does not see what is in a space.
          `select set_config('role', 'lamina_app', true), set_config('lamina.space', 'default', true)`,
          `insert into content (space_id, hash, part, encoding, bytes) values ('default', decode('${hash}', 'hex'), 0, 'raw', decode('${bytes.toString('hex')}', 'hex'))`,
          `insert into context (space_id, id, version, state, hash, content_type, size_bytes, kind, parent_id, metadata, expires_at, actor_kind,
            actor_id, created_at, updated_at, kept_versions) values ('default', 'old', 1, 'live', ${values}, '2026-01-01Z', '2026-01-01Z', 1)`,
          `insert into context_version (space_id, id, version, operation, hash, content_type, size_bytes, kind, parent_id, metadata, expires_at,
            actor_kind, actor_id, created_at) values ('default', 'old', 1, 'put', ${values}, '2026-01-01Z')`,
          `insert into change (space_id, tick, kind, id, version, operation, hash, actor_kind, actor_id, origin, at)
            values ('default', 1, 'context', 'old', 1, 'put', decode('${hash}', 'hex'), 'api', 'old', 'api', '2026-01-01Z')`,
        ].map((text) => ({ text, params: [] })),
      );
    }

    test('keep all that the code of the last release relies on', async () => {
      const database = await open();
      await migrate(database, migrationsFolder);
      const now = await readSurface(database);
      const all = JSON.parse(await readFile(join(migrationsFolder, 'released.json'), 'utf8')) as Surface;
      const has = (of: Surface) => of.columns.some(({ relation }) => relation === 'chunk_vector');
      // Where PostgreSQL has no pgvector there are no vectors.
      const released = has(now)
        ? all
        : { ...all, columns: all.columns.filter(({ relation }) => relation !== 'chunk_vector') };
      expect(missingIn(now, released)).toEqual([]);
      // Each way to break it is found; to grow is none.
      for (const [text, missing] of [
        ['alter table peer drop column other_side', ['peer.other_side is gone']],
        ['alter table audit add column why text not null', ['audit.why is required now']],
        [`alter table audit add column why text not null default ''`, []],
        [
          'drop function move_cursor(text, bigint, bigint)',
          ['move_cursor(text, bigint, bigint) → void can be called no more'],
        ],
        [
          `create function move_cursor(text, bigint, bigint, boolean default true) returns void language sql as ''`,
          ['move_cursor(text, bigint, bigint) → void can be called no more'],
        ],
        ['alter table peer alter column other_side drop not null', ['peer.other_side may be null now']],
        ['drop function sweep_chunks(text[])', []],
      ] as const) {
        const after = await open();
        await migrate(after, migrationsFolder);
        await after.owner.run([{ text, params: [] }]);
        expect(missingIn(await readSurface(after), released), text).toEqual(missing);
        await after.close();
      }
      await database.close();
    });

    test('come from every earlier state to the same schema, with what was written at the first', async () => {
      const fresh = await open();
      expect(await migrate(fresh, migrationsFolder)).toEqual([
        ...numbered,
        ...functions.map((name) => `functions/${name}`),
      ]);
      const whole = JSON.stringify(await shapeOf(fresh));
      expect(await migrate(fresh, migrationsFolder)).toEqual([]);
      await fresh.close();
      for (let count = 1; count < numbered.length; count++) {
        const database = await open();
        await migrate(database, await folderAt(1));
        await writeOld(database);
        await migrate(database, await folderAt(count));
        const applied = await migrate(database, migrationsFolder);
        expect(applied.slice(0, numbered.length - count)).toEqual(numbered.slice(count));
        expect(JSON.stringify(await shapeOf(database)) === whole, `from ${numbered[count - 1]}`).toBe(true);
        const manager = await createUnifiedContextManager({ database, settings: defaultSettings });
        const [space] = await manager.access.listSpaces({ limit: 1 });
        if (space === undefined) throw new Error('there is no space');
        const ref = { space: space.id, slot: slotOf(space.id, space.createdMs) };
        const request = { ...ref, actor: { kind: 'api', id: 'new' }, seq: 0, noCache: true } as const;
        const { value } = await manager.contexts.read(request, 'old');
        expect(Buffer.from(value.content ?? []).toString()).toBe(bytes.toString());
        await manager.index({ only: ref, budgetMs: 10_000 });
        const found = await manager.search.search(request, { query: 'schema', ...search });
        expect(found.hits.map(({ head }) => head.id)).toEqual(['old']);
        await manager.close();
        await database.close();
      }
    }, 240_000);

    test('a file that fails leaves nothing of itself, and the others before it stand', async () => {
      const broken = await copy('broken');
      const last = numbered.at(-1) ?? '';
      await writeFile(
        join(broken, '9998-broken.sql'),
        'create table half_done (id text);\nselect no_such_function();\n',
      );
      const database = await open();
      await expect(migrate(database, broken)).rejects.toThrow('no_such_function');
      const names = (await ask(database, 'select name from migration order by name')).map((row) => row['name']);
      expect(names.at(-1)).toBe(last);
      expect((await ask(database, `select to_regclass('half_done')::text as half`))[0]?.['half']).toBeNull();
      await writeFile(join(broken, '9998-broken.sql'), 'create table half_done (id text);\n');
      expect(await migrate(database, broken)).toContain('9998-broken.sql');
      await database.close();
    });

    test('a file that was changed after it was applied is refused by its name', async () => {
      const changed = await copy('changed');
      const database = await open();
      await migrate(database, changed);
      const path = join(changed, numbered[1] ?? '');
      await writeFile(path, `${await readFile(path, 'utf8')}-- changed\n`);
      await expect(migrate(database, changed)).rejects.toThrow(`migrations/${numbered[1]} was changed`);
      await database.close();
    });

    test('an older release leaves the schema of a newer one, its functions too, as it is', async () => {
      const newer = await copy('newer');
      await writeFile(join(newer, '9999-newer.sql'), 'create table newer (id text);\n');
      const path = join(newer, 'functions', functions[0] ?? '');
      await writeFile(
        path,
        `${await readFile(path, 'utf8')}\ncreate or replace function of_newer() returns text language sql as $$ select 'newer' $$;\n`,
      );
      const database = await open();
      await migrate(database, newer);
      expect(await migrate(database, migrationsFolder)).toEqual([]);
      expect((await ask(database, 'select of_newer() as is'))[0]?.['is']).toBe('newer');
      // The older release goes on working there.
      const manager = await createUnifiedContextManager({ database, settings: defaultSettings });
      expect(await manager.access.listSpaces({ limit: 1 })).toHaveLength(1);
      await manager.close();
      await database.close();
    });
  },
);

describe.each(hasPostgres ? ['PostgreSQL'] : [])('migrations on %s by several at once', () => {
  test('of several deployers at once one applies each file', async () => {
    const { server, endpoint } = await realPostgres();
    const url = server.url(await createDatabase('empty'));
    const deployers = Array.from({ length: 4 }, () => createNeonDatabase({ url, endpoint: endpoint.url }));
    const applied = await Promise.all(deployers.map((database) => migrate(database, migrationsFolder)));
    expect(applied.flat().sort()).toEqual([...numbered, ...functions.map((name) => `functions/${name}`)].sort());
    for (const database of deployers) await database.close();
  }, 60_000);
});

afterAll(() => pglite?.close());
