import { type JsonObject, printPlain, toPlain } from '../base/json.ts';
import { parseJsonKeeping } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import { createLaminaCalls, type LaminaCalls, readBody } from './lamina-calls.ts';
import {
  bytesOf,
  isAbsent,
  isOfHash,
  printTold,
  type Raws,
  rawKeys,
  sizeOf,
  type Told,
  toRefused,
  toSent,
  toValue,
  type Untold,
} from './lamina-json.ts';
import { pushByUpload } from './lamina-upload.ts';
import type { OpenOptions, PeerDefinition, PeerSession, Push, Pushed, Reading, Survey } from './peer.ts';
import { createWholeLens } from './value.ts';

// What the other side's interface takes at once: CONTRACT of the batch routes and lists.
const batchItems = 100;
const listItems = 200;
// The inline endpoints take 4 MiB of body; some of it is not content. What is larger goes by an upload.
const bodyBytesMax = 4_000_000;
const goneOperations = ['delete', 'expire', 'erase'];
// More contexts than a space is made for.
const itemsMax = 5_000_000;

/**
 * Opens a connection to another Lamina, by the interface that every program uses: its lists and its change feed to see what
 * is there, its batches to read and write, each write on condition that nobody has written since it was read.
 */
export async function openLaminaPeer(
  { transport, subtree }: PeerDefinition,
  { answerMs, contextBytes, signal }: OpenOptions,
): Promise<PeerSession> {
  if (!('url' in transport)) throw new Problem('unprocessable', 'A peer of type lamina is reached by its url.');
  const calls = createLaminaCalls({ url: transport.url, headers: transport.headers ?? {}, answerMs });
  const feed = createFeed(calls, subtree);
  const items = createItems(calls, { subtree, contextBytes, goneAtMs: feed.goneAtMs });
  signal.addEventListener('abort', calls.close);
  calls.present(await feed.latest().finally(() => signal.removeEventListener('abort', calls.close)));
  return {
    lens: createWholeLens(subtree),

    async survey(since) {
      items.forget();
      calls.present(undefined);
      const found = since === null ? await feed.list() : await feed.follow(since).catch(unlessLost(feed.list));
      // What is read from now on is not to be older than what the feed has told.
      calls.present(found.cursor);
      return found;
    },
    below: (id) => feed.below(id),
    read: (ids, bytesMax) => items.read(ids, bytesMax),
    push: (changes) => items.push(changes),
    close: async () => calls.close(),
  };
}

