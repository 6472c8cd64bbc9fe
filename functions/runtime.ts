import { readFileSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../lib/base/clock.ts';
import { createIds } from '../lib/base/id.ts';
import type { Settings } from '../lib/config/settings.ts';
import type { Orders } from '../lib/orders.ts';
import type { Database } from '../lib/postgres/database.ts';
import { migrate } from '../lib/postgres/migrate.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { createUpstashRedis } from '../lib/redis/upstash.ts';
import { type EmbedderChoices, readEmbedders } from '../lib/search/embedders/choice.ts';
import type { ProviderAccess } from '../lib/search/embedders/providers.ts';
import { createLateEngine } from '../lib/search/engines/late.ts';
import type { WeaviateAddress } from '../lib/search/engines/weaviate.ts';
import type { VectorEngine } from '../lib/search/vector-engine.ts';
import { createMetrics, tellAll } from '../lib/telemetry/metrics.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager, type UnifiedContextManager } from '../lib/unified-context-manager.ts';
import { openEmbedders, readProviderAccess } from './embedders.ts';
import { lockFolder } from './folder-lock.ts';
import { withLinks } from './links.ts';

/** The repository's own folder, wherever the process was started; on Lambda the folder of the bundle, which is laid out alike. */
export const home = process.env['LAMBDA_TASK_ROOT'] ?? fileURLToPath(new URL('..', import.meta.url));
export const migrationsFolder = join(home, 'migrations');
export const snapshotsFolder = join(home, 'node_modules', '.cache', 'lamina');

/** Everything a process is told from outside; the only place that reads the environment. */
export interface Environment {
  readonly host: string;
  readonly port: number;
  /** Folder of the embedded engines; undefined keeps nothing. */
  readonly dataFolder: string | undefined;
  readonly databaseUrl: string | undefined;
  readonly neonEndpoint: string | undefined;
  /** Layer 2; undefined keeps it in the process. */
  readonly redis: { readonly url: string; readonly token: string } | undefined;
  /** The engine beside PostgreSQL; undefined keeps vectors there. */
  readonly weaviate: WeaviateAddress | undefined;
  /** Undefined where none is named: the built-in one then. */
  readonly embedders: EmbedderChoices | undefined;
  /** Who may ask the providers of embedders. */
  readonly providers: ProviderAccess;
  readonly ownerToken: string | undefined;
  /** A running server, for what would rather talk to one than open a store. */
  readonly serverUrl: string | undefined;
  /** Where clients reach a server that stands behind a name of its own. */
  readonly publicUrl: string | undefined;
  /** Whether peers may be processes of this machine, wherever the server listens. */
  readonly allowsCommands: boolean;
  /** Where a function on Lambda asks for what goes on behind its answer; undefined elsewhere. */
  readonly queues: QueueAccess | undefined;
  /** What the deployment has found the slot of the default space to be; a function asks for it where nobody says. */
  readonly defaultSlot: string | undefined;
  readonly settingsPath: string;
  /** The settings as a deployment has checked and laid them beside the code of a function; undefined elsewhere. */
  readonly checkedSettingsPath: string | undefined;
  /** Where agents keep their configuration; undefined where nobody says. */
  readonly homeFolder: string | undefined;
  /** What this user's agents need to reach Lamina, and what their hooks remember. */
  readonly stateFolder: string | undefined;
  /** Where the user has called: npm runs scripts in the folder of the package. */
  readonly callerFolder: string;
}

/** Queues of SQS, and who may send there. */
export interface QueueAccess {
  readonly indexUrl: string;
  readonly syncUrl: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

/** @throws Error in one sentence for a value that cannot be. */
export function readEnvironment(
  variables: Readonly<Record<string, string | undefined>> = withLinks(process.env),
): Environment {
  const text = (name: string) => variables[name]?.trim() || undefined;
  const port = Number(text('PORT') ?? 8787);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`PORT is ${text('PORT')}, which is no port.`);
  const ownerToken = text('LAMINA_TOKEN');
  if (ownerToken !== undefined && (ownerToken.length < 16 || /\s/.test(ownerToken))) {
    throw new Error('LAMINA_TOKEN needs 16 characters or more and no spaces; leave it out to have one made.');
  }
  const redisUrl = text('UPSTASH_REDIS_REST_URL');
  const redisToken = text('UPSTASH_REDIS_REST_TOKEN');
  if ((redisUrl === undefined) !== (redisToken === undefined)) {
    throw new Error('UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN go together; only one of them is set.');
  }
  const data = text('LAMINA_DATA') ?? '.lamina';
  const homeFolder = text('HOME');
  const stateHome = text('XDG_STATE_HOME') ?? (homeFolder && join(homeFolder, '.local', 'state'));
  return {
    host: text('HOST') ?? '127.0.0.1',
    port,
    dataFolder: data === 'memory' ? undefined : resolve(data),
    databaseUrl: text('DATABASE_URL'),
    neonEndpoint: text('LAMINA_NEON_ENDPOINT'),
    redis: redisUrl && redisToken ? { url: redisUrl, token: redisToken } : undefined,
    weaviate: readWeaviate(text),
    embedders: readEmbedders(text('LAMINA_EMBEDDER')),
    providers: readProviderAccess(text),
    ownerToken,
    serverUrl: text('LAMINA_URL'),
    publicUrl: readUrl('LAMINA_PUBLIC_URL', text('LAMINA_PUBLIC_URL')),
    // A function has nobody whose programs it could start.
    allowsCommands: text('LAMINA_ALLOW_COMMANDS') === '1' && text('AWS_LAMBDA_FUNCTION_NAME') === undefined,
    queues: readQueues(text),
    defaultSlot: text('LAMINA_DEFAULT_SLOT'),
    settingsPath: resolve(text('LAMINA_CONFIG') ?? join(home, 'config', 'context.yaml')),
    checkedSettingsPath: text('LAMBDA_TASK_ROOT') && join(home, 'settings.json'),
    homeFolder,
    stateFolder: stateHome && join(stateHome, 'lamina'),
    callerFolder: resolve(text('INIT_CWD') ?? '.'),
  };
}

function readUrl(name: string, url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new Error(`${name} is ${url}, which is no http(s) URL.`);
  return new URL(url).origin;
}

function readQueues(text: (name: string) => string | undefined): QueueAccess | undefined {
  const [indexUrl, syncUrl] = [text('LAMINA_INDEX_QUEUE'), text('LAMINA_SYNC_QUEUE')];
  const [region, accessKeyId] = [text('AWS_REGION'), text('AWS_ACCESS_KEY_ID')];
  const secretAccessKey = text('AWS_SECRET_ACCESS_KEY');
  if (!indexUrl || !syncUrl || !region || !accessKeyId || !secretAccessKey) return undefined;
  return { indexUrl, syncUrl, region, accessKeyId, secretAccessKey, sessionToken: text('AWS_SESSION_TOKEN') };
}

function readWeaviate(text: (name: string) => string | undefined): WeaviateAddress | undefined {
  const [url, grpcUrl] = [text('WEAVIATE_URL'), text('WEAVIATE_GRPC_URL')];
  if (url === undefined) return undefined;
  for (const [name, one] of Object.entries({ WEAVIATE_URL: url, WEAVIATE_GRPC_URL: grpcUrl ?? url })) {
    if (!URL.canParse(one) || !/^https?:/.test(one)) throw new Error(`${name} is ${one}, which is no http(s) URL.`);
  }
  // Where Weaviate's own cloud has it, and where a server of one's own has it by default.
  const { protocol, hostname } = new URL(url);
  const derived = protocol === 'https:' ? `https://grpc-${hostname}` : `http://${hostname}:50051`;
  return { url, grpcUrl: grpcUrl ?? derived, apiKey: text('WEAVIATE_API_KEY') };
}

/** Whether a server bound to this address is reached from its own machine alone. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** An open store and how to let it go. */
export interface Runtime {
  readonly manager: UnifiedContextManager;
  readonly settings: Settings;
  readonly ownerToken: string;
  /** What serves as PostgreSQL, for people. */
  readonly engine: string;
  close(): Promise<void>;
}

/**
 * Opens the store that the environment describes: PostgreSQL by its URL, else the embedded one in its folder.
 *
 * @param deps.orders where work is asked for that this process does not do itself.
 * @param deps.isDeployed whether it is a function that is frozen between its requests: the deployment has migrated, so
 *   nothing is asked at the start, and no connection to a peer is kept for later.
 * @param deps.databaseMs how long a call of PostgreSQL may take; the driver's default when absent.
 */
export async function openRuntime(
  environment: Environment,
  deps: {
    telemetry: Telemetry;
    progress?: (what: string) => void;
    orders?: Orders | undefined;
    isDeployed?: boolean;
    databaseMs?: number;
  },
): Promise<Runtime> {
  const { isDeployed = false } = deps;
  const loaded = await readSettings(environment);
  const settings = isDeployed ? { ...loaded, sync: { ...loaded.sync, idleSeconds: 0 } } : loaded;
  const metrics = createMetrics();
  const telemetry = tellAll(deps.telemetry, metrics);
  const unlock = await lockData(environment);
  try {
    const ownerToken = await ownerTokenOf(environment);
    const { embedders: choices, providers } = environment;
    const embedders = choices && (await openEmbedders(choices, providers, { settings, telemetry }));
    const engine = openEngine(environment, { settings, telemetry });
    const database = await openDatabase(environment, { ...deps, telemetry });
    const { redis } = environment;
    const manager = await createUnifiedContextManager({
      database,
      redis: redis && ((bounds) => createUpstashRedis({ ...redis, bounds, telemetry })),
      settings,
      telemetry: deps.telemetry,
      metrics,
      embedders,
      engine,
      ownerToken,
      orders: deps.orders,
      defaultSlot: isDeployed ? environment.defaultSlot : undefined,
      // Who can reach the server from elsewhere must not start programs here.
      mayStartCommands:
        environment.allowsCommands || (isLoopback(environment.host) && environment.databaseUrl === undefined),
    }).catch(async (error) => {
      await database.close();
      throw error;
    });
    const close = async () => {
      await manager.close();
      await unlock();
    };
    return { manager, settings, ownerToken, engine: describeEngine(environment), close };
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function readSettings({ settingsPath, checkedSettingsPath }: Environment): Promise<Settings> {
  if (checkedSettingsPath !== undefined) return JSON.parse(readFileSync(checkedSettingsPath, 'utf8')) as Settings;
  // A schema of every setting and a parser of YAML take as long to load as all the rest of a function.
  const { loadSettings } = await import('../lib/config/load.ts');
  return loadSettings(settingsPath);
}

async function openDatabase(
  environment: Environment,
  deps: { telemetry: Telemetry; progress?: (what: string) => void; isDeployed?: boolean; databaseMs?: number },
): Promise<Database> {
  const { databaseUrl, neonEndpoint, dataFolder } = environment;
  if (databaseUrl !== undefined) {
    const { telemetry, databaseMs: timeoutMs } = deps;
    const database = createNeonDatabase({
      url: databaseUrl,
      endpoint: neonEndpoint,
      telemetry,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    if (deps.isDeployed) return database;
    deps.progress?.('checking the schema');
    await migrate(database, migrationsFolder);
    return database;
  }
  // PGlite weighs 27 MB: only who has no PostgreSQL loads it.
  const { openEmbedded } = await import('./embedded.ts');
  const folder = dataFolder === undefined ? undefined : join(dataFolder, 'postgres');
  const embedded = await openEmbedded({ folder, migrations: migrationsFolder, snapshots: snapshotsFolder, ...deps });
  return embedded.database;
}

function openEngine(
  { weaviate: address }: Environment,
  { settings, telemetry }: { settings: Settings; telemetry: Telemetry },
): VectorEngine | undefined {
  if (address === undefined) return undefined;
  const { k1, b, engineMs } = settings.search;
  return createLateEngine('weaviate', async () => {
    const { createWeaviate } = await import('../lib/search/engines/weaviate.ts');
    return createWeaviate({ address, k1, b, queryMs: engineMs, writeMs: 30_000, telemetry });
  });
}

async function lockData({ databaseUrl, dataFolder }: Environment): Promise<() => Promise<void>> {
  if (databaseUrl !== undefined || dataFolder === undefined) return async () => {};
  await mkdir(dataFolder, { recursive: true, mode: 0o700 });
  return lockFolder(dataFolder);
}

/** The owner's token: the environment's, or that of the data folder, made once and readable by its user alone. */
export async function ownerTokenOf({ ownerToken, dataFolder: folder }: Environment): Promise<string> {
  if (ownerToken !== undefined) return ownerToken;
  const made = `lam_default_owner_${createIds({ clock: systemClock }).random(40)}`;
  if (folder === undefined) return made;
  const path = join(folder, 'token');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(path, `${made}\n`, { flag: 'wx', mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await chmod(path, 0o600);
  return (await readFile(path, 'utf8')).trim();
}

function describeEngine({ databaseUrl, dataFolder }: Environment): string {
  if (databaseUrl !== undefined) return `PostgreSQL at ${new URL(databaseUrl).hostname}`;
  return dataFolder === undefined ? 'in memory, nothing is kept' : dataFolder;
}
