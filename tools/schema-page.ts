import { openEmbedded } from '../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { runOne } from '../lib/postgres/database.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';

/** docs/schema.md: the tables, views and functions as the migrations make them, read back from the database. */
export async function schemaPage(): Promise<string> {
  const { database } = await openEmbedded({
    migrations: migrationsFolder,
    snapshots: snapshotsFolder,
    telemetry: noTelemetry,
  });
  const ask = (text: string) => runOne(database.owner, { text, params: [] });
  try {
    const relations =
      await ask(`select c.relname, c.relkind, c.relforcerowsecurity as forced, obj_description(c.oid) as comment
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relkind in ('r', 'v') order by c.relkind, c.relname`);
    const columns =
      await ask(`select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
        col_description(c.oid, a.attnum) as comment
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relkind in ('r', 'v') and a.attnum > 0 order by c.relname, a.attnum`);
    const indexes = await ask(
      `select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' order by tablename, indexname`,
    );
    const functions =
      await ask(`select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, pg_get_function_result(p.oid) as result
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
      where n.nspname = 'public' and l.lanname in ('sql', 'plpgsql') order by p.proname`);
    const describe = (relation: (typeof relations)[number]) => {
      const name = relation['relname'];
      const own = columns.filter((column) => column['relname'] === name);
      const rows = own.map(
        (column) =>
          `| \`${column['attname']}\` | ${column['type']} | ${column['required'] === 't' ? 'no' : 'yes'} | ${column['comment'] ?? ''} |`,
      );
      const keys = indexes
        .filter((index) => index['tablename'] === name)
        .map((index) => `- \`${shorten(index['indexdef'])}\``);
      const security =
        relation['relkind'] === 'r' && relation['forced'] === 't' ? ' Row-level security is forced.' : '';
      return [
        `### ${name}`,
        '',
        `${relation['comment'] ?? ''}${security}`.trim(),
        '',
        '| column | type | null | meaning |',
        '|---|---|---|---|',
        ...rows,
        ...(keys.length > 0 ? ['', ...keys] : []),
        '',
      ].join('\n');
    };
    const tables = relations.filter((relation) => relation['relkind'] === 'r').map(describe);
    const views = relations.filter((relation) => relation['relkind'] === 'v').map(describe);
    const lines = functions.map((one) => `- \`${one['proname']}(${one['arguments']}) → ${one['result']}\``);
    return `# Schema

<!-- Made by npm run generate from the migrations; edit them there. -->

\`migrations/*.sql\` make the tables, \`migrations/functions/*.sql\` the functions. \`space_id\` leads every primary key.

## Tables

${tables.join('\n')}
## Views

${views.join('\n')}
## Functions

${lines.join('\n')}
`;
  } finally {
    await database.close();
  }
}

const shorten = (definition: string | null | undefined) =>
  (definition ?? '')
    .replace('CREATE UNIQUE INDEX', 'unique')
    .replace('CREATE INDEX', 'index')
    .replace(/ ON public\.\w+ USING/, ' ');
