import { sha256 } from '../base/hash.ts';
import { type JsonObject, printPlain, toPlain } from '../base/json.ts';
import { parseJsonKeeping } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import { isTextType, jsonType } from '../merge/document.ts';
import type { PeerDefinition, PeerSession, Push, Pushed, Reading } from './peer.ts';
import { createWholeLens, printWhole, type Value } from './value.ts';

// What the other side's interface takes at once: CONTRACT of the batch routes and lists.
const batchItems = 100;
const listItems = 200;
// The inline endpoints take 4 MiB of body; some of it is not content.
const bodyBytesMax = 4_000_000;
const goneOperations = ['delete', 'expire', 'erase'];
const placeCodes = ['parent_not_found', 'parent_cycle', 'unprocessable'];

/** A context as another Lamina tells it. */
interface Told {
  readonly id: string;
  readonly parentId: string | null;
  readonly kind: string;
  readonly contentType: string;
  readonly version: number;
  readonly hash: string;
  readonly updatedAt: string;
  readonly expiresAt: string | null;
  readonly contentUrl?: string;
}
/** Why it tells none. */
interface Untold {
  readonly code: string;
  readonly detail?: string;
  readonly version?: number;
}

/**
 * Opens a connection to another Lamina, by the interface that every program uses: its lists and its change feed to see what
 * is there, its batches to read and write, each write on condition that nobody has written since it was read.
 */
