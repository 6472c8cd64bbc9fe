import {
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  ResourceNotFoundError,
} from '@modelcontextprotocol/server';
import { Problem } from '../base/problem.ts';
import { readCursor, writeCursor } from '../http/cursor.ts';
import { jsonType } from '../merge/document.ts';
import { contextUri, readPart } from './content.ts';
import { narrowerGraph, requireFitting, type Session } from './tool.ts';

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

const partsAdvice = 'Read parts of it with ?start=&length=.';

/**
 * Reads a resource.
 *
 * @throws ResourceNotFoundError for what is not there, ProtocolError for what cannot be told.
 */
export async function readResource(session: Session, uri: string): Promise<ReadResourceResult> {
  try {
    const isGraph = uri === graphUri;
    const content = isGraph ? await readGraph(session) : await readContext(session, readUri(uri));
    const result = { contents: [{ uri, ...content }] };
    requireFitting(session, result, isGraph ? narrowerGraph : partsAdvice);
    return result;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (['context_not_found', 'version_not_found', 'gone'].includes(error.code)) throw new ResourceNotFoundError(uri);
    const code = error.status >= 500 ? ProtocolErrorCode.InternalError : ProtocolErrorCode.InvalidParams;
    throw Object.assign(new ProtocolError(code, `${error.code}: ${error.message}`), { cause: error });
  }
}

async function readGraph({ manager, request }: Session) {
  return { mimeType: jsonType, text: JSON.stringify(await manager.memory.readGraph(request), null, 2) };
}

async function readContext(session: Session, { version, start, length, id }: ReturnType<typeof readUri>) {
  const { manager, request } = session;
  const { value } = await manager.contexts.read(request, id, version === undefined ? undefined : { version });
  const { inlineBytes } = manager.settings.limits;
  if (start === undefined && length === undefined && value.sizeBytes > inlineBytes) {
    const { sizeBytes } = value;
    const message = `The content has ${sizeBytes} bytes, and ${inlineBytes} can be read at once. ${partsAdvice}`;
    throw new Problem('context_too_large', message, { sizeBytes, limitBytes: inlineBytes });
  }
  const part = await readPart(session, value, {
    start: start ?? 0,
    length: Math.min(length ?? inlineBytes, inlineBytes),
  });
  return { mimeType: value.contentType ?? jsonType, text: part.text };
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
