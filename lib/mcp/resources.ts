import { ProtocolError, ProtocolErrorCode, ResourceNotFoundError } from '@modelcontextprotocol/server';
import { Problem } from '../base/problem.ts';
import { readCursor, writeCursor } from '../http/cursor.ts';
import { jsonType } from '../merge/document.ts';
import { contextUri, readPart } from './content.ts';
import type { Session } from './tool.ts';

export const graphUri = 'memory://knowledge-graph';

const graphResource = {
  uri: graphUri,
  name: 'knowledge-graph',
  title: 'Knowledge Graph',
  description: 'Everything the memory tools remember: entities and relations.',
  mimeType: jsonType,
};

/** What `resources/templates/list` answers. */
export const resourceTemplates = [
  {
    uriTemplate: 'context://{id}{?version,start,length}',
    name: 'context',
    title: 'Context',
    description: 'A stored context by id: the newest version or the one named, all of it or a part in bytes.',
  },
];

const pageSize = 100;
const asked = { resources: 'context' };

/** One page of resources: the graph, then the contexts by id. */
export async function listResources({ manager, request }: Session, cursor: string | undefined) {
  const [id] = readPlace(cursor) ?? [];
  const page = {
    filter: {},
    order: 'id' as const,
    limit: pageSize,
    after: id === undefined ? undefined : { id, updatedMs: 0 },
  };
  const { value } = await manager.contexts.list(request, page);
  const contexts = value.items.map((context) => ({
    uri: contextUri(context.id),
    name: context.id,
    description: `${context.kind}, version ${context.version}`,
    mimeType: context.contentType ?? jsonType,
    size: context.sizeBytes,
    annotations: { lastModified: new Date(context.updatedMs).toISOString() },
  }));
  const last = value.items.at(-1);
  return {
    resources: id === undefined ? [graphResource, ...contexts] : contexts,
    ...(value.hasMore && last ? { nextCursor: writeCursor(asked, [last.id]) } : {}),
  };
}

/** @throws ProtocolError −32602 for a cursor that is none of ours. */
function readPlace(cursor: string | undefined) {
  try {
    return readCursor(asked, cursor, ['id']);
  } catch {
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'The cursor is none that this list has given out.');
  }
}

/**
 * Reads a resource.
 *
 * @throws ResourceNotFoundError for what is not there, ProtocolError for what cannot be told.
 */
export async function readResource(session: Session, uri: string) {
  if (uri === graphUri) {
    const graph = await told(() => session.manager.memory.readGraph(session.request));
    const text = JSON.stringify(graph, null, 2);
    requireFitting(session, text.length, 'use the tools search_nodes and open_nodes');
    return { contents: [{ uri, mimeType: jsonType, text }] };
  }
  const { id, version, start, length } = readUri(uri);
  const { value } = await told(() =>
    session.manager.contexts.read(session.request, id, version === undefined ? undefined : { version }),
  ).catch((error) => {
    const isMissing = error instanceof ProtocolError && isNotFound(error.cause);
    throw isMissing ? new ResourceNotFoundError(uri) : error;
  });
  const { sizeBytes } = value;
  const mimeType = value.contentType ?? jsonType;
  if (start === undefined && length === undefined)
    requireFitting(session, sizeBytes, 'read parts with ?start=&length=');
  const most = session.manager.settings.limits.inlineBytes;
  const part = await told(() =>
    readPart(session, value, { start: start ?? 0, length: Math.min(length ?? most, most) }),
  );
  return { contents: [{ uri, mimeType, text: part.text }] };
}

const isNotFound = (cause: unknown) =>
  cause instanceof Problem && ['context_not_found', 'version_not_found', 'gone'].includes(cause.code);

function requireFitting({ manager }: Session, sizeBytes: number, advice: string): void {
  const { inlineBytes } = manager.settings.limits;
  if (sizeBytes <= inlineBytes) return;
  const message = `context_too_large: it has ${sizeBytes} bytes, ${inlineBytes} can be read at once; ${advice}.`;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, message);
}

/** `context://<id>`, the id raw or percent-encoded, with `version`, `start` and `length`. */
function readUri(uri: string) {
  const [, encoded = '', query = ''] = /^context:\/\/([^?#]*)\??([^#]*)$/.exec(uri) ?? [];
  const params = new URLSearchParams(query);
  const number = (name: string) => {
    const text = params.get(name);
    if (text === null) return undefined;
    if (!/^\d{1,9}$/.test(text)) throw new ResourceNotFoundError(uri);
    return Number(text);
  };
  const isKnown = [...params.keys()].every((key) => ['version', 'start', 'length'].includes(key));
  const id = decode(encoded);
  if (!isKnown || id === undefined || !/^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$/.test(id)) {
    throw new ResourceNotFoundError(uri);
  }
  return { id, version: number('version'), start: number('start'), length: number('length') };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Runs a verb, its problems turned into errors of the protocol. */
async function told<Value>(run: () => Promise<Value>): Promise<Value> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const code = error.status >= 500 ? ProtocolErrorCode.InternalError : ProtocolErrorCode.InvalidParams;
    throw Object.assign(new ProtocolError(code, `${error.code}: ${error.message}`), { cause: error });
  }
}