export async function openLaminaPeer(
  { transport, subtree }: PeerDefinition,
  { answerMs, contextBytes }: { readonly answerMs: number; readonly contextBytes: number },
): Promise<PeerSession> {
  if (!('url' in transport)) throw new Problem('unprocessable', 'A peer of type lamina is reached by its url.');
  const { url, headers = {} } = transport;
  const lens = createWholeLens(subtree);
  // What this connection has seen: versions that writes build on, deletes by time, and what lies in the subtree.
  const versions = new Map<string, number>();
  const goneAt = new Map<string, number>();
  const within = new Map<string, boolean>();
  let seq: string | undefined;

  async function ask(path: string, body?: string): Promise<Response> {
    const sent = { ...headers, ...(seq ? { 'context-seq': seq } : {}), ...(body ? { 'content-type': jsonType } : {}) };
    const signal = AbortSignal.timeout(answerMs);
    // The token goes to the peer that was named, and to no other it may send us to.
    const init = { headers: sent, signal, redirect: 'error' as const, ...(body ? { method: 'POST', body } : {}) };
    return fetch(new URL(path, url), init).catch((error) => {
      throw new Problem('unavailable', 'The peer does not answer.', {}, error);
    });
  }

  async function askText(path: string, body?: string): Promise<string> {
    const response = await ask(path, body);
    const text = await response.text().catch((error) => {
      throw new Problem('unavailable', 'The peer breaks off its answer.', {}, error);
    });
    if (response.ok) return text;
    const { status } = response;
    if (status === 410) throw new Problem('cursor_expired', 'The feed of the peer no longer reaches back that far.');
    if (status === 404) throw new Problem('not_found', 'The peer has no such thing: is it a Lamina?');
    if (status === 400) throw new Problem('invalid_request', 'The peer answers with status 400: is it a Lamina?');
    if (status === 401 || status === 403)
      throw new Problem('unprocessable', 'The peer does not take the token, or not for this.');
    if (status >= 500 || status === 429) throw new Problem('unavailable', `The peer answers with status ${status}.`);
    throw new Problem('unprocessable', `The peer answers with status ${status}: is it a Lamina?`);
  }

  async function askJson<Answer>(path: string): Promise<Answer> {
    try {
      return JSON.parse(await askText(path)) as Answer;
    } catch (error) {
      throw error instanceof Problem
        ? error
        : new Problem('unprocessable', 'The peer answers with no JSON: is it a Lamina?', {}, error);
    }
  }

  type Page<Name extends string, Item> = { readonly [Key in Name]: readonly Item[] } & {
    readonly nextCursor: string | null;
  };

  /** Where the feed of the other side stands. */
  async function latest(): Promise<string> {
    const { nextCursor } = await askJson<{ nextCursor?: unknown }>('/v1/changes?since=latest&limit=1');
    if (typeof nextCursor !== 'string')
      throw new Problem('unprocessable', 'The peer has no change feed: is it a Lamina?');
    return nextCursor;
  }

  async function list() {
    const cursor = await latest();
    const items = new Map<string, string>();
    const add = (told: Told & { metadata: object }) =>
      items.set(told.id, printTold(told, JSON.stringify(told.metadata)));
    const root = subtree === undefined ? undefined : await askText(`/v1/contexts/${subtree}`).catch(unlessAbsent);
    if (root) add(JSON.parse(root) as Told & { metadata: object });
    const of = subtree === undefined ? '' : `&subtreeOf=${subtree}`;
    for (let next: string | null = ''; next !== null && !(subtree && !root); ) {
      const from: string = next === '' ? '' : `&cursor=${encodeURIComponent(next)}`;
      const page: Page<'items', Told & { metadata: object }> = await askJson(
        `/v1/contexts?limit=${listItems}${of}${from}`,
      );
      page.items.forEach(add);
      if (page.nextCursor !== null && (page.nextCursor === next || items.size > itemsMax)) throw endless();
      next = page.nextCursor;
    }
    return { isWhole: true, items, cursor, refused: [] };
  }

  async function follow(since: string) {
    const items = new Map<string, null | undefined>();
    for (let cursor = since; ; ) {
      type Change = { readonly id: string; readonly operation: string; readonly at: string };
      const page: Page<'changes', Change> = await askJson(`/v1/changes?since=${cursor}&limit=${listItems}`);
      for (const { id, operation, at } of page.changes) {
        const isGone = goneOperations.includes(operation);
        items.set(id, isGone ? null : undefined);
        if (isGone) goneAt.set(id, Date.parse(at));
      }
      const next = page.nextCursor ?? cursor;
      if (page.changes.length > 0 && Number(next) <= Number(cursor)) throw endless();
      cursor = next;
      if (page.changes.length < listItems) return { isWhole: false, items, cursor, refused: [] };
    }
  }

  function printTold({ id, kind, contentType, hash, parentId, expiresAt }: Told, metadata: string): string {
    const expiresMs = expiresAt === null ? null : Date.parse(expiresAt);
    const place = id === subtree ? null : parentId;
    return printWhole({ kind, contentType, hash: hash.replace('sha256:', ''), metadata, parentId: place, expiresMs });
  }

  /** Whether a context lies in the subtree on the other side: once for each parent. */
  async function isWithin(id: string, parentId: string | null): Promise<boolean> {
    if (subtree === undefined || id === subtree) return true;
    if (parentId === null) return false;
    if (parentId === subtree) return true;
    const known = within.get(parentId);
    if (known !== undefined) return known;
    const answer = await askText(`/v1/contexts/${parentId}/ancestors`).catch(unlessAbsent);
    const above = answer ? (JSON.parse(answer) as { items: { id: string }[] }).items : [];
    const is = above.some((one) => one.id === subtree);
    within.set(parentId, is);
    return is;
  }

  async function readOne(id: string, told: Told & Partial<Untold>, raws: Raws | undefined): Promise<Reading> {
    if (told.code !== undefined) {
      versions.set(id, told.version ?? 0);
      if (told.code === 'gone' || told.code === 'context_not_found') return { held: null, goneMs: goneAt.get(id) };
      return { refused: `The peer does not tell it: ${told.detail ?? told.code}` };
    }
    versions.set(id, told.version);
    if (told.id !== id) return { refused: 'The peer answers with another context than was asked for.' };
    if (!(await isWithin(id, told.parentId)))
      return { refused: 'At the peer a context of this id lies outside the subtree.' };
    const bytes = told.contentUrl === undefined ? bytesOf(told, raws) : await readContent(told);
    if (bytes === undefined)
      return { refused: `It is larger than the ${contextBytes} bytes that a context holds here.` };
    if (`sha256:${sha256(bytes)}` !== told.hash)
      return { refused: 'The peer tells a content that is not of the hash it names.' };
    const { kind, contentType, parentId, expiresAt } = told;
    const metadata = raws?.get('metadata')?.raw ?? '{}';
    const place = {
      parentId: id === subtree ? null : parentId,
      expiresMs: expiresAt === null ? null : Date.parse(expiresAt),
    };
    return { held: { value: { kind, contentType, bytes, metadata, ...place }, updatedMs: Date.parse(told.updatedAt) } };
  }

  function bytesOf({ contentType }: Told, raws: Raws | undefined): Uint8Array {
    const raw = raws?.get('content')?.raw ?? 'null';
    return Buffer.from(isTextType(contentType) ? (JSON.parse(raw) as string) : raw);
  }

  /** A content that is too large for a list; undefined where it is too large for here. */
  async function readContent({ contentUrl = '', hash }: Told): Promise<Uint8Array | undefined> {
    if (!contentUrl.startsWith('/v1/contexts/'))
      throw new Problem('unprocessable', 'The peer names a content that is not its own.');
    const response = await ask(contentUrl);
    if (!response.ok || response.body === null) throw new Problem('unavailable', 'The peer does not tell a content.');
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of response.body) {
      size += piece.length;
      if (size > contextBytes) return undefined;
      pieces.push(piece);
    }
    const bytes = Buffer.concat(pieces);
    if (`sha256:${sha256(bytes)}` !== hash)
      throw new Problem('unavailable', 'The peer has changed a content while it was read.');
    return bytes;
  }

  /** Sends operations, and answers with what the other side holds then. */
  async function write(changes: readonly Push[]): Promise<[string, Pushed][]> {
    const operations = changes.map(({ id, to }) => toSent(id, to, versions.get(id) ?? 0, subtree));
    const { value, raws } = parseJsonKeeping(await askText('/v1/batch/write', printPlain({ operations })), rawKeys);
    const results = ((value as JsonObject).get('results') ?? []) as JsonObject[];
    return results.flatMap((result): [string, Pushed][] => {
      const { index, context } = toPlain(result) as { index?: number; context?: { id?: string } };
      const change = changes[index ?? -1];
      if (change === undefined || (context !== undefined && context.id !== change.id)) return [];
      return [[change.id, toPushed(change, result, raws)]];
    });
  }

  function toPushed({ id, to }: Push, result: JsonObject, raws: Map<JsonObject, Raws>): Pushed {
    const problem = toPlain(result.get('problem') ?? null) as Untold | null;
    if (problem === null) {
      const told = result.get('context') as JsonObject;
      const { version, ...rest } = toPlain(told) as Told;
      versions.set(id, version);
      if (to === null || rest.hash !== `sha256:${sha256(to.bytes)}`) return { value: null };
      const { kind, contentType, parentId, expiresAt } = rest;
      const metadata = raws.get(told)?.get('metadata')?.raw ?? '{}';
      const expiresMs = expiresAt === null ? null : Date.parse(expiresAt);
      return {
        value: { kind, contentType, bytes: to.bytes, metadata, parentId: id === subtree ? null : parentId, expiresMs },
      };
    }
    if (to === null && (problem.code === 'gone' || problem.code === 'context_not_found')) return { value: null };
    if (problem.code === 'version_conflict') return { refused: 'At the peer somebody has just written it.' };
    return {
      refused: `The peer refuses it: ${problem.detail ?? problem.code}`,
      isPlace: placeCodes.includes(problem.code),
    };
  }

  seq = await latest();
  return {
    lens,

    async survey(since) {
      versions.clear();
      within.clear();
      seq = undefined;
      const found =
        since === null
          ? await list()
          : await follow(since).catch((error) => {
              // A cursor ahead of its clock: it was set back, or is another store by now.
              const isLost = error instanceof Problem && ['cursor_expired', 'invalid_request'].includes(error.code);
              if (isLost) return list();
              throw error;
            });
      // What is read from now on is not to be older than what the feed has told.
      seq = found.cursor;
      return found;
    },

    async read(ids) {
      const found = new Map<string, Reading>();
      for (let at = 0; at < ids.length; at += batchItems) {
        const asked = ids.slice(at, at + batchItems);
        const { value, raws } = parseJsonKeeping(
          await askText('/v1/batch/get', JSON.stringify({ ids: asked })),
          rawKeys,
        );
        const items = ((value as JsonObject).get('items') ?? []) as JsonObject[];
        for (const [place, id] of asked.entries()) {
          const item = items[place];
          if (item) found.set(id, await readOne(id, toPlain(item) as Told & Partial<Untold>, raws.get(item)));
        }
      }
      return found;
    },

    async push(changes) {
      const done = new Map<string, Pushed>();
      let batch: Push[] = [];
      let bytes = 0;
      const flush = async () => {
        if (batch.length > 0) for (const [id, pushed] of await write(batch)) done.set(id, pushed);
        [batch, bytes] = [[], 0];
      };
      for (const change of changes) {
        const size = change.to === null ? 100 : sizeOf(change.to);
        if (size > bodyBytesMax) {
          done.set(change.id, { refused: `It is larger than the ${bodyBytesMax} bytes that the peer takes at once.` });
          continue;
        }
        if (batch.length === batchItems || bytes + size > bodyBytesMax) await flush();
        batch.push(change);
        bytes += size;
      }
      await flush();
      return done;
    },

    close: async () => {},
  };
}

