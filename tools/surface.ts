import { type Database, runOne } from '../lib/postgres/database.ts';

/** What callers see of the schema. */
export interface Surface {
  readonly functions: readonly {
    readonly name: string;
    /** Types of the arguments, in order. */
    readonly arguments: readonly string[];
    /** How many of them a caller may leave out, from the last. */
    readonly defaults: number;
    readonly result: string;
  }[];
  readonly columns: readonly {
    readonly relation: string;
    readonly name: string;
    readonly type: string;
    /** Whether a row cannot be made without it. */
    readonly isRequired: boolean;
    readonly isNullable: boolean;
  }[];
}

export async function readSurface(database: Database): Promise<Surface> {
  const ask = (text: string) => runOne(database.owner, { text, params: [] });
  const functions =
    await ask(`select p.proname as name, array_to_json(array(select format_type(t, null) from unnest(p.proargtypes) with ordinality a (t, n) order by n)) as arguments,
      p.pronargdefaults as defaults, pg_get_function_result(p.oid) as result
    from pg_proc p join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'public'::regnamespace and l.lanname in ('sql', 'plpgsql') order by p.proname, p.proargtypes::text`);
  const columns =
    await ask(`select c.relname as relation, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
      c.relkind = 'r' and a.attnotnull and not a.atthasdef and a.attidentity = '' as required, not a.attnotnull as nullable
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0 and not a.attisdropped order by 1, a.attnum`);
  return {
    functions: functions.map((row) => ({
      name: String(row['name']),
      arguments: JSON.parse(String(row['arguments'])) as string[],
      defaults: Number(row['defaults']),
      result: String(row['result']),
    })),
    columns: columns.map((row) => ({
      relation: String(row['relation']),
      name: String(row['name']),
      type: String(row['type']),
      isRequired: row['required'] === 't',
      isNullable: row['nullable'] === 't',
    })),
  };
}

/** What code that was written for `before` misses in `now`, a sentence each. */
export function missingIn(now: Surface, before: Surface): string[] {
  const functions = before.functions
    .filter((one) =>
      // With each number of arguments that a caller may send, one function takes them, and no second one.
      Array.from({ length: one.defaults + 1 }, (_, left) => one.arguments.slice(0, one.arguments.length - left)).some(
        (sent) => {
          const taking = now.functions.filter(
            (other) => other.name === one.name && isTaking(other, sent) && isResult(other.result, one.result),
          );
          return taking.length !== 1;
        },
      ),
    )
    .map((one) => `${one.name}(${one.arguments.join(', ')}) → ${one.result} can be called no more`);
  const relations = new Set(before.columns.map(({ relation }) => relation));
  const find = (columns: Surface['columns'], { relation, name }: { relation: string; name: string }) =>
    columns.find((one) => one.relation === relation && one.name === name);
  const columns = before.columns.flatMap((one) => {
    const other = find(now.columns, one);
    const name = `${one.relation}.${one.name}`;
    if (other === undefined) return [`${name} is gone`];
    if (other.type !== one.type) return [`${name} is ${other.type}, and was ${one.type}`];
    if (one.isNullable === other.isNullable) return [];
    return [`${name} may be null ${one.isNullable ? 'no more' : 'now'}`];
  });
  const added = now.columns
    .filter((one) => relations.has(one.relation) && one.isRequired && find(before.columns, one)?.isRequired !== true)
    .map((one) => `${one.relation}.${one.name} is required now`);
  return [...functions, ...columns, ...added];
}

const isTaking = (one: Surface['functions'][number], sent: readonly string[]) =>
  sent.length >= one.arguments.length - one.defaults && sent.every((type, at) => one.arguments[at] === type);

/** A result may gain columns behind those it had. */
const isResult = (now: string, before: string) =>
  now === before || (before.startsWith('TABLE(') && now.startsWith(`${before.slice(0, -1)}, `));
