import * as z from 'zod';
import { Problem } from '../base/problem.ts';
import type { Graph } from '../memory/graph.ts';
import { narrowerGraph, requireFitting, type Session, type Tool, type ToolAnswer, tool } from './tool.ts';

// The nine tools of the reference memory server, @modelcontextprotocol/server-memory 2026.8.31: same names, schemas,
// structured results, texts and error texts.

const entity = z.object({
  name: z.string().describe('What it is called; no two entities share a name'),
  entityType: z.string().describe('What sort of thing it is'),
  observations: z.array(z.string()).describe('Facts about it, one a string'),
});
const relation = z.object({
  from: z.string().describe('Name of the entity it begins at'),
  to: z.string().describe('Name of the entity it ends at'),
  relationType: z.string().describe('What from does to to, in active voice'),
});
const graph = z.object({ entities: z.array(entity), relations: z.array(relation) });
const done = z.object({ success: z.boolean(), message: z.string() });

const pretty = (value: unknown) => JSON.stringify(value, null, 2);
const toDone = (message: string): ToolAnswer => ({ text: message, structured: { success: true, message } });

const toGraph = (of: Graph): ToolAnswer => ({ text: pretty(of), structured: { ...of }, narrower: narrowerGraph });

const toList = (name: string, items: readonly unknown[]): ToolAnswer => ({
  text: pretty(items),
  structured: { [name]: items },
});

/** @throws Problem `context_too_large` where the answer could not be told, before anything is written. */
function requireTold(session: Session, { text, structured }: ToolAnswer): void {
  requireFitting(session, { text, structured }, 'Nothing was written: write less in one call.');
}

/** Half a character cannot be kept; JavaScript writes one where a text was cut in the middle of an emoji. */
function requireWellFormed(texts: readonly string[]): void {
  if (texts.every((text) => text.isWellFormed())) return;
  throw new Problem('unprocessable', 'A text holds half a character (a lone surrogate), which cannot be kept.');
}

const reading = { scope: 'read', hints: { isIdempotent: true } } as const;
const adding = { scope: 'write', hints: {} } as const;
const deleting = { scope: 'write', hints: { isDestructive: true, isIdempotent: true } } as const;
const asReference = { dialect: 'draft-7', isMemory: true } as const;

export const memoryTools: readonly Tool[] = [
  tool({
    name: 'create_entities',
    title: 'Create Entities',
    description:
      'Remember new entities (people, projects, things) with facts about them. Known names are left as they are.',
    ...adding,
    ...asReference,
    input: z.object({ entities: z.array(entity) }),
    output: z.object({ entities: z.array(entity) }),
    async handle(session, { entities }) {
      for (const { name, entityType, observations } of entities) {
        requireWellFormed([name, entityType]);
        requireWellFormed(observations);
      }
      requireTold(session, toList('entities', entities));
      return toList('entities', await session.manager.memory.createEntities(session.request, entities));
    },
  }),
  tool({
    name: 'create_relations',
    title: 'Create Relations',
    description: 'Remember how entities relate to one another, in active voice: "Ada" "maintains" "checkout".',
    ...adding,
    ...asReference,
    input: z.object({ relations: z.array(relation) }),
    output: z.object({ relations: z.array(relation) }),
    async handle(session, { relations }) {
      for (const { from, to, relationType } of relations) requireWellFormed([from, to, relationType]);
      requireTold(session, toList('relations', relations));
      return toList('relations', await session.manager.memory.createRelations(session.request, relations));
    },
  }),
  tool({
    name: 'add_observations',
    title: 'Add Observations',
    description: 'Add facts to entities that exist. What an entity has already is not added again.',
    ...adding,
    ...asReference,
    input: z.object({
      observations: z.array(
        z.object({
          entityName: z.string().describe('Name of an entity that exists'),
          contents: z.array(z.string()).describe('Facts to add, one a string'),
        }),
      ),
    }),
    output: z.object({
      results: z.array(z.object({ entityName: z.string(), addedObservations: z.array(z.string()) })),
    }),
    async handle(session, { observations }) {
      for (const { entityName, contents } of observations) {
        requireWellFormed([entityName]);
        requireWellFormed(contents);
      }
      requireTold(session, toList('results', observations));
      return toList('results', await session.manager.memory.addObservations(session.request, observations));
    },
  }),
  tool({
    name: 'delete_entities',
    title: 'Delete Entities',
    description: 'Forget entities and every relation they have. Unknown names are passed over.',
    ...deleting,
    ...asReference,
    input: z.object({ entityNames: z.array(z.string()).describe('Names of the entities to forget') }),
    output: done,
    async handle({ manager, request }, { entityNames }) {
      await manager.memory.deleteEntities(request, entityNames);
      return toDone('Entities deleted successfully');
    },
  }),
  tool({
    name: 'delete_observations',
    title: 'Delete Observations',
    description: 'Forget single facts about entities. What is not there is passed over.',
    ...deleting,
    ...asReference,
    input: z.object({
      deletions: z.array(
        z.object({
          entityName: z.string().describe('Name of the entity that has them'),
          observations: z.array(z.string()).describe('The facts to forget, word for word'),
        }),
      ),
    }),
    output: done,
    async handle({ manager, request }, { deletions }) {
      await manager.memory.deleteObservations(request, deletions);
      return toDone('Observations deleted successfully');
    },
  }),
  tool({
    name: 'delete_relations',
    title: 'Delete Relations',
    description: 'Forget relations. Unknown ones are passed over.',
    ...deleting,
    ...asReference,
    input: z.object({ relations: z.array(relation).describe('The relations to forget') }),
    output: done,
    async handle({ manager, request }, { relations }) {
      await manager.memory.deleteRelations(request, relations);
      return toDone('Relations deleted successfully');
    },
  }),
  tool({
    name: 'read_graph',
    title: 'Read Graph',
    description: 'Read all that is remembered. Use search_nodes where you know what you look for.',
    ...reading,
    ...asReference,
    input: z.object({}),
    output: graph,
    handle: async (session) => toGraph(await session.manager.memory.readGraph(session.request)),
  }),
  tool({
    name: 'search_nodes',
    title: 'Search Nodes',
    description:
      'Find entities whose name, type or facts contain the query as one piece of text, in upper or lower case, with their relations. Search for a single word first.',
    ...reading,
    ...asReference,
    input: z.object({ query: z.string().describe('A word or a piece of text') }),
    output: graph,
    handle: async (session, { query }) => toGraph(await session.manager.memory.searchNodes(session.request, query)),
  }),
  tool({
    name: 'open_nodes',
    title: 'Open Nodes',
    description: 'Read entities whose exact names you know, with their relations. Unknown names are passed over.',
    ...reading,
    ...asReference,
    input: z.object({ names: z.array(z.string()).describe('Exact names') }),
    output: graph,
    handle: async (session, { names }) => toGraph(await session.manager.memory.openNodes(session.request, names)),
  }),
];
