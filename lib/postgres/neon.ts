import { lazily } from '../base/lazily.ts';
import { Problem } from '../base/problem.ts';
import { noTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import { type Database, type Door, enterSpace, type Row, refuse, type Statement } from './database.ts';
import { metered } from './metered.ts';

// The driver has one endpoint setting for the whole process, so it is a look-up by host.
const endpoints = new Map<string, string>();

// A fifth of all that a function has, and what the caches answer does without.
const driver = lazily(async () => {
  const { neon, neonConfig } = await import('@neondatabase/serverless');
  const derived = neonConfig.fetchEndpoint;
  neonConfig.fetchEndpoint = (host, port, options) =>
    endpoints.get(`${host}:${port}`) ?? (typeof derived === 'string' ? derived : derived(host, port, options));
  return neon;
});

// Values stay the text that PostgreSQL prints; the driver would parse them by their types.
const types = { getTypeParser: () => (text: string) => text };

const neonHosts = /\.neon\.(tech|build)$/;

/**
 * PostgreSQL through Neon's driver over HTTP: one request a call, one transaction a request.
 *
 * @param deps.endpoint URL of the SQL-over-HTTP endpoint where it is not the one the driver derives from `url`.
 * @param deps.timeoutMs how long a call may take before it counts as unanswered; default 15,000.
 * @throws Problem `invalid_request` where `url` is no PostgreSQL URL, or is not Neon's and no endpoint is named.
 */
export function createNeonDatabase(deps: {
  url: string;
  endpoint?: string | undefined;
  timeoutMs?: number;
  telemetry?: Telemetry;
}): Database {
  const { url, endpoint, timeoutMs = 15_000, telemetry = noTelemetry } = deps;
  registerEndpoint(url, endpoint);
  const client = lazily(async () => (await driver())(url));

  function door(first: Statement | undefined): Door {
    return metered(telemetry, {
      async run(statements, options) {
        const sql = await client();
        const all = first === undefined ? statements : [first, ...statements];
        const deadline = AbortSignal.timeout(timeoutMs + (options?.patienceMs ?? 0));
        const signal = options?.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal()]);
        const queries = all.map((statement) => sql.query(statement.text, [...statement.params], { types }));
        // Each statement inside a function must see what was committed while it waited for its lock.
        const answers = (await sql
          .transaction(queries, { isolationLevel: 'ReadCommitted', fetchOptions: { signal } })
          .catch(refuse)) as Row[][];
        return first === undefined ? answers : answers.slice(1);
      },
    });
  }

  return {
    in: (visitor) => door(enterSpace(visitor)),
    owner: door(undefined),
    isEmbedded: false,
    load: async () => void (await client()),
    close: async () => {},
  };
}

function registerEndpoint(url: string, endpoint: string | undefined): void {
  // The driver's own message for a malformed URL quotes it with its password, so it is looked at here first.
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new Problem('invalid_request', 'DATABASE_URL is not of the form postgresql://user:password@host/database.');
  }
  if (endpoint !== undefined) endpoints.set(`${parsed.hostname}:${parsed.port}`, endpoint);
  else if (!neonHosts.test(parsed.hostname)) {
    throw new Problem(
      'invalid_request',
      `DATABASE_URL names ${parsed.hostname}, which is not a host of Neon's: set LAMINA_NEON_ENDPOINT to the URL of its SQL-over-HTTP endpoint.`,
    );
  }
}
