import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CallContext, createServer as createGrpcServer, ServerError, Status } from 'nice-grpc';
import { readText } from './body.ts';

/** What a Weaviate does, as far as our adapter asks it, on loopback: its REST and gRPC as the unmodified client speaks them. */
export interface WeaviateServer {
  readonly url: string;
  readonly grpcUrl: string;
  readonly apiKey: string;
  /** Calls of either kind so far. */
  calls(): number;
  /** Whether calls fail from now on: refused, or never answered. */
  fail(how: 'refuse' | 'hang' | undefined): void;
  /** Texts of the properties of all objects of a tenant. */
  contents(tenant: string): string[];
  empty(): void;
  stop(): Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: the client's protobuf types are not exported
type Message = any;

interface Stored {
  readonly id: string;
  readonly properties: Record<string, string>;
  readonly vectors: ReadonlyMap<string, Float32Array>;
}

interface Collection {
  // biome-ignore lint/suspicious/noExplicitAny: kept as it was sent
  config: any;
  readonly tenants: Map<string, Map<string, Stored>>;
}

const resultsMax = 10_000;
const operators = { notEqual: 2, and: 7, containsAny: 12, containsAll: 13 };

/** The definitions lie in the client's package without being exported. */
async function loadDefinitions() {
  const client = import.meta.resolve('weaviate-client');
  const [{ WeaviateDefinition }, { HealthDefinition }] = await Promise.all([
    import(new URL('./proto/v1/weaviate.js', client).href),
    import(new URL('./proto/google/health/v1/health.js', client).href),
  ]);
  return { WeaviateDefinition, HealthDefinition };
}

export async function startWeaviate(): Promise<WeaviateServer> {
  const collections = new Map<string, Collection>();
  const apiKey = 'weaviate-test-key';
  let calls = 0;
  let failure: 'refuse' | 'hang' | undefined;

  async function rest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    calls++;
    const text = await readText(request, 10_000_000);
    const send = (status: number, body?: unknown) =>
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(body === undefined ? '' : JSON.stringify(body));
    if (failure === 'hang') return;
    if (failure === 'refuse') return void send(503, { error: [{ message: 'leader not found' }] });
    if (request.headers.authorization !== `Bearer ${apiKey}`)
      return void send(401, { code: 401, message: 'unauthorized' });
    const [, , of, name, what] = (request.url ?? '').split('?')[0]?.split('/') ?? [];
    if (of === 'meta') return void send(200, { version: '1.40.0', grpcMaxMessageSize: 104_858_000, modules: {} });
    const found = name === undefined ? undefined : collections.get(name);
    const body = text === '' ? undefined : JSON.parse(text);
    if (of !== 'schema') return void send(404);
    if (name === undefined && request.method === 'GET')
      return void send(200, { classes: [...collections.values()].map(({ config }) => config) });
    if (name === undefined) {
      if (collections.has(body.class))
        return void send(422, { error: [{ message: `class name ${body.class} already exists` }] });
      collections.set(body.class, { config: withDefaults(body), tenants: new Map() });
      return void send(200, body);
    }
    if (found === undefined) return void send(404);
    if (what === 'tenants' && request.method === 'DELETE') {
      for (const one of body) found.tenants.delete(one);
      return void send(200);
    }
    if (request.method === 'GET') return void send(200, found.config);
    if (request.method === 'PUT') found.config = withDefaults(body);
    if (request.method === 'DELETE') collections.delete(name);
    send(200, request.method === 'PUT' ? body : undefined);
  }

