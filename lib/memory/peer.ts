import { Client, ProtocolError, SdkErrorCode, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Problem } from '../base/problem.ts';
import { entityId, relationId } from '../contexts/node-ids.ts';
import type { OpenOptions, PeerDefinition, PeerSession, Pushed, Reading, Refused } from '../sync/peer.ts';
import type { Value } from '../sync/value.ts';
import type { Entity, Graph, Relation } from './graph.ts';
import { type Call, toCalls } from './peer-calls.ts';
import { graphLens, readValue, toValue } from './peer-lens.ts';

/** A server's graph by the ids that its nodes have here. */
interface Pulled {
  readonly graph: Graph;
  readonly values: ReadonlyMap<string, Value>;
  readonly prints: ReadonlyMap<string, string>;
  readonly refused: readonly Refused[];
}

// What a server's whole graph may take on its way; over standard output 10 MiB is the SDK's default.
const graphBytesMax = 268_435_456;

/**
 * Opens a connection to an MCP memory server: the reference server, or any that has its tools. It is known by what its
 * tools take, since others have tools of the same names that do something else.
 */
export async function openMemoryPeer(
  { transport }: PeerDefinition,
  { answerMs, signal }: OpenOptions,
): Promise<PeerSession> {
  const client = new Client({ name: 'lamina-sync', version: '1' });
  const until = { timeout: answerMs, maxTotalTimeout: answerMs };
  const away = (error: unknown): never => {
    throw toProblem(error);
  };
  const end = () => void client.close().catch(() => {});
  signal.addEventListener('abort', end);
  try {
    await client.connect(toTransport(transport), until).catch(away);
    const { tools } = await client.request({ method: 'tools/list', params: {} }, until).catch(away);
    requireTools(tools);
  } catch (error) {
    await client.close().catch(() => {});
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
  }

  async function call(name: string, args: Record<string, unknown>) {
    const answer = await client.request({ method: 'tools/call', params: { name, arguments: args } }, until).catch(away);
    return answer as { isError?: boolean; content?: { text?: string }[]; structuredContent?: unknown };
  }

  let pulled: Pulled | undefined;
  async function pull(): Promise<Pulled> {
    const { isError, structuredContent } = await call('read_graph', {});
    const graph = isError ? undefined : readGraph(structuredContent);
    if (graph === undefined) {
      throw new Problem('unprocessable', 'The peer cannot read its own graph: its file may be damaged.');
    }
    pulled = toPulled(graph);
    return pulled;
  }

  /** Makes a call, in halves where it is refused as a whole; answers with the items that are refused by themselves. */
  async function send({ tool, argument, items }: Call): Promise<{ item: unknown; reason: string }[]> {
    const { isError, content } = await call(tool, { [argument]: items });
    if (!isError) return [];
    const reason = `The peer refuses it: ${(content?.[0]?.text ?? '').slice(0, 200)}`;
    if (items.length === 1) return [{ item: items[0], reason }];
    const half = Math.ceil(items.length / 2);
    const pieces = [items.slice(0, half), items.slice(half)];
    return (await send({ tool, argument, items: pieces[0] as unknown[] })).concat(
      await send({ tool, argument, items: pieces[1] as unknown[] }),
    );
  }

  return {
    lens: graphLens,

    // It tells nothing but all of it. A digest to compare would not do: what was lost after our own push looks as before it.
    async survey() {
      const { prints, refused } = await pull();
      return { isWhole: true, items: prints, cursor: 'all', refused };
    },

    async read(ids, bytesMax) {
      const { values, refused } = pulled ?? (await pull());
      const reasons = new Map(refused.map(({ id, reason }) => [id, reason]));
      const readings = new Map<string, Reading>();
      let bytes = 0;
      for (const id of ids) {
        const [reason, value] = [reasons.get(id), values.get(id)];
        // It does not tell when it has written anything: it counts as now.
        const held = value ? { value, updatedMs: Number.POSITIVE_INFINITY } : null;
        readings.set(id, reason === undefined ? { held, goneMs: Number.POSITIVE_INFINITY } : { refused: reason });
        bytes += value?.bytes.length ?? 0;
        if (bytes > bytesMax) break;
      }
      return readings;
    },

    async push(changes) {
      const { graph } = pulled ?? (await pull());
      const node = (value: Value | null) => value && readValue(value);
      const refusals: { item: unknown; reason: string }[] = [];
      for (const one of toCalls(
        changes.map(({ from, to }) => ({ from: node(from), to: node(to) })),
        graph,
      )) {
        refusals.push(...(await send(one)));
      }
      const reasons = new Map(refusals.map(({ item, reason }) => [idOf(item), reason]));
      const { values } = await pull();
      return new Map(
        changes.map(({ id }): [string, Pushed] => {
          const reason = reasons.get(id);
          return [id, reason === undefined ? { value: values.get(id) ?? null } : { refused: reason }];
        }),
      );
    },

    close: () => client.close(),
  };
}

