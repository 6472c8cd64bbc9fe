import type { Stage } from './stage.ts';

/** Where the data is, as the secrets of the environment tell it. */
export interface Data {
  readonly DATABASE_URL: $util.Input<string>;
  readonly UPSTASH_REDIS_REST_URL: $util.Input<string>;
  readonly UPSTASH_REDIS_REST_TOKEN: $util.Input<string>;
}

const dayInSeconds = 86_400;

/** PostgreSQL and layer 2: made with the stage, or taken from secrets. */
export function createData(stage: Stage): Data {
  return stage.isProvisioned ? provision(stage) : takeFromSecrets();
}

function takeFromSecrets(): Data {
  return {
    DATABASE_URL: new sst.Secret('DatabaseUrl').value,
    UPSTASH_REDIS_REST_URL: new sst.Secret('UpstashRedisRestUrl').value,
    UPSTASH_REDIS_REST_TOKEN: new sst.Secret('UpstashRedisRestToken').value,
  };
}

function provision({ isProduction, neonOrganisation }: Stage): Data {
  // SST keeps databases of AWS alone when a stage is removed, so these are told by themselves.
  const kept = { protect: isProduction, retainOnDelete: isProduction };
  const { region } = aws.getRegionOutput();
  const name = `${$app.name}-${$app.stage}`;
  const database = new neon.Project(
    'Database',
    {
      name,
      regionId: $interpolate`aws-${region}`,
      pgVersion: 17,
      historyRetentionSeconds: isProduction ? 7 * dayInSeconds : dayInSeconds / 4,
      defaultEndpointSettings: { autoscalingLimitMinCu: 0.25, autoscalingLimitMaxCu: isProduction ? 2 : 0.25 },
      ...(neonOrganisation === undefined ? {} : { orgId: neonOrganisation }),
    },
    kept,
  );
  const cache = new upstash.RedisDatabase(
    'Cache',
    // Without eviction a full one refuses writes; what is evicted is loaded again.
    { databaseName: name, region: 'global', primaryRegion: region, tls: true, eviction: true },
    kept,
  );
  return {
    DATABASE_URL: database.connectionUriPooler,
    UPSTASH_REDIS_REST_URL: $interpolate`https://${cache.endpoint}`,
    UPSTASH_REDIS_REST_TOKEN: cache.restToken,
  };
}
