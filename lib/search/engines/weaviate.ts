import { randomUUID } from 'node:crypto';
import pMap from 'p-map';
import weaviate, {
  configure,
  type FilterValue,
  generateUuid5,
  type QueryMetadata,
  type WeaviateClient,
  type WeaviateReturn,
} from 'weaviate-client';
import { Problem } from '../../base/problem.ts';
import type { Telemetry } from '../../telemetry/telemetry.ts';
import type { EngineEntry, EngineHit, EngineQuery, Place, VectorEngine } from '../vector-engine.ts';

export interface WeaviateAddress {
  readonly url: string;
  /** Where it speaks gRPC. */
  readonly grpcUrl: string;
  readonly apiKey?: string | undefined;
}

/** A collection, which is told from a later one of its name by an id of its own. */
interface Described {
  readonly id: string;
  readonly vectors: ReadonlySet<string>;
}

type Properties = { contextId: string; key: string; lexemes: string };

// One collection for all spaces; its name tells its form, so that another form is another collection.
const collectionName = 'LaminaChunk1';
const batchMax = 200;
// The client waits for half a second in each batch before it sends it, so some wait together.
const batchesMax = 8;
// What the server gives at most: QUERY_MAXIMUM_RESULTS.
const resultsMax = 10_000;

/**
 * Weaviate from 1.27 on, by its own client: one collection with a tenant a space, which the server makes and wakes when it is
 * used, and a named vector for each embedder. A word is a lexeme as our own index has it, so that its BM25 need not stem.
 */
