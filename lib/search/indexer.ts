import type { Ids } from '../base/id.ts';
import { type Breaker, createBreaker } from '../cache/breaker.ts';
import type { Settings } from '../config/settings.ts';
import type { Context } from '../contexts/context.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Database } from '../postgres/database.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { Embedder } from './embedder.ts';
import { createEmbedding, type Embedding } from './embedding.ts';
import { createEngineVectors } from './engine-vectors.ts';
import { createIndexing, type Indexing } from './indexing.ts';
import type { VectorEngine } from './vector-engine.ts';
import { createStoredVectors, type Vectors } from './vectors.ts';

/** What fills the index, and what searches share with it. */
export interface Indexer {
  readonly indexing: Indexing;
  readonly vectors: Vectors;
  readonly embedding: Embedding;
  /** Undefined where vectors are in PostgreSQL. */
  readonly engine: VectorEngine | undefined;
  /** Of the engine. */
  readonly guard: Breaker;
  readonly onFailure: (error: unknown, space: string) => void;
}

/**
 * @param deps.isNamed whether someone has chosen the first of the embedders, or the engine.
 * @param deps.startedMs when this process began: of two that make vectors otherwise, the later one has its way.
 */
export function createIndexer(deps: {
  database: Database;
  embedders: readonly [Embedder, ...Embedder[]];
  isNamed: boolean;
  startedMs: number;
  engine: VectorEngine | undefined;
  /** A content that is too large to be read along with others, piece by piece. */
  streamContent: (request: RequestContext, context: Context) => AsyncIterable<Uint8Array>;
  settings: Settings;
  telemetry: Telemetry;
  clock: () => number;
  ids: Ids;
}): Indexer {
  const { database, embedders, isNamed, startedMs, engine, streamContent, settings, telemetry, clock, ids } = deps;
  const { breakerFailures: failures, breakerWithinMs, breakerOpenMs: openMs } = settings.cache;
  const { embedderMs, engineMs, hnswChunks, delayMs } = settings.search;
  const onFailure = (error: unknown, space: string) =>
    telemetry.log({ level: 'warn', event: 'search.index', facts: { space }, error });
  /** One that hangs fails slowly. */
  const breakerOf = (waitMs: number) => ({
    failures,
    withinMs: Math.max(breakerWithinMs, 2 * failures * waitMs),
    openMs,
  });
  const embedding = createEmbedding({
    embedders,
    clock,
    breaker: breakerOf(embedderMs),
    queryMs: embedderMs,
    onFailure: (error) => telemetry.log({ level: 'warn', event: 'search.embedder', error }),
  });
  const guard = createBreaker({
    clock,
    ...breakerOf(engineMs),
    onFailure: (error) => telemetry.log({ level: 'warn', event: 'search.engine', error }),
  });
  const claim = { startedMs, isNamed };
  const vectors =
    engine === undefined
      ? createStoredVectors({ database, embedding, isIndexed: hnswChunks !== null, claim, onFailure })
      : createEngineVectors({ database, embedding, engine, claim, guard, nonce: () => ids.random(16) });
  const indexing = createIndexing({
    database,
    vectors,
    delayMs,
    async readContent(request, context) {
      const pieces: Uint8Array[] = [];
      for await (const piece of streamContent(request, context)) pieces.push(piece);
      return Buffer.concat(pieces);
    },
    onFailure,
  });
  return { indexing, vectors, embedding, engine, guard, onFailure };
}
