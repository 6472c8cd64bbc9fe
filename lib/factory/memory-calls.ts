import { entityId, relationId } from '../contexts/node-ids.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { Entity, Relation } from '../memory/graph.ts';
import type { Memory } from '../memory/memory.ts';
import { textOf } from './events.ts';
import { objectOf } from './facts.ts';

/** A write to a memory server that a hook has seen. */
export interface MemoryCall {
  readonly tool: string;
  readonly input: Readonly<Record<string, unknown>>;
}

const tools = [
  'create_entities',
  'create_relations',
  'add_observations',
  'delete_entities',
  'delete_observations',
  'delete_relations',
];

const prefix = 'mcp__';
const nameMax = 200;

/**
 * The write in a PostToolUse event; undefined for any other tool, for one that failed, and for one of this store's own, whose
 * write is here already.
 *
 * @param ownServers what this store is called where Droid names its servers; a name that holds one of these is it.
 */
export function memoryCallOf(
  of: { readonly event: string; readonly payload: { readonly event: Readonly<Record<string, unknown>> } },
  ownServers: readonly string[],
): MemoryCall | undefined {
  const sent = of.payload.event;
  const name = textOf(sent, 'tool_name') ?? '';
  const tool = tools.find((one) => name.endsWith(`__${one}`));
  if (of.event !== 'PostToolUse' || tool === undefined || !name.startsWith(prefix) || name.length > nameMax)
    return undefined;
  const server = name.slice(prefix.length, -tool.length - 2);
  if (ownServers.some((name) => name !== '' && server.toLowerCase().includes(name.toLowerCase()))) return undefined;
  if (objectOf(sent['tool_response'])?.['isError'] === true) return undefined;
  const input = objectOf(sent['tool_input']);
  return input && { tool, input };
}

/** Does here what the call has done there. Done again, it changes nothing more. What is malformed in it is passed over. */
export async function applyMemoryCall(
  memory: Memory,
  request: RequestContext,
  { tool, input }: MemoryCall,
): Promise<void> {
  const list = (name: string) =>
    (Array.isArray(input[name]) ? input[name] : []).map(objectOf).filter((one) => one !== undefined);
  switch (tool) {
    case 'create_entities':
      await memory.createEntities(request, list('entities').flatMap(toEntity));
      return;
    case 'create_relations':
      await memory.createRelations(request, list('relations').flatMap(toRelation));
      return;
    case 'add_observations': {
      const additions = list('observations').flatMap((one) => {
        const entityName = textOf(one, 'entityName');
        return entityName === undefined ? [] : [{ entityName, contents: texts(one['contents']) }];
      });
      if (additions.length === 0) return;
      // The other server may have known them for longer than it was listened to.
      const names = [...new Set(additions.map(({ entityName }) => entityName))];
      const known = new Set((await memory.openNodes(request, names)).entities.map(({ name }) => name));
      const missing = names.filter((name) => !known.has(name));
      await memory.createEntities(
        request,
        missing.map((name) => ({ name, entityType: 'unknown', observations: [] })),
      );
      await memory.addObservations(request, additions);
      return;
    }
    case 'delete_entities':
      await memory.deleteEntities(request, texts(input['entityNames']));
      return;
    case 'delete_observations':
      await memory.deleteObservations(
        request,
        list('deletions').flatMap((one) => {
          const entityName = textOf(one, 'entityName');
          return entityName === undefined ? [] : [{ entityName, observations: texts(one['observations']) }];
        }),
      );
      return;
    default:
      await memory.deleteRelations(request, list('relations').flatMap(toRelation));
  }
}

/** The contexts of the entities and relations that a call is about. */
export function nodesOf({ input }: MemoryCall): string[] {
  const items = Object.values(input).flatMap((value) => (Array.isArray(value) ? value : []));
  const ids = items.flatMap((one) => {
    const of = objectOf(one);
    const names = of === undefined ? [one] : [of['name'], of['entityName'], of['from'], of['to']];
    const entities = names.filter((name): name is string => typeof name === 'string' && name !== '').map(entityId);
    return of === undefined ? entities : [...entities, ...toRelation(of).map(relationId)];
  });
  return [...new Set(ids)];
}

const texts = (value: unknown) =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];

function toEntity(one: Readonly<Record<string, unknown>>): Entity[] {
  const name = textOf(one, 'name');
  return name === undefined
    ? []
    : [{ name, entityType: textOf(one, 'entityType') ?? 'unknown', observations: texts(one['observations']) }];
}

function toRelation(one: Readonly<Record<string, unknown>>): Relation[] {
  const [from, to, relationType] = [textOf(one, 'from'), textOf(one, 'to'), textOf(one, 'relationType')];
  return from === undefined || to === undefined || relationType === undefined ? [] : [{ from, to, relationType }];
}