  async function guard(context: CallContext): Promise<void> {
    calls++;
    if (failure === 'hang')
      await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve()));
    if (failure === 'refuse') throw new ServerError(Status.INTERNAL, 'store is read-only');
    if (context.metadata.get('authorization') !== `Bearer ${apiKey}`)
      throw new ServerError(Status.UNAUTHENTICATED, 'invalid api key');
  }

  function collectionOf(name: string, prefix = ''): Collection {
    const found = collections.get(name);
    if (found === undefined) throw unknown(`${prefix}could not find class ${name} in schema`);
    return found;
  }

  function tenantOf(collection: Collection, tenant: string, prefix: string): Map<string, Stored> {
    const found = collection.tenants.get(tenant);
    if (found === undefined) throw unknown(`${prefix}tenant not found: "${tenant}"`);
    return found;
  }

  const service = {
    async search(request: Message, context: CallContext): Promise<Message> {
      await guard(context);
      const collection = collectionOf(request.collection);
      const prefix = `explorer: get class: vector search: object search at index ${request.collection.toLowerCase()}: `;
      if (request.tenant === '')
        throw unknown(`${prefix}class ${request.collection} has multi-tenancy enabled, but request was without tenant`);
      const all = [...tenantOf(collection, request.tenant, prefix).values()];
      const limit = request.limit || 10;
      if (limit > resultsMax) throw unknown('explorer: get class: vector search: query maximum results exceeded');
      const allowed = all.filter((one) => matches(one, request.filters));
      const found = searchIn(allowed, all, collection.config, request).slice(0, limit);
      return { took: 0, results: found.map((one) => toResult(one, request)), groupByResults: [] };
    },
    async batchObjects({ objects }: Message, context: CallContext): Promise<Message> {
      await guard(context);
      const errors: { index: number; error: string }[] = [];
      for (const [index, object] of objects.entries()) {
        const collection = collectionOf(object.collection);
        const error = refuse(collection, object);
        if (/^[A-Za-z0-9_-]{1,64}$/.test(object.tenant) === false)
          throw unknown(`auto create tenants: '${object.tenant}' is not a valid tenant name`);
        const tenant = collection.tenants.get(object.tenant) ?? new Map<string, Stored>();
        collection.tenants.set(object.tenant, tenant);
        if (error !== undefined) errors.push({ index, error });
        else tenant.set(object.uuid, toStored(object));
      }
      return { took: 0, errors };
    },
    async batchDelete(request: Message, context: CallContext): Promise<Message> {
      await guard(context);
      const collection = collectionOf(request.collection, 'batch delete params: ');
      const tenant = tenantOf(collection, request.tenant ?? '', 'batch delete: cannot find objects: ');
      const gone = [...tenant.values()].filter((one) => matches(one, request.filters));
      for (const { id } of gone) tenant.delete(id);
      return { took: 0, failed: 0, matches: gone.length, successful: gone.length, objects: [] };
    },
  };

  const { WeaviateDefinition, HealthDefinition } = await loadDefinitions();
  const grpc = createGrpcServer();
  const absent = async (): Promise<never> => {
    throw new ServerError(Status.UNIMPLEMENTED, 'not among what is asked here');
  };
  const methods = Object.keys(WeaviateDefinition.methods);
  grpc.add(WeaviateDefinition, { ...Object.fromEntries(methods.map((name) => [name, absent])), ...service } as never);
  grpc.add(HealthDefinition, {
    async check() {
      return { status: failure === undefined ? 1 : 2 };
    },
    watch: absent,
  } as never);
  const grpcPort = await grpc.listen('127.0.0.1:0');
  const http = createServer((request, response) => void rest(request, response));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    grpcUrl: `http://127.0.0.1:${grpcPort}`,
    apiKey,
    calls: () => calls,
    fail(how) {
      failure = how;
    },
    contents: (tenant) =>
      [...collections.values()].flatMap(({ tenants }) =>
        [...(tenants.get(tenant)?.values() ?? [])].map(({ properties }) => Object.values(properties).join(' ')),
      ),
    empty: () => collections.clear(),
    async stop() {
      grpc.forceShutdown();
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}

// The server answers all but its own refusals so.
const unknown = (message: string) => new ServerError(Status.UNKNOWN, message);

