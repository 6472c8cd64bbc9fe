import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { readText } from './body.ts';

/** Neon's SQL over HTTP in front of any PostgreSQL, so that Neon's unmodified driver can be tested against it. */
export interface NeonEndpoint {
  readonly url: string;
  /** Requests answered so far: what serverless money and time go into. */
  requests(): number;
  /** Makes the next requests go wrong in a way that networks have. */
  fail(how: 'hang' | 'drop' | '507' | '503' | undefined): void;
  stop(): Promise<void>;
}

interface Query {
  query: string;
  params?: unknown[];
}

const asText = { getTypeParser: () => (text: string) => text };
const bodyBytesMax = 64 * 1024 * 1024;

/**
 * The wire of facts/engines.md: one query or a batch a request, a batch being one transaction; values as text, rows as
 * arrays; PostgreSQL's errors as HTTP 400 with their fields.
 */
export async function startNeonEndpoint(): Promise<NeonEndpoint> {
  const pools = new Map<string, pg.Pool>();
  let requests = 0;
  let failure: 'hang' | 'drop' | '507' | '503' | undefined;

  function poolOf(connectionString: string): pg.Pool {
    const url = new URL(connectionString);
    url.search = '';
    const pool = pools.get(url.href) ?? new pg.Pool({ connectionString: url.href, max: 40 });
    if (!pools.has(url.href)) {
      // A server that goes away ends idle connections; the next request simply takes a new one.
      pool.on('error', () => {});
      pool.on('connect', (client) => client.on('error', () => {}));
      pools.set(url.href, pool);
    }
    return pool;
  }

  const server = createServer(async (request, response) => {
    requests++;
    if (failure === 'drop') return void request.socket.destroy();
    if (failure === 'hang') return;
    const reply = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (failure === '507') return reply(507, { message: 'response is too large (max is 67108864 bytes)' });
    if (failure === '503') return reply(503, { message: 'no compute' });
    try {
      const body = JSON.parse(await readText(request, bodyBytesMax)) as Query | { queries: Query[] };
      const pool = poolOf(String(request.headers['neon-connection-string']));
      const isolation = request.headers['neon-batch-isolation-level'];
      const queries = 'queries' in body ? body.queries : undefined;
      reply(200, queries ? { results: await runBatch(pool, queries, isolation) } : await runQuery(pool, body as Query));
    } catch (error) {
      const { message, code, severity, detail, hint, where, schema, table, column, constraint } = error as Record<
        string,
        unknown
      >;
      if (typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code)) {
        reply(400, { message, code, severity, detail, hint, where, schema, table, column, constraint });
      } else reply(500, { message: 'the database connection was lost' });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/sql`,
    requests: () => requests,
    fail: (how) => {
      failure = how;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await Promise.all([...pools.values()].map((pool) => pool.end()));
    },
  };
}

async function runQuery(client: pg.Pool | pg.PoolClient, { query, params = [] }: Query) {
  const values = params.map((param) =>
    param === null ? null : typeof param === 'object' ? JSON.stringify(param) : String(param),
  );
  // Always the extended protocol, as Neon: one statement a string.
  const config = { text: query, values, rowMode: 'array' as const, types: asText, queryMode: 'extended' };
  const { rows, fields, rowCount, command } = await client.query(config as pg.QueryArrayConfig);
  const described = fields.map(({ name, dataTypeID, tableID, columnID, dataTypeSize, dataTypeModifier }) => ({
    name,
    dataTypeID,
    tableID,
    columnID,
    dataTypeSize,
    dataTypeModifier,
    format: 'text',
  }));
  return { rows, fields: described, rowCount, command, rowAsArray: true };
}

async function runBatch(pool: pg.Pool, queries: readonly Query[], isolation: unknown) {
  const client = await pool.connect();
  try {
    const level = typeof isolation === 'string' ? isolation.replace(/([a-z])([A-Z])/g, '$1 $2') : 'read committed';
    await client.query(`begin isolation level ${level}`);
    const results = [];
    for (const query of queries) results.push(await runQuery(client, query));
    await client.query('commit');
    client.release();
    return results;
  } catch (error) {
    const isGone = await client.query('rollback').then(
      () => false,
      () => true,
    );
    client.release(isGone);
    throw error;
  }
}