function toTransport(transport: PeerDefinition['transport']) {
  if ('url' in transport) {
    const requestInit = { headers: { ...transport.headers } };
    return new StreamableHTTPClientTransport(new URL(transport.url), { requestInit, fetch: fetchBounded });
  }
  const { command, args, env } = transport;
  const process = { command, args: [...args], ...(env ? { env: { ...env } } : {}) };
  return new StdioClientTransport({ ...process, stderr: 'ignore', maxBufferSize: graphBytesMax });
}

/** An answer that breaks off where it is larger than any graph. */
async function fetchBounded(url: string | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(url, init);
  if (response.body === null) return response;
  let bytes = 0;
  const bound = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      bytes += piece.length;
      if (bytes > graphBytesMax) controller.error(new Error('The answer is too large.'));
      else controller.enqueue(piece);
    },
  });
  const { status, statusText, headers } = response;
  return new Response(response.body.pipeThrough(bound), { status, statusText, headers });
}

/** What a failed call of a server means: that it is away, or that it is none that can be spoken to like this. */
function toProblem(error: unknown): Problem {
  const { status, code } = (error ?? {}) as { status?: unknown; code?: unknown };
  if (status === 401 || status === 403) {
    return new Problem('unprocessable', 'The peer does not take the token, or not for this.', {}, error);
  }
  const isWrong = typeof status === 'number' && status >= 400 && status < 500 && status !== 408 && status !== 429;
  if (isWrong)
    return new Problem('unprocessable', `The peer answers with status ${status}: is it an MCP server?`, {}, error);
  if (code === SdkErrorCode.InvalidResult || error instanceof ProtocolError) {
    return new Problem('unprocessable', 'The peer answers with what a memory server does not.', {}, error);
  }
  return new Problem('unavailable', 'The peer does not answer, or ends before it has.', {}, error);
}

/** The id of what an item of a call is about. */
function idOf(item: unknown): string {
  if (typeof item === 'string') return entityId(item);
  const { name, entityName, ...relation } = item as Partial<Entity & { entityName: string }> & Relation;
  const entity = name ?? entityName;
  return entity === undefined ? relationId(relation) : entityId(entity);
}

// The list that each tool takes, and what its elements are made of.
const taken: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  create_entities: ['entities', ['name', 'entityType', 'observations']],
  create_relations: ['relations', ['from', 'to', 'relationType']],
  add_observations: ['observations', ['entityName', 'contents']],
  delete_entities: ['entityNames', []],
  delete_observations: ['deletions', ['entityName', 'observations']],
  delete_relations: ['relations', ['from', 'to', 'relationType']],
  read_graph: ['', []],
};

/** @throws Problem `unprocessable` where the tools are none of a memory server of the reference's kind. */
function requireTools(tools: readonly { readonly name: string; readonly inputSchema?: unknown }[]): void {
  const schemas = new Map(tools.map(({ name, inputSchema }) => [name, inputSchema]));
  const lacking = Object.entries(taken).find(([name, [list, members]]) => {
    type Schema = { properties?: Record<string, { items?: { properties?: object } }> };
    const properties = (schemas.get(name) as Schema | undefined)?.properties;
    if (!schemas.has(name)) return true;
    if (list === '') return false;
    const known = properties?.[list]?.items?.properties ?? {};
    return properties?.[list] === undefined || members.some((member) => !(member in known));
  });
  if (lacking === undefined) return;
  throw new Problem(
    'unprocessable',
    `The peer is no memory server of the reference's kind: it has no such tool ${lacking[0]}.`,
  );
}

const isText = (value: unknown): value is string => typeof value === 'string';

function readGraph(value: unknown): Graph | undefined {
  const { entities, relations } = (value ?? {}) as Partial<Graph>;
  if (!Array.isArray(entities) || !Array.isArray(relations)) return undefined;
  const isEntity = (one: Entity) =>
    isText(one?.name) && isText(one.entityType) && Array.isArray(one.observations) && one.observations.every(isText);
  const isRelation = (one: Relation) => isText(one?.from) && isText(one.to) && isText(one.relationType);
  return entities.every(isEntity) && relations.every(isRelation) ? { entities, relations } : undefined;
}

/** Of several entities of one name the first counts, with the observations of all: the server may hold such. */
function toPulled(graph: Graph): Pulled {
  const nodes = new Map<string, Entity | Relation>();
  for (const entity of graph.entities) {
    const id = entityId(entity.name);
    const first = nodes.get(id) as Entity | undefined;
    nodes.set(id, first ? { ...first, observations: [...first.observations, ...entity.observations] } : entity);
  }
  for (const relation of graph.relations) nodes.set(relationId(relation), relation);
  const values = new Map<string, Value>();
  const prints = new Map<string, string>();
  const refused: Refused[] = [];
  for (const [id, node] of nodes) {
    const value = toValue(node);
    const texts = 'name' in node ? [node.name, node.entityType, ...node.observations] : Object.values(node);
    if (!texts.every((text) => text.isWellFormed()))
      refused.push({ id, reason: 'It holds half a character, which no JSON text can.' });
    else {
      values.set(id, value);
      prints.set(id, graphLens.fingerprint(value));
    }
  }
  return { graph, values, prints, refused };
}