/** What another Lamina holds and what has changed there, by its lists and its change feed. */
function createFeed(calls: LaminaCalls, subtree: string | undefined) {
  type Page<Name extends string, Item> = { readonly [Key in Name]: readonly Item[] } & {
    readonly nextCursor: string | null;
  };
  type Listed = Told & { readonly metadata: object };
  const goneAt = new Map<string, number>();

  async function latest(): Promise<string> {
    const none = new Problem('unprocessable', 'The peer has no change feed: is it a Lamina?');
    const { nextCursor } = await calls
      .askJson<{ nextCursor?: unknown }>('/v1/changes?since=latest&limit=1')
      .catch((error) => {
        throw error instanceof Problem && error.code === 'not_found' ? none : error;
      });
    if (typeof nextCursor !== 'string') throw none;
    return nextCursor;
  }

  /** All contexts, or those below `root`. */
  async function* listed(root: string | undefined): AsyncGenerator<Listed> {
    const of = root === undefined ? '' : `&subtreeOf=${root}`;
    let count = 0;
    for (let next: string | null = ''; next !== null; ) {
      const from: string = next === '' ? '' : `&cursor=${encodeURIComponent(next)}`;
      const page: Page<'items', Listed> = await calls.askJson(`/v1/contexts?limit=${listItems}${of}${from}`);
      yield* page.items;
      count += page.items.length;
      if (page.nextCursor !== null && (page.nextCursor === next || count > itemsMax)) throw endless();
      next = page.nextCursor;
    }
  }

  return {
    latest,
    /** When a context was seen to be deleted there; undefined where that was not told. */
    goneAtMs: (id: string) => goneAt.get(id),

    async below(id: string): Promise<readonly string[]> {
      const ids: string[] = [];
      for await (const told of listed(id)) ids.push(told.id);
      return ids;
    },

    async list(): Promise<Survey> {
      const cursor = await latest();
      const items = new Map<string, string>();
      const add = (told: Listed) => items.set(told.id, printTold(told, JSON.stringify(told.metadata), subtree));
      const root = subtree && (await calls.askJson<Listed>(`/v1/contexts/${subtree}`).catch(unlessAbsent));
      if (root) add(root);
      if (subtree === undefined || root) for await (const told of listed(subtree)) add(told);
      return { isWhole: true, items, cursor, refused: [] };
    },

    async follow(since: string): Promise<Survey> {
      const items = new Map<string, null | undefined>();
      for (let cursor = since; ; ) {
        type Change = { readonly id: string; readonly operation: string; readonly at: string };
        const page: Page<'changes', Change> = await calls.askJson(`/v1/changes?since=${cursor}&limit=${listItems}`);
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
    },
  };
}

/** Reads and writes the contexts of another Lamina by its batches. */
function createItems(
  calls: LaminaCalls,
  of: {
    readonly subtree: string | undefined;
    readonly contextBytes: number;
    readonly goneAtMs: (id: string) => number | undefined;
  },
) {
  const { subtree, contextBytes, goneAtMs } = of;
  // What this connection has seen: versions that writes build on, and what lies in the subtree.
  const versions = new Map<string, number>();
  const within = new Map<string, boolean>();

  /** Asks for a list of objects with their spelling: `items` or `results`. */
  async function ask(path: string, body: string, list: string): Promise<{ found: JsonObject[]; raws: Raws }> {
    const { value, raws } = parseJsonKeeping(await calls.askText(path, body), rawKeys);
    return { found: ((value as JsonObject).get(list) ?? []) as JsonObject[], raws };
  }

  /** Whether a context with this parent lies in the subtree on the other side; undefined where the parent is not there. */
  async function isWithin(id: string, parentId: string | null): Promise<boolean | undefined> {
    if (subtree === undefined || id === subtree) return true;
    if (parentId === null) return false;
    if (parentId === subtree) return true;
    const known = within.get(parentId);
    if (known !== undefined) return known;
    type Ancestors = { readonly items: readonly { readonly id: string }[] };
    const answer = await calls.askJson<Ancestors>(`/v1/contexts/${parentId}/ancestors`).catch(unlessAbsent);
    const is = answer?.items.some((one) => one.id === subtree);
    if (is !== undefined) within.set(parentId, is);
    return is;
  }

  async function readOne(id: string, told: Told & Partial<Untold>, raws: Raws, item: JsonObject): Promise<Reading> {
    const { code } = told;
    if (code !== undefined) {
      versions.set(id, told.version ?? 0);
      if (isAbsent({ code })) return { held: null, goneMs: goneAtMs(id) };
      return { refused: `The peer does not tell it: ${told.detail ?? code}` };
    }
    versions.set(id, told.version);
    if (told.id !== id) return { refused: 'The peer answers with another context than was asked for.' };
    const updatedMs = Date.parse(told.updatedAt);
    if (!(await isWithin(id, told.parentId))) return { held: null, goneMs: updatedMs, isOutside: true };
    const raw = (name: string) => raws.get(item)?.get(name)?.raw;
    const bytes =
      told.contentUrl === undefined ? bytesOf(told, raw('content') ?? 'null') : await readContent(told.contentUrl);
    if (bytes === undefined)
      return { refused: `It is larger than the ${contextBytes} bytes that a context holds here.` };
    if (!isOfHash(told, bytes)) return { refused: 'The peer tells a content that is not of the hash it names.' };
    const value = toValue(told, { bytes, metadata: raw('metadata') ?? '{}', root: subtree });
    return { held: { value, updatedMs }, version: told.version };
  }

  /** A content that is too large for a list; undefined where it is too large for here. */
  async function readContent(contentUrl: string): Promise<Uint8Array | undefined> {
    if (!contentUrl.startsWith('/v1/contexts/'))
      throw new Problem('unprocessable', 'The peer names a content that is not its own.');
    const response = await calls.ask(contentUrl);
    if (!response.ok) throw new Problem('unavailable', 'The peer does not tell a content.');
    return readBody(response, contextBytes);
  }

  /** Sends operations, and answers with what the other side holds then. */
  async function write(changes: readonly Push[]): Promise<[string, Pushed][]> {
    const operations = changes.map(({ id, to }) => toSent(id, to, versions.get(id) ?? 0, subtree));
    const { found, raws } = await ask('/v1/batch/write', printPlain({ operations }), 'results');
    return found.flatMap((result): [string, Pushed][] => {
      const { index, context } = toPlain(result) as { index?: number; context?: { id?: string } };
      const change = changes[index ?? -1];
      if (change === undefined || (context !== undefined && context.id !== change.id)) return [];
      return [[change.id, toPushed(change, result, raws)]];
    });
  }

  function toPushed({ id, to }: Push, result: JsonObject, raws: Raws): Pushed {
    const problem = toPlain(result.get('problem') ?? null) as Untold | null;
    if (problem !== null) return toRefused(problem, to === null);
    const context = result.get('context') as JsonObject;
    const told = toPlain(context) as Told;
    versions.set(id, told.version);
    if (to === null || !isOfHash(told, to.bytes)) return { value: null };
    const metadata = raws.get(context)?.get('metadata')?.raw ?? '{}';
    return { value: toValue(told, { bytes: to.bytes, metadata, root: subtree }) };
  }

  return {
    /** What was seen counts no more. */
    forget(): void {
      versions.clear();
      within.clear();
    },

    async read(ids: readonly string[], bytesMax: number): Promise<ReadonlyMap<string, Reading>> {
      const readings = new Map<string, Reading>();
      let bytes = 0;
      for (let at = 0; at < ids.length && bytes <= bytesMax; at += batchItems) {
        const asked = ids.slice(at, at + batchItems);
        const { found, raws } = await ask('/v1/batch/get', JSON.stringify({ ids: asked }), 'items');
        for (const [place, id] of asked.entries()) {
          const item = found[place];
          if (item === undefined) continue;
          const reading = await readOne(id, toPlain(item) as Told & Partial<Untold>, raws, item);
          readings.set(id, reading);
          bytes += 'held' in reading ? (reading.held?.value.bytes.length ?? 0) : 0;
          if (bytes > bytesMax) break;
        }
      }
      return readings;
    },

    async push(changes: readonly Push[]): Promise<ReadonlyMap<string, Pushed>> {
      const done = new Map<string, Pushed>();
      let batch: Push[] = [];
      let bytes = 0;
      const flush = async () => {
        if (batch.length > 0) for (const [id, pushed] of await write(batch)) done.set(id, pushed);
        [batch, bytes] = [[], 0];
      };
      for (const change of changes) {
        const size = change.to === null ? 100 : sizeOf(change.to);
        const isLost = change.to !== null && (await isWithin(change.id, change.to.parentId)) === false;
        if (isLost) {
          done.set(change.id, outside);
          continue;
        }
        if (change.to !== null && size > bodyBytesMax) {
          // What comes before it may be its parent.
          await flush();
          const of = { ifVersion: versions.get(change.id) ?? 0, root: subtree };
          const { result, raws } = await pushByUpload(calls, { id: change.id, to: change.to }, of);
          done.set(change.id, toPushed(change, result, raws));
          continue;
        }
        if (batch.length === batchItems || bytes + size > bodyBytesMax) await flush();
        batch.push(change);
        bytes += size;
      }
      await flush();
      return done;
    },
  };
}

const outside: Pushed = { refused: 'At the peer its parent lies outside the subtree.', isPlace: true };
const endless = () => new Problem('unprocessable', 'The pages of the peer do not come to an end: is it a Lamina?');

function unlessAbsent(error: unknown): undefined {
  if (error instanceof Problem && (error.code === 'not_found' || error.code === 'cursor_expired')) return undefined;
  throw error;
}

/** A cursor ahead of its clock, or from before what its feed still holds: it was set back, or is another store by now. */
const unlessLost = (list: () => Promise<Survey>) => (error: unknown) => {
  if (error instanceof Problem && ['cursor_expired', 'invalid_request'].includes(error.code)) return list();
  throw error;
};