type Raws = Map<string, { readonly raw: string }>;
// Kept as the other side spells them.
const rawKeys = new Set(['content', 'metadata']);

// More contexts than a space is made for.
const itemsMax = 5_000_000;
const endless = () => new Problem('unprocessable', 'The pages of the peer do not come to an end: is it a Lamina?');

function unlessAbsent(error: unknown): undefined {
  if (error instanceof Problem && (error.code === 'not_found' || error.code === 'cursor_expired')) return undefined;
  throw error;
}

/** What a value takes in the body of a batch, at most. */
function sizeOf({ bytes, contentType, metadata }: Value): number {
  const content = isTextType(contentType)
    ? Buffer.byteLength(JSON.stringify(Buffer.from(bytes).toString()))
    : bytes.length;
  return Buffer.byteLength(metadata) + content + 1000;
}

function toSent(id: string, value: Value | null, ifVersion: number, root: string | undefined): object {
  if (value === null) return { op: 'delete', id, children: 'fail', ...(ifVersion > 0 ? { ifVersion } : {}) };
  const { bytes, contentType, kind, metadata, parentId, expiresMs } = value;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  const content = isTextType(contentType) ? text : { jsonText: text };
  const expiresAt = expiresMs === null ? null : new Date(expiresMs).toISOString();
  const place = id === root ? {} : { parentId };
  return {
    op: 'put',
    id,
    ifVersion,
    content,
    contentType,
    kind,
    metadata: { jsonText: metadata },
    expiresAt,
    ...place,
  };
}
