import { sha256 } from '../base/hash.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { Cached, Loaded } from '../cache/answers.ts';
import type { Cache } from '../cache/cache.ts';
import type { Explanation, Held } from '../cache/explain.ts';
import type { Kind } from '../cache/kind.ts';
import type { Settings } from '../config/settings.ts';
import type { Database } from '../postgres/database.ts';
import { explainEntry, keepEntry } from './cache.sql.ts';
import type { Context, ContextHead } from './context.ts';
import { type Effective, foldChain } from './effective.ts';
import { absentItem, anyItem, contextItem, headDeps, invalidatedItem, parentItem } from './items.ts';
import type { CachedHead, CachedList, ContextKinds } from './kinds.ts';
import {
  type ListPage,
  readAncestry,
  readAncestryOrEntry,
  readHead,
  readList,
  readMany,
  readTree,
} from './read.sql.ts';
import { type RequestContext, type SpaceRef, systemRequest } from './request.ts';
import type { LoadRequest, Read } from './snapshot.ts';
import { type At, createThrough, toFeed, toLoaded } from './through.ts';

/** What is read through the caches; each is one request to PostgreSQL where no layer has it. */
export interface CachedReads {
  /** Heads as they stand, tombstones included, in the order asked; null for an id without a context. */
  heads(request: RequestContext, ids: readonly string[]): MaybePromise<Pick<Cached<CachedHead>, 'values' | 'seq'>>;
  /** The context and its live ancestors, root first, without contents. */
  ancestry(request: RequestContext, id: string): MaybePromise<At<readonly Context[]>>;
  effective(request: RequestContext, id: string): Promise<At<Effective>>;
  list(request: RequestContext, page: ListPage): MaybePromise<At<CachedList>>;
  /** The live subtree, breadth first, root first; one context more than `nodesMax` where there are more. */
  tree(
    request: RequestContext,
    id: string,
    bounds: { readonly levels: number; readonly nodesMax: number },
  ): MaybePromise<At<readonly ContextHead[]>>;
  /** Has layer 2 hold these heads. */
  warmHeads(space: SpaceRef, ids: readonly string[]): Promise<{ warmed: number; held: number }>;
  /** Has the layers hold an effective context; false where they did already. */
  warmEffective(space: SpaceRef, id: string): Promise<boolean>;
  /** What each layer holds of a context, or of it with its ancestors folded in, and whether it would be served. */
  explain(request: RequestContext, id: string, kind: 'head' | 'effective'): Promise<Explanation & { l3: Held }>;
  /** Brings layer 2 up to PostgreSQL's clock. */
  repair(space: SpaceRef): Promise<void>;
}