export function createWeaviate(deps: {
  address: WeaviateAddress;
  /** Of BM25. */
  k1: number;
  b: number;
  /** How long a search may take, and how long a write. */
  queryMs: number;
  writeMs: number;
  telemetry: Telemetry;
}): VectorEngine {
  const { address, k1, b, queryMs, writeMs, telemetry } = deps;
  let connecting: Promise<WeaviateClient> | undefined;
  // What the collection is known to be; asked again after anything went wrong.
  let known: Described | undefined;

  function connect(): Promise<WeaviateClient> {
    connecting ??= open(address, { queryMs, writeMs }).catch((error) => {
      connecting = undefined;
      throw error;
    });
    return connecting;
  }

  /** The collection as it is; undefined where there is none. */
  async function describe(): Promise<Described | undefined> {
    if (known !== undefined) return known;
    const client = await connect();
    if (!(await client.collections.exists(collectionName))) return undefined;
    const { description = '', vectorizers } = await client.collections.get(collectionName).config.get();
    known = {
      id: /\bid ([0-9a-f-]{36})$/.exec(description)?.[1] ?? 'unnamed',
      vectors: new Set(Object.keys(vectorizers)),
    };
    return known;
  }

  /** The collection with room for an embedder's vectors. */
  async function prepare(embedder: string): Promise<Described> {
    const name = vectorName(embedder);
    const found = await describe();
    if (found?.vectors.has(name)) return found;
    const client = await connect();
    const look = () => {
      known = undefined;
      return describe();
    };
    // Another instance may be faster at either.
    if (found === undefined) {
      await client.collections.create(schemaOf(name, { k1, b })).catch(async (error) => {
        if ((await look()) === undefined) throw error;
      });
    }
    const made = await look();
    if (made === undefined) throw new Error('the collection is gone');
    if (made.vectors.has(name)) return made;
    const { config } = client.collections.get(collectionName);
    await config.addVector(configure.vectors.selfProvided({ name })).catch(async (error) => {
      if (!(await look())?.vectors.has(name)) throw error;
    });
    known = { ...made, vectors: new Set([...made.vectors, name]) };
    return known;
  }

  /** @param sent about how many bytes. */
  async function watched<Value>(sent: number, run: () => Promise<Value>): Promise<Value> {
    const started = performance.now();
    let outcome: 'ok' | 'unavailable' = 'unavailable';
    try {
      const value = await run();
      outcome = 'ok';
      return value;
    } catch (error) {
      known = undefined;
      throw new Problem('unavailable', 'Weaviate does not do what it is asked.', {}, error);
    } finally {
      const durationMs = performance.now() - started;
      telemetry.engineCall({ engine: 'weaviate', durationMs, sentBytes: sent, receivedBytes: 0, outcome });
    }
  }

  async function search(
    tenant: string,
    query: EngineQuery,
    limit: number,
  ): Promise<{ hits: EngineHit[]; isFull: boolean }[]> {
    const { lexemes, needed, excluded, weight, ids } = query;
    const { vectors } = (await describe()) ?? { vectors: new Set() };
    // It refuses to look for a vector that it has no room for.
    const [current, ...others] = query.vectors.filter(({ embedder }) => vectors.has(vectorName(embedder)));
    const collection = (await connect()).collections.get<Properties>(collectionName).withTenant(tenant);
    const conditions: FilterValue[] = [
      ...(ids === null ? [] : [collection.filter.byProperty('contextId').containsAny([...ids])]),
      ...(needed.length === 0 ? [] : [collection.filter.byProperty('lexemes').containsAll([...needed])]),
      // A text is unequal to a token that it does not hold; before 1.33 there is no containsNone.
      ...excluded.map((lexeme) => collection.filter.byProperty('lexemes').notEqual(lexeme)),
    ];
    const options = {
      limit,
      returnProperties: ['contextId', 'key'] as ('contextId' | 'key')[],
      returnMetadata: ['score', 'distance'] as QueryMetadata,
      ...(conditions.length === 0
        ? {}
        : {
            filters: conditions.reduce(
              (left, right) => ({ operator: 'And', filters: [left, right], value: null }) as FilterValue,
            ),
          }),
    };
    const near = async ({ embedder, vector }: { embedder: string; vector: Float32Array }, counts: number) => {
      const targetVector = vectorName(embedder);
      const answer = await collection.query.nearVector([...vector], { ...options, targetVector });
      return toHits(answer, limit, ({ distance = 1 }) => 1 - distance, counts);
    };
    const words = lexemes?.join(' ') ?? '';
    const legs: Promise<{ hits: EngineHit[]; isFull: boolean }>[] = [];
    if (words === '') {
      if (current !== undefined) legs.push(near(current, 1));
    } else if (current === undefined) {
      const answer = collection.query.bm25(words, { ...options, queryProperties: ['lexemes'] });
      legs.push(answer.then((found) => toHits(found, limit, ({ score = 0 }) => score, 1, 0)));
    } else {
      const answer = collection.query.hybrid(words, {
        ...options,
        queryProperties: ['lexemes'],
        vector: [...current.vector],
        targetVector: vectorName(current.embedder),
        alpha: weight,
        fusionType: 'RelativeScore',
      });
      legs.push(answer.then((found) => toHits(found, limit, ({ score = 0 }) => score, 1, 0)));
    }
    return Promise.all([...legs, ...others.map((one) => near(one, words === '' ? 1 : weight))]);
  }

  return {
    name: 'weaviate',

    identity: () => watched(0, async () => (await describe())?.id),

    prepare: (embedder) => watched(0, async () => (await prepare(embedder)).id),

    put: (tenant, embedder, entries) =>
      watched(entries.length * 2000, async () => {
        await prepare(embedder);
        const collection = (await connect()).collections.get<Properties>(collectionName).withTenant(tenant);
        const batches = Array.from({ length: Math.ceil(entries.length / batchMax) }, (_, at) =>
          entries.slice(at * batchMax, (at + 1) * batchMax),
        );
        const send = async (batch: readonly EngineEntry[]) => {
          const objects = batch.map(({ id, key, lexemes, vector }: EngineEntry) => ({
            id: idOf({ id, key }),
            properties: { contextId: id, key, lexemes },
            ...(vector === null ? {} : { vectors: { [vectorName(embedder)]: [...vector] } }),
          }));
          const { errors } = await collection.data.insertMany(objects);
          const [failed] = Object.values(errors);
          if (failed !== undefined) throw new Error(`${Object.keys(errors).length} were refused: ${failed.message}`);
        };
        await pMap(batches, send, { concurrency: batchesMax });
      }),

    remove: (tenant, places) =>
      watched(places.length * 40, async () => {
        const collection = (await connect()).collections.get<Properties>(collectionName).withTenant(tenant);
        for (let at = 0; at < places.length; at += batchMax) {
          const ids = places.slice(at, at + batchMax).map(idOf);
          const deleted = await collection.data.deleteMany(collection.filter.byId().containsAny(ids)).catch(passAbsent);
          const { failed = 0 } = deleted ?? {};
          if (failed > 0) throw new Error(`${failed} were not deleted`);
        }
      }),

    dropTenant: (tenant) =>
      watched(100, async () => {
        const client = await connect();
        if (!(await client.collections.exists(collectionName))) return;
        await client.collections.get(collectionName).tenants.remove(tenant);
      }),

    find: (tenant, query) =>
      watched(500, async () => {
        // It takes an empty list for one of numbers.
        if (query.ids?.length === 0) return [];
        // More where a few contexts have taken all places.
        for (let limit = Math.max(100, 2 * query.limit); ; limit = Math.min(10 * limit, resultsMax)) {
          const legs = await search(tenant, query, limit).catch(passAbsent);
          if (legs === undefined) {
            known = undefined;
            return null;
          }
          const isCrowded = legs.some(
            ({ hits, isFull }) => isFull && new Set(hits.map(({ id }) => id)).size < query.limit,
          );
          if (query.isByChunk || !isCrowded || limit === resultsMax) return fuse(legs.map(({ hits }) => hits));
        }
      }),

    ping: () =>
      watched(0, async () => {
        // The way a search goes, for a tenant that nobody is.
        const collection = (await connect()).collections.get(collectionName).withTenant('nobody');
        await collection.query.fetchObjects({ limit: 1 }).catch(passAbsent);
      }),

    async close() {
      await (await connecting)?.close();
    },
  };
}