/** Fills in what the client expects of an answer. */
function withDefaults(config: Message): Message {
  const defaults = {
    skip: false,
    distance: 'cosine',
    ef: -1,
    efConstruction: 128,
    maxConnections: 32,
    dynamicEfMin: 100,
    dynamicEfMax: 500,
    dynamicEfFactor: 8,
    vectorCacheMaxObjects: 1e12,
    flatSearchCutoff: 40_000,
    cleanupIntervalSeconds: 300,
    pq: { enabled: false },
    bq: { enabled: false },
    sq: { enabled: false },
    rq: { enabled: false },
  };
  const vectors = Object.entries(config.vectorConfig ?? {}).map(([name, one]) => [
    name,
    { vectorizer: { none: {} }, vectorIndexType: 'hnsw', ...(one as object), vectorIndexConfig: defaults },
  ]);
  return {
    ...config,
    vectorConfig: Object.fromEntries(vectors),
    invertedIndexConfig: {
      cleanupIntervalSeconds: 60,
      ...config.invertedIndexConfig,
      stopwords: { additions: null, removals: null, ...config.invertedIndexConfig?.stopwords },
    },
    shardingConfig: {
      actualCount: 0,
      actualVirtualCount: 0,
      desiredCount: 0,
      desiredVirtualCount: 0,
      function: '',
      key: '',
      strategy: '',
      virtualPerPhysical: 0,
    },
    replicationConfig: { factor: 1, asyncEnabled: false, deletionStrategy: 'NoAutomatedResolution' },
  };
}

function readVectors(object: Message): Map<string, Float32Array> {
  return new Map(
    object.vectors.map(({ name, vectorBytes }: { name: string; vectorBytes: Uint8Array }) => [
      name,
      toFloats(vectorBytes),
    ]),
  );
}

const toFloats = (bytes: Uint8Array) =>
  new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer);

/** In the server's words. */
function refuse(collection: Collection, object: Message): string | undefined {
  for (const [name, vector] of readVectors(object)) {
    if (!(name in collection.config.vectorConfig))
      return `collection ${object.collection} does not have configuration for vector ${name}`;
    const others = collection.tenants.get(object.tenant)?.values() ?? [];
    const length = [...others].find(({ vectors }) => vectors.has(name))?.vectors.get(name)?.length;
    if (length !== undefined && length !== vector.length)
      return `Validate vector index ${name} for target vector ${object.uuid}: new node has a vector with length ${vector.length}. Existing nodes have vectors with length ${length}: vector dimensions do not match the index dimensions`;
  }
  return undefined;
}

const toStored = (object: Message): Stored => ({
  id: object.uuid,
  properties: object.properties.nonRefProperties ?? {},
  vectors: readVectors(object),
});

function matches(one: Stored, filter: Message): boolean {
  if (filter === undefined) return true;
  const { operator, filters, target, valueText, valueTextArray } = filter;
  if (operator === operators.and) return filters.every((each: Message) => matches(one, each));
  const values: string[] | undefined = valueTextArray?.values ?? (valueText === undefined ? undefined : [valueText]);
  if (values === undefined) throw unknown('value type should be []string but is []float64');
  const property = target?.property;
  // A text is filtered by its tokens; those of an id, and of a property with tokenization "field", are the whole.
  const held =
    property === '_id'
      ? [one.id]
      : property === 'lexemes'
        ? tokens(one.properties['lexemes'] ?? '')
        : [one.properties[property]];
  if (operator === operators.containsAny) return values.some((value) => held.includes(value));
  if (operator === operators.notEqual) return !values.every((value) => held.includes(value));
  if (operator === operators.containsAll) return values.every((value) => held.includes(value));
  throw unknown(`operator ${operator} is not among what is asked here`);
}

const tokens = (text: string) => text.split(/\s+/).filter(Boolean);

interface Scored {
  readonly one: Stored;
  readonly score: number;
  readonly distance: number | undefined;
}

function searchIn(allowed: readonly Stored[], all: readonly Stored[], config: Message, request: Message): Scored[] {
  const { bm25Search, nearVector, hybridSearch } = request;
  if (bm25Search !== undefined) return best(scoreWords(allowed, all, config, bm25Search));
  if (nearVector !== undefined) return best(scoreVectors(allowed, config, request.collection, nearVector));
  if (hybridSearch === undefined) throw unknown('what is asked for is not among what is asked here');
  const { nearVector: near, targets, alphaParam, useAlphaParam, alpha } = hybridSearch;
  const weight = useAlphaParam ? alphaParam : alpha;
  const asked = near ?? { ...hybridSearch, targets };
  const legs = [
    [
      normalize(
        best(scoreVectors(allowed, config, request.collection, { ...asked, targets: asked.targets ?? targets })),
      ),
      weight,
    ],
    [normalize(best(scoreWords(allowed, all, config, hybridSearch))), 1 - weight],
  ] as const;
  const fused = new Map<Stored, number>();
  for (const [leg, counts] of legs)
    for (const { one, score } of leg) fused.set(one, (fused.get(one) ?? 0) + counts * score);
  return best([...fused].map(([one, score]) => ({ one, score, distance: undefined })));
}

