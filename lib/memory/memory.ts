import { sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import { createTurns } from '../base/turns.ts';
import type { Loaded } from '../cache/answers.ts';
import type { Cache } from '../cache/cache.ts';
import type { Settings } from '../config/settings.ts';
import type { Contexts } from '../contexts/contexts.ts';
import { entityItem, graphItem, invalidatedItem } from '../contexts/items.ts';
import { entityId, relationId } from '../contexts/node-ids.ts';
import type { DeleteOperation, Operation, PutOperation } from '../contexts/operation.ts';
import { contextTooLarge, toProblem } from '../contexts/outcomes.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { LoadRequest } from '../contexts/snapshot.ts';
import { createThrough, toLoaded } from '../contexts/through.ts';
import type { OperationResult } from '../contexts/write.sql.ts';
import type { Database } from '../postgres/database.ts';
import { backOff } from '../postgres/retry.ts';
import { type Node, type NodePage, readNodePage, readNodes, readRelationIds, type Wanted } from './graph.sql.ts';
import {
  around,
  type Entity,
  entityKind,
  type Graph,
  type Relation,
  readEntity,
  readRelation,
  relationKind,
  toContent,
} from './graph.ts';
import { type CachedGraph, createGraphKind } from './graph-kind.ts';

/** Observations of one entity. */
export interface Added {
  readonly entityName: string;
  readonly addedObservations: readonly string[];
}

/**
 * The knowledge graph of the reference memory server, kept as contexts: an entity is one of kind `memory.entity`, a
 * relation one of kind `memory.relation`, so both have versions, merge, expiry and synchronisation. Does what the
 * released server-memory 2026.8.31 does, but keeps names and relations unique within a call as well, and loses nothing
 * to a concurrent call. A write is one request to PostgreSQL whatever its size, and a read before or after where it
 * depends on what is there; a read is one, or none where a cache has the answer.
 */
export interface Memory {
  /**
   * Creates the entities whose names are new, and answers with those.
   *
   * @throws Problem `already_exists` where another door has put something else in the place of one.
   */
  createEntities(request: RequestContext, entities: readonly Entity[]): Promise<Entity[]>;
  /**
   * Creates the relations that are new, and answers with those; their ends need not exist.
   *
   * @throws Problem as {@link Memory.createEntities}.
   */
  createRelations(request: RequestContext, relations: readonly Relation[]): Promise<Relation[]>;
  /**
   * Adds what each entity does not have yet, in all of them or in none.
   *
   * @throws Problem `context_not_found` for a name without an entity.
   */
  addObservations(
    request: RequestContext,
    additions: readonly { readonly entityName: string; readonly contents: readonly string[] }[],
  ): Promise<Added[]>;
  /** Deletes entities and every relation that begins or ends at one of the names. */
  deleteEntities(request: RequestContext, names: readonly string[]): Promise<void>;
  /** Names without an entity are passed over. */
  deleteObservations(
    request: RequestContext,
    deletions: readonly { readonly entityName: string; readonly observations: readonly string[] }[],
  ): Promise<void>;
  deleteRelations(request: RequestContext, relations: readonly Relation[]): Promise<void>;
  /** All entities, then all relations, in pages, so that a graph may be of any size. */
  listNodes(request: RequestContext): AsyncIterable<Entity | Relation>;
  /** @throws Problem `context_too_large` where the graph is above `limits.graphBytes`. */
  readGraph(request: RequestContext): Promise<Graph>;
  /**
   * Entities with the query in their name, type or an observation, letters in upper or lower case alike, and the
   * relations around them.
   *
   * @throws Problem as {@link Memory.readGraph}.
   */
  searchNodes(request: RequestContext, query: string): Promise<Graph>;
  /** The entities of these names, and the relations around them; unknown names are passed over. */
  openNodes(request: RequestContext, names: readonly string[]): Promise<Graph>;
}

// How often a change of entities that others keep changing is begun anew.
const attemptsMax = 20;
// Names of one `openNodes` that a cache keeps the answer for.
const cachedNamesMax = 64;

export function createMemory(deps: {
  database: Database;
  cache: Cache;
  contexts: Contexts;
  settings: Settings;
}): Memory {
  const { database, cache, contexts, settings } = deps;
  const { graphBytes, contextBytes } = settings.limits;
  const kind = createGraphKind(settings);
  const { throughOne } = createThrough({ cache, originMs: settings.cache.originMs });
  // Changes of one space that build on what is there, one after another: side by side they would only break on each other.
  const turns = createTurns();

  /** Nodes that are what their ids stand for; what is not is passed over, since any door may have written it. */
  async function load(request: LoadRequest, wanted: Wanted) {
    const { value, ...read } = await readNodes(database, request, wanted, graphBytes);
    if (value.bytes > graphBytes) throw graphTooLarge(value.bytes, graphBytes);
    const entities: { readonly entity: Entity; readonly version: number }[] = [];
    const relations: Relation[] = [];
    for (const { id, version, content } of value.nodes) {
      const entity = readEntity(id, content);
      const relation = entity ? undefined : readRelation(id, content);
      if (entity) entities.push({ entity, version });
      if (relation) relations.push(relation);
    }
    return { ...read, ...value, entities, relations };
  }

  async function read(request: RequestContext, names: readonly string[] | undefined): Promise<CachedGraph> {
    const ids = names && [...new Set(names)].map(entityId);
    const wanted: Wanted = ids === undefined ? 'all' : { entities: ids, withRelations: true };
    const key = ids === undefined ? 'all' : sha256(ids.join('\n'));
    const { value } = await throughOne(request, kind, key, async (asked): Promise<Loaded<CachedGraph>> => {
      const { entities, relations, bytes, expiresMs, ...seen } = await load(asked, wanted);
      const graph = {
        entities: entities.map(({ entity: { name, entityType, observations } }) => ({
          name,
          entityType,
          observations,
        })),
        relations,
        bytes,
        expiresMs,
      };
      const items = [...(ids?.map(entityItem) ?? [graphItem]), invalidatedItem];
      const loaded = toLoaded(graph, items, seen);
      const isPassing = (ids?.length ?? 0) > cachedNamesMax;
      return { ...loaded, values: loaded.values.map((one) => ({ ...one, isPassing: one.isPassing || isPassing })) };
    });
    return value;
  }

  function put(id: string, of: Entity | Relation, more: Partial<PutOperation>): PutOperation {
    const content = toContent(of);
    if (content.bytes.length > contextBytes) throw contextTooLarge(content.bytes.length, contextBytes);
    return { op: 'put', id, content, ...more };
  }

  /** Carries out operations of which each stands for itself. */
  async function write(request: RequestContext, operations: readonly Operation[]): Promise<readonly OperationResult[]> {
    if (operations.length === 0) return [];
    const answer = await contexts.write(request, operations, { atomic: false });
    if (answer.outcome !== 'done') throw new Problem('internal', 'The write ended in a way nobody foresaw.');
    return answer.results;
  }

  async function create<Of extends Entity | Relation>(
    request: RequestContext,
    of: readonly Of[],
    as: { readonly kind: string; readonly toId: (one: Of) => string },
  ): Promise<Of[]> {
    const operations = of.map((one) => put(as.toId(one), one, { kind: as.kind, ifAbsent: true }));
    const results = await write(request, operations);
    const refused = results.find(({ outcome }) => outcome !== 'created' && outcome !== 'exists');
    if (refused) throw toProblem(refused);
    const known = results.filter((one, index) => one.outcome === 'exists' && !hasContent(one, operations[index]));
    await requireNodes(request, known, as.kind);
    return of.filter((_, index) => results[index]?.outcome === 'created');
  }

  /** @throws Problem `already_exists` for the first context that is no node of the kind. */
  async function requireNodes(request: RequestContext, known: readonly OperationResult[], kind: string): Promise<void> {
    if (known.length === 0) return;
    const ids = known.map(({ id }) => id);
    const { nodes } = (await readNodes(database, request, { entities: ids, withRelations: false }, graphBytes)).value;
    const isNode = ({ id, content }: Node) => (readEntity(id, content) ?? readRelation(id, content)) !== undefined;
    const foreign = known.find(({ head }) => head?.kind !== kind)?.id ?? nodes.find((node) => !isNode(node))?.id;
    if (foreign === undefined) return;
    const message = `Context ${foreign} stands in its place, but is no ${kind}. Delete it first, here or with context_delete.`;
    throw new Problem('already_exists', message, { id: foreign });
  }

  async function remove(request: RequestContext, ids: readonly string[]): Promise<void> {
    const operations = [...new Set(ids)].map((id): DeleteOperation => ({ op: 'delete', id, children: 'orphan' }));
    const results = await write(request, operations);
    const isDone = ({ outcome }: OperationResult) => ['deleted', 'not_found', 'gone'].includes(outcome);
    const refused = results.find((result) => !isDone(result));
    if (refused) throw toProblem(refused);
  }

  /** Changes entities by what they hold: all of them or none, and only if nobody has changed one meanwhile. */
  function revise<Done>(
    request: RequestContext,
    names: readonly string[],
    change: (entities: Map<string, Entity>) => Done,
  ): Promise<Done> {
    const ids = [...new Set(names)].map(entityId);
    return turns.take(request.slot, async () => {
      for (let attempt = 0; attempt < attemptsMax; attempt++) {
        const before = await load(request, { entities: ids, withRelations: false });
        const entities = new Map(before.entities.map(({ entity }) => [entity.name, entity]));
        const done = change(entities);
        const operations = before.entities.flatMap(({ entity, version }) => {
          const revised = entities.get(entity.name);
          return revised ? [put(entityId(entity.name), revised, { ifVersion: version, ifLive: true })] : [];
        });
        if (operations.length === 0) return done;
        const answer = await contexts.write(request, operations, { atomic: true });
        if (answer.outcome === 'done') return done;
        if (answer.outcome === 'refused' && answer.result.outcome !== 'stale') throw toProblem(answer.result);
        await backOff(Math.min(attempt + 1, 5));
      }
      throw new Problem('unavailable', 'Others keep changing these entities; try again in a moment.');
    });
  }

  return {
    createEntities: (request, entities) =>
      create(request, entities, { kind: entityKind, toId: ({ name }) => entityId(name) }),

    createRelations: (request, relations) => create(request, relations, { kind: relationKind, toId: relationId }),

    addObservations(request, additions) {
      const names = additions.map(({ entityName }) => entityName);
      return revise(request, names, (entities) =>
        additions.map(({ entityName, contents }) => {
          const entity = entities.get(entityName);
          if (entity === undefined) {
            throw new Problem('context_not_found', `Entity with name ${entityName} not found`, { name: entityName });
          }
          const known = new Set(entity.observations);
          const added = contents.filter((one) => !known.has(one));
          entities.set(entityName, { ...entity, observations: [...entity.observations, ...added] });
          return { entityName, addedObservations: added };
        }),
      );
    },

    async deleteEntities(request, names) {
      const ids = [...new Set(names)].map(entityId);
      if (ids.length > 0) await remove(request, [...ids, ...(await readRelationIds(database, request, ids))]);
    },

    async deleteObservations(request, deletions) {
      const names = deletions.map(({ entityName }) => entityName);
      await revise(request, names, (entities) => {
        for (const { entityName, observations } of deletions) {
          const entity = entities.get(entityName);
          if (entity === undefined) continue;
          const gone = new Set(observations);
          const left = entity.observations.filter((one) => !gone.has(one));
          entities.set(entityName, { ...entity, observations: left });
        }
      });
    },

    deleteRelations: (request, relations) => remove(request, relations.map(relationId)),

    async *listNodes(request) {
      for (const [of, read] of [
        ['entities', readEntity],
        ['relations', readRelation],
      ] as const) {
        for (let after: number | null = 0; after !== null; ) {
          const page: NodePage = await readNodePage(database, request, { of, after });
          for (const { id, content } of page.nodes) {
            const node = read(id, content);
            if (node) yield node;
          }
          after = page.next;
        }
      }
    },

    async readGraph(request) {
      const { entities, relations } = await read(request, undefined);
      return { entities, relations };
    },

    async searchNodes(request, query) {
      const { entities, relations } = await read(request, undefined);
      const wanted = query.toLowerCase();
      const has = (text: string) => text.toLowerCase().includes(wanted);
      const isFound = ({ name, entityType, observations }: Entity) =>
        has(name) || has(entityType) || observations.some(has);
      return around(entities.filter(isFound), relations);
    },

    async openNodes(request, names) {
      const { entities, relations } = await read(request, names);
      return around(entities, relations);
    },
  };
}

/** Whether a context that was there already holds the content that was to be put. */
function hasContent({ head }: OperationResult, operation: PutOperation | undefined): boolean {
  return head?.kind === operation?.kind && head?.hash === sha256(operation?.content?.bytes ?? '');
}

function graphTooLarge(sizeBytes: number, limitBytes: number): Problem {
  const message = `These entities and relations hold ${sizeBytes} bytes, and ${limitBytes} can be read at once. Open fewer of them by name, or write all to a file with npm run export.`;
  return new Problem('context_too_large', message, { sizeBytes, limitBytes });
}
