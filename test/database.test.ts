import { beforeAll, describe, expect, test } from 'vitest';
import { type Database, type DatabaseError, isDatabaseError, runOne } from '../lib/postgres/database.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { createDatabase, engines, hasPostgres, realPostgres } from './support/engines.ts';

// The conformance suite of the Database port: every driver runs it.
describe.each(engines)('the Database port on $name', (engine) => {
  let database: Database;
  const space = `port-${process.pid}`;
  beforeAll(async () => {
    database = await engine.open();
    await runOne(database.owner, {
      text: 'insert into space (id) values ($1) on conflict do nothing',
      params: [space],
    });
  });
  const ask = (text: string, params: (string | number | boolean | null)[] = []) =>
    runOne(database.in({ space }), { text, params });
  const refusal = async (text: string, params: (string | null)[] = []): Promise<DatabaseError> => {
    const error = await ask(text, params).catch((caught: unknown) => caught);
    if (!isDatabaseError(error)) throw error;
    return error;
  };

  test('values travel as text, whatever their type', async () => {
    const [row] = await ask(
      `select $1::int as i, $2::bool as b, $3::text as t, $4::jsonb as j, null as n, 2^53::numeric + 1 as big, 1.50::numeric as d`,
      [7, true, `it's "quoted" \\ 😀`, '{"b": 1.0, "a": [null]}'],
    );
    expect(row).toEqual({
      i: '7',
      b: 't',
      t: `it's "quoted" \\ 😀`,
      j: '{"a": [null], "b": 1.0}',
      n: null,
      big: expect.stringMatching(/^9007199254740993/),
      d: '1.50',
    });
  });

  test('a parameter of null is null, an empty string is an empty string', async () => {
    expect(await ask('select $1::text is null as a, $2::text as b', [null, ''])).toEqual([{ a: 't', b: '' }]);
  });

  test('several statements are one transaction and answer in order', async () => {
    const door = database.in({ space });
    const answers = await door.run([
      {
        text: `insert into audit (space_id, id, actor_kind, actor_id, action) values ($1, 'one', 'system', 'x', 'y')`,
        params: [space],
      },
      { text: `select count(*) as n from audit where id = 'one'`, params: [] },
      { text: `delete from audit where id = 'one'`, params: [] },
    ]);
    expect(answers).toEqual([[], [{ n: '1' }], []]);
  });

  test('an error in one statement undoes all of them', async () => {
    const attempt = database.in({ space }).run([
      {
        text: `insert into audit (space_id, id, actor_kind, actor_id, action) values ($1, 'two', 'system', 'x', 'y')`,
        params: [space],
      },
      { text: 'select 1 / 0', params: [] },
    ]);
    await expect(attempt).rejects.toMatchObject({ name: 'DatabaseError', sqlState: '22012' });
    expect(await ask(`select count(*) as n from audit where id = 'two'`)).toEqual([{ n: '0' }]);
  });

  test('refusals carry SQLSTATE and constraint, and the detail that a function gave', async () => {
    const insert = 'insert into follower (space_id, name) values ($1, $2)';
    await ask(insert, [space, 'twice']);
    expect(await refusal(insert, [space, 'twice'])).toMatchObject({ sqlState: '23505', constraint: 'follower_pkey' });
    expect((await refusal('selec 1')).sqlState).toBe('42601');
    expect((await refusal('select * from nowhere')).sqlState).toBe('42P01');
    expect((await refusal('select 1; select 2')).sqlState).toBe('42601');
    expect((await refusal(`select $1::jsonb`, ['{"a":"\\u0000"}'])).sqlState).toBe('22P05');
    expect((await refusal(`select $1::int`, ['x'])).sqlState).toBe('22P02');
    expect(
      await refusal(`do $x$ begin raise exception 'no' using errcode = 'LM001', detail = 'facts'; end $x$`),
    ).toMatchObject({ sqlState: 'LM001', detail: 'facts' });
  });

  test('the space door takes the role that row-level security binds, and leaves nothing behind', async () => {
    expect(await ask(`select current_user as role, current_setting('lamina.space') as space`)).toEqual([
      { role: 'lamina_app', space },
    ]);
    const [owner] = await runOne(database.owner, {
      text: `select current_user as role, coalesce(current_setting('lamina.space', true), '') as space`,
      params: [],
    });
    expect(owner!['role']).not.toBe('lamina_app');
    expect(owner!['space']).toBe('');
    expect(
      (
        await refusal(
          `insert into audit (space_id, id, actor_kind, actor_id, action) values ('elsewhere', 'x', 'system', 'x', 'y')`,
        )
      ).sqlState,
    ).toBe('42501');
    expect((await refusal(`insert into space (id) values ('made-inside')`)).sqlState).toBe('42501');
  });

  test('4 MiB go in and come out in one statement', async () => {
    const bytes = Buffer.alloc(4 * 1024 * 1024, 'ab');
    const [row] = await ask(
      `select length(decode($1, 'base64')) as n, encode(decode($1, 'base64'), 'base64') as back`,
      [bytes.toString('base64')],
    );
    expect(row!['n']).toBe(String(bytes.length));
    expect(Buffer.from(row!['back'] ?? '', 'base64').equals(bytes)).toBe(true);
  });
});

describe.skipIf(!hasPostgres)("Neon's driver against a real server", () => {
  const open = async (timeoutMs = 15_000) => {
    const { server, endpoint } = await realPostgres();
    return {
      endpoint,
      database: createNeonDatabase({ url: server.url(await createDatabase()), endpoint: endpoint.url, timeoutMs }),
    };
  };

  test.each(['hang', 'drop', '503', '507'] as const)(
    'an endpoint that answers with %s is 503 within the deadline',
    async (how) => {
      const { endpoint, database } = await open(300);
      endpoint.fail(how);
      try {
        await expect(runOne(database.owner, { text: 'select 1', params: [] })).rejects.toMatchObject({
          code: 'unavailable',
        });
      } finally {
        endpoint.fail(undefined);
      }
      expect(await runOne(database.owner, { text: 'select 1 as one', params: [] })).toEqual([{ one: '1' }]);
    },
  );

  test('a caller who gives up is let go at once', async () => {
    const { database } = await open();
    const controller = new AbortController();
    const waiting = database.owner.run([{ text: 'select pg_sleep(5)', params: [] }], {
      signal: () => controller.signal,
    });
    setTimeout(() => controller.abort(), 50);
    const started = performance.now();
    await expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
    expect(performance.now() - started).toBeLessThan(2000);
  });

  test('a host that is not Neon needs its endpoint named, and no message shows the password', () => {
    const attempt = (url: string) => {
      try {
        createNeonDatabase({ url });
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    };
    expect(attempt('postgresql://me:hunter2@db.internal/x')).toContain('LAMINA_NEON_ENDPOINT');
    for (const url of ['postgresql://me:hunter2@db.internal/x', 'me:hunter2@', 'mysql://me:hunter2@h/x']) {
      expect(attempt(url)).not.toContain('hunter2');
      expect(attempt(url)).not.toBe('');
    }
    expect(() => createNeonDatabase({ url: 'postgresql://me:p@ep-x.eu-central-1.aws.neon.tech/x' })).not.toThrow();
  });
});
