import { hasRuntimeClient, startInstance } from '../servers/lambda-runtime.ts';
import type { NeonEndpoint } from '../servers/neon-endpoint.ts';
import type { RedisEndpoint } from '../servers/redis.ts';
import { startRedis, startRedisEndpoint } from '../servers/redis.ts';
import { type SqsEndpoint, startSqs } from '../servers/sqs.ts';
import { createDatabase, hasPostgres, realPostgres, redisProgram } from './engines.ts';
import { ownerToken, urlEvent } from './events.ts';
import type { Deployed } from './functions.ts';

/** Whether built functions can be run: a database, a Redis, and AWS's runtime client. */
export const canRunFunctions = hasPostgres && redisProgram !== undefined && hasRuntimeClient;

/** What functions under test are connected to: a database of their own, Redis, and queues. */
export interface LambdaEngines {
  readonly secrets: Readonly<Record<string, string>>;
  readonly postgres: NeonEndpoint;
  readonly redis: RedisEndpoint;
  readonly sqs: SqsEndpoint;
  /** Runs the migration, as a deployment does, and writes two contexts: the variables that the functions get then. */
  prepare(deployed: Deployed): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

export async function startLambdaEngines(): Promise<LambdaEngines> {
  if (redisProgram === undefined || !canRunFunctions)
    throw new Error('This needs PostgreSQL, redis-server, and what `npm run graph` installs.');
  const { server, endpoint: postgres } = await realPostgres();
  const redisServer = await startRedis(redisProgram);
  const redis = await startRedisEndpoint(redisServer.port);
  const sqs = await startSqs();
  const secrets = {
    DATABASE_URL: server.url(await createDatabase('empty')),
    LAMINA_NEON_ENDPOINT: postgres.url,
    UPSTASH_REDIS_REST_URL: redis.url,
    UPSTASH_REDIS_REST_TOKEN: redis.token,
    LAMINA_TOKEN: ownerToken,
    WEAVIATE_URL: '',
  };
  return {
    secrets,
    postgres,
    redis,
    sqs,
    async prepare(deployed) {
      const queues = { LAMINA_INDEX_QUEUE: sqs.urlOf('index'), LAMINA_SYNC_QUEUE: sqs.urlOf('sync') };
      const variables: Record<string, string> = { ...queues, ...(await deployed.variables(secrets)) };
      const migrate = await startInstance({ folder: deployed.folderOf('migrate'), variables });
      const { payload } = await migrate.invoke({});
      await migrate.stop();
      variables['LAMINA_DEFAULT_SLOT'] = (payload as { defaultSlot: string }).defaultSlot;
      const api = await startInstance({ folder: deployed.folderOf('api'), variables });
      for (const id of ['cold', 'colder'])
        await api.invoke(urlEvent('PUT', `/v1/contexts/${id}`, { body: { content: `What is ${id}.` } }));
      await api.stop();
      sqs.take();
      return variables;
    },
    async stop() {
      await Promise.all([redis.stop(), sqs.stop()]);
      await redisServer.stop();
    },
  };
}