async function open(
  { url, grpcUrl, apiKey }: WeaviateAddress,
  { queryMs, writeMs }: { queryMs: number; writeMs: number },
): Promise<WeaviateClient> {
  await stopRetries();
  const [http, grpc] = [new URL(url), new URL(grpcUrl)];
  const isSecure = (one: URL) => one.protocol === 'https:';
  const portOf = (one: URL) => Number(one.port || (isSecure(one) ? 443 : 80));
  const client = await weaviate.connectToCustom({
    httpHost: http.hostname,
    httpPort: portOf(http),
    httpPath: http.pathname === '/' ? '' : http.pathname,
    httpSecure: isSecure(http),
    grpcHost: grpc.hostname,
    grpcPort: portOf(grpc),
    grpcSecure: isSecure(grpc),
    timeout: { query: queryMs / 1000, insert: writeMs / 1000 },
    // The first call finds out as well, and without a line on the console.
    skipInitChecks: true,
    ...(apiKey === undefined ? {} : { authCredentials: new weaviate.ApiKey(apiKey) }),
  });
  // Until it knows the version, each call asks for it beside, and where that fails nobody hears it: that ends a process.
  await client.getWeaviateVersion().catch(async (error) => {
    await client.close();
    throw error;
  });
  return client;
}

/**
 * The client asks a server that is away again for as long as it may, and prints each time on the console. We have better ways
 * then: searches fall back to words, and what was not sent is noted. Its options for that are not among those it exports; where
 * it does not lie as it is published, as in a bundle, they stay as they are.
 */
async function stopRetries(): Promise<void> {
  try {
    const { href } = new URL('./grpc/retry.js', import.meta.resolve('weaviate-client'));
    const { retryOptions } = (await import(href)) as { retryOptions: { retry: boolean } };
    retryOptions.retry = false;
  } catch {}
}

/** Neither the collection nor a tenant is there before its first entry; the server says so in words alone. */
function passAbsent(error: unknown): undefined {
  const isAbsent = error instanceof Error && /tenant not found|could not find class/.test(error.message);
  if (!isAbsent) throw error;
}

function schemaOf(vector: string, bm25: { k1: number; b: number }) {
  return {
    name: collectionName,
    description: `Chunks of contexts, without their texts; Lamina makes and keeps it, id ${randomUUID()}`,
    multiTenancy: configure.multiTenancy({ enabled: true, autoTenantCreation: true, autoTenantActivation: true }),
    // Words of the query that say nothing are left out before.
    invertedIndex: configure.invertedIndex({ bm25k1: bm25.k1, bm25b: bm25.b, stopwordsPreset: 'none' }),
    vectorizers: [configure.vectors.selfProvided({ name: vector })],
    properties: [
      { name: 'contextId' as const, dataType: 'text' as const, tokenization: 'field' as const, indexSearchable: false },
      {
        name: 'key' as const,
        dataType: 'text' as const,
        tokenization: 'field' as const,
        indexSearchable: false,
        indexFilterable: false,
      },
      { name: 'lexemes' as const, dataType: 'text' as const, tokenization: 'whitespace' as const },
    ],
  };
}

/** A name as Weaviate has them, of an embedder's id. */
const vectorName = (embedder: string) => `v_${embedder.replaceAll(/[^A-Za-z0-9]+/g, '_')}`;

const idOf = ({ id, key }: Place) => generateUuid5(`${id}\n${key}`);

/**
 * The hits of one leg, their scores between the worst, or `lowest`, and the best, times what the leg counts.
 */
function toHits(
  { objects }: WeaviateReturn<Properties, undefined>,
  limit: number,
  scoreOf: (metadata: { score?: number; distance?: number }) => number,
  counts: number,
  lowest?: number,
): { hits: EngineHit[]; isFull: boolean } {
  const scored = objects.map(({ properties, metadata }) => ({ ...properties, score: scoreOf(metadata ?? {}) }));
  const scores = scored.map(({ score }) => score);
  const [best, worst] = [Math.max(...scores), lowest ?? Math.min(...scores)];
  const hits = scored.map(({ contextId, key, score }) => ({
    id: contextId,
    key,
    score: (counts * (score - worst + 1e-9)) / (best - worst + 1e-9),
  }));
  return { hits, isFull: objects.length >= limit };
}

function fuse(legs: readonly (readonly EngineHit[])[]): EngineHit[] {
  const fused = new Map<string, EngineHit>();
  for (const hit of legs.flat()) {
    const place = `${hit.id}\n${hit.key}`;
    fused.set(place, { ...hit, score: hit.score + (fused.get(place)?.score ?? 0) });
  }
  return [...fused.values()].sort((left, right) => right.score - left.score);
}