const best = (scored: Scored[]) => scored.sort((left, right) => right.score - left.score);

/** Between the worst and the best, as relative score fusion has it; a single one is the best. */
function normalize(scored: readonly Scored[]): Scored[] {
  const scores = scored.map(({ score }) => score);
  const [high, low] = [Math.max(...scores), Math.min(...scores)];
  return scored.map((one) => ({ ...one, score: high === low ? 1 : (one.score - low) / (high - low) }));
}

function scoreWords(allowed: readonly Stored[], all: readonly Stored[], config: Message, asked: Message): Scored[] {
  const { k1, b } = config.invertedIndexConfig.bm25;
  const [property] = asked.properties as string[];
  const lengthOf = (one: Stored) => tokens(one.properties[property ?? ''] ?? '').length;
  const average = all.reduce((sum, one) => sum + lengthOf(one), 0) / Math.max(all.length, 1);
  const words = [...new Set(tokens(asked.query))];
  const counts = words.map(
    (word) => all.filter((one) => tokens(one.properties[property ?? ''] ?? '').includes(word)).length,
  );
  return allowed.flatMap((one) => {
    const own = tokens(one.properties[property ?? ''] ?? '');
    let score = 0;
    for (const [at, word] of words.entries()) {
      const frequency = own.filter((token) => token === word).length;
      const count = counts[at] ?? 0;
      const idf = Math.log(1 + (all.length - count + 0.5) / (count + 0.5));
      score += (idf * frequency * (k1 + 1)) / (frequency + k1 * (1 - b + (b * own.length) / average));
    }
    return score > 0 ? [{ one, score, distance: undefined }] : [];
  });
}

function scoreVectors(allowed: readonly Stored[], config: Message, collection: string, asked: Message): Scored[] {
  const [target] = (asked.targets?.targetVectors ?? asked.targetVectors ?? []) as string[];
  const vector = vectorOf(asked);
  if (target === undefined || !(target in config.vectorConfig))
    throw unknown(`extract target vectors: class ${collection} does not have named vector ${target} configured.`);
  return allowed.flatMap((one) => {
    const own = one.vectors.get(target);
    if (own === undefined) return [];
    if (own.length !== vector.length)
      throw unknown(
        `distance between entrypoint and query node: ${own.length} vs ${vector.length}: vector lengths don't match`,
      );
    const dot = own.reduce((sum, value, at) => sum + value * (vector[at] ?? 0), 0);
    const distance = 1 - dot / (Math.hypot(...own) * Math.hypot(...vector));
    return [{ one, score: -distance, distance }];
  });
}

function vectorOf({ vectors, vectorForTargets, vectorBytes, vector }: Message): Float32Array {
  const [first] = vectors ?? [];
  const [forTarget] = vectorForTargets ?? [];
  const bytes = first?.vectorBytes ?? forTarget?.vectors?.[0]?.vectorBytes ?? forTarget?.vectorBytes ?? vectorBytes;
  return bytes?.length > 0 ? toFloats(bytes) : Float32Array.from(vector ?? []);
}

function toResult({ one, score, distance }: Scored, request: Message): Message {
  const asked = request.metadata ?? {};
  const fields = (request.properties?.nonRefProperties ?? Object.keys(one.properties)).map((name: string) => [
    name,
    { textValue: one.properties[name] ?? '' },
  ]);
  return {
    properties: {
      refProps: [],
      targetCollection: request.collection,
      nonRefProps: { fields: Object.fromEntries(fields) },
      refPropsRequested: false,
    },
    metadata: {
      id: one.id,
      distance: distance ?? 0,
      distancePresent: (asked.distance ?? false) && distance !== undefined,
      score: distance === undefined ? score : 0,
      scorePresent: asked.score ?? false,
    },
  };
}