export function createCachedReads(deps: {
  database: Database;
  cache: Cache;
  kinds: ContextKinds;
  settings: Settings;
}): CachedReads {
  const { database, cache, kinds, settings } = deps;
  const { inlineBytes } = settings.limits;
  const { layer3Bytes } = settings.cache;
  const { toLoad, through, throughOne } = createThrough({ cache, originMs: settings.cache.originMs });

  async function loadHeads(asked: LoadRequest, wanted: readonly string[]): Promise<Loaded<CachedHead>> {
    const [only] = wanted;
    const { value, seq, feed } =
      wanted.length === 1 && only !== undefined
        ? await readHead(database, asked, only, inlineBytes).then((read) => ({ ...read, value: [read.value] }))
        : await readMany(database, asked, wanted, inlineBytes);
    const values = value.map((head, index) => ({
      value: head,
      deps: head === null ? [contextItem(wanted[index] as string), absentItem] : headDeps(head),
      // Of many the last may have been too much for one answer; alone it would not be.
      isPassing: head !== null && head.state === 'live' && head.content === undefined && head.sizeBytes <= inlineBytes,
    }));
    return { values, ...toFeed({ seq, feed }) };
  }

  const effective = (request: RequestContext, id: string): MaybePromise<Cached<Effective>> =>
    through(request, kinds.effective, [id], async (asked) => {
      const isInLayer3 = kinds.effective.layers.includes('l3') && !asked.noCache;
      let unreadable = 0;
      if (isInLayer3) {
        const of = { kind: kinds.effective.name, inlineBytes };
        const { value, ...read } = await readAncestryOrEntry(database, asked, id, of);
        if ('chain' in value) return fold(asked, id, value.chain, read);
        const found = fromEntry(id, value.entry);
        if (found !== undefined) {
          const loaded = toLoaded(found.value, found.deps, read);
          return { ...loaded, values: loaded.values.map((one) => ({ ...one, isFromLayer3: true })) };
        }
        unreadable = 1;
      }
      const { value, ...read } = await readAncestry(database, asked, id, inlineBytes);
      return { ...(await fold(asked, id, value, read)), unreadable };
    });

  /** What layer 3 kept; undefined where it is damaged, of another format, or over by now. */
  function fromEntry(id: string, entry: string): { value: Effective; deps: string[] } | undefined {
    try {
      const { deps: items, body } = JSON.parse(entry) as { deps: string[]; body: string };
      const value = kinds.effective.decode(body, id);
      return cache.isFresh(kinds.effective, value) ? { value, deps: items } : undefined;
    } catch {
      return undefined;
    }
  }

  async function fold(asked: LoadRequest, id: string, chain: readonly Context[], read: Omit<Read<unknown>, 'value'>) {
    const folded = foldChain(chain, { inlineBytes, nowMs: read.nowMs });
    const items = chainDeps(id, chain);
    const isKept = kinds.effective.layers.includes('l3') && chain.length > 1;
    if (isKept) await keep(asked, kinds.effective, { id, items, at: read.seq, nowMs: read.nowMs }, folded);
    return toLoaded(folded, items, read);
  }

  return {
    heads: (request, ids) => through(request, kinds.head, ids, loadHeads),

    ancestry: (request, id) =>
      throughOne(request, kinds.ancestry, id, async (asked) => {
        const { value, ...read } = await readAncestry(database, asked, id, -1);
        return toLoaded(value, chainDeps(id, value), read);
      }),

    async effective(request, id) {
      const { values, seq } = await effective(request, id);
      return { value: values[0] as Effective, seq };
    },

    warmEffective: async (space, id) => {
      const { layers } = await effective(systemRequest(space, 'warm'), id);
      return layers[0] === 'origin' || layers[0] === 'l3';
    },

    list: (request, page) =>
      throughOne(request, kinds.list, sha256(JSON.stringify(page)), async (asked) => {
        const { value, ...read } = await readList(database, asked, page);
        const { filter, of } = page;
        const isOfChildren = of !== undefined && of === filter.parentId;
        const items = isOfChildren ? [parentItem(of), contextItem(of), absentItem] : [anyItem];
        return toLoaded(value, [...items, invalidatedItem], read);
      }),

    tree: (request, id, bounds) =>
      throughOne(request, kinds.tree, `${bounds.levels}:${bounds.nodesMax}:${id}`, async (asked) => {
        const { value, ...read } = await readTree(database, asked, id, bounds);
        const items = [contextItem(id), absentItem, ...value.map((node) => parentItem(node.id)), invalidatedItem];
        return toLoaded(value, items, read);
      }),

    warmHeads: (space, ids) =>
      cache.warm(space.slot, kinds.head, ids, (wanted, after) =>
        loadHeads(toLoad(systemRequest(space, 'warm'), after), wanted),
      ),

    async explain(request, id, name) {
      const near =
        name === 'head'
          ? await cache.explain(request, kinds.head, id)
          : await cache.explain(request, kinds.effective, id);
      const isInLayer3 = kinds[name].layers.includes('l3');
      const entry = isInLayer3 ? await explainEntry(database, request, name, id) : null;
      const why =
        entry === null
          ? isInLayer3
            ? 'not held'
            : 'this kind is not kept in layer 3'
          : entry.isOver
            ? 'held, and its time is over'
            : entry.isUntouched
              ? 'found by who asks PostgreSQL'
              : 'held, and touched since';
      return { ...near, l3: { isHeld: entry !== null, at: entry?.at ?? null, deps: entry?.deps ?? [], why } };
    },

    repair: (space) =>
      cache.repair(space.slot, async (after) => {
        const asked = toLoad(systemRequest(space, 'reconcile'), after);
        return { values: [], ...toFeed(await readMany(database, asked, [], 0)) };
      }),
  };

  /** Puts an answer that is dear enough into layer 3; whatever goes wrong there costs the next reader time alone. */
  async function keep<Value>(
    request: LoadRequest,
    kind: Kind<Value>,
    of: { readonly id: string; readonly at: number; readonly items: readonly string[]; readonly nowMs: number },
    value: Value,
  ): Promise<void> {
    const body = await kind.encode(value, of.id);
    if (body === null || body.length < layer3Bytes) return;
    // It ends with what it was made of.
    const leftMs = Math.min(kind.ttlMs(value), (kind.expiresMs(value) ?? Number.POSITIVE_INFINITY) - of.nowMs);
    const entry = { kind: kind.name, key: of.id, at: of.at, deps: of.items, ttlSeconds: leftMs / 1000 };
    await keepEntry(database, request, entry, body).catch(() => {});
  }
}

/** What an answer made of a chain depends on: each of it, and the one above it that was not there or not alive. */
function chainDeps(id: string, chain: readonly ContextHead[]): string[] {
  const above = chain[0]?.parentId ?? null;
  const items = [id, ...chain.map((one) => one.id), ...(above === null ? [] : [above])].map(contextItem);
  return [...new Set([...items, absentItem, invalidatedItem])];
}
