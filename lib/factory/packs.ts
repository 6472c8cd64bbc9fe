import { sha256 } from '../base/hash.ts';
import { cutText } from '../base/text.ts';
import type { Cache } from '../cache/cache.ts';
import type { Settings } from '../config/settings.ts';
import type { Context } from '../contexts/context.ts';
import type { ContextFilter } from '../contexts/filter.ts';
import { anyItem, invalidatedItem } from '../contexts/items.ts';
import type { RequestContext } from '../contexts/request.ts';
import { createThrough, toLoaded } from '../contexts/through.ts';
import type { Database } from '../postgres/database.ts';
import { splitWords } from '../search/analysis.ts';
import type { Search, SearchHit } from '../search/search.ts';
import { personalPrefix } from './notes.ts';
import { type PackBase, readPackBase } from './pack.sql.ts';
import { type Candidate, choosePassages, printPack } from './pack.ts';
import { createPackKind } from './pack-kind.ts';
import { factoryPrefix, sessionContext, summaryContext } from './project.ts';

/** What a pack is asked for. */
export interface PackQuery {
  readonly project: string;
  /** The session that asks: what it has said itself it knows. */
  readonly session: string;
  /** What is asked of the agent; undefined where a session begins. */
  readonly prompt: string | undefined;
  /** Whether the session has lost what it knew, as after a compaction. */
  readonly isForgetful: boolean;
}

/** Packs of what matters for a project and a prompt. */
export interface Packs {
  /**
   * What an agent is told, within the budget and with its sources; null where there is nothing. Never anything of another
   * project, and nothing that was deleted. Two requests to PostgreSQL, or none from the caches.
   */
  pack(request: RequestContext, query: PackQuery): Promise<string | null>;
}

const baseMax = 20;
const baseBytesMax = 32_768;
const foundMax = 25;
const queryMax = 1000;
// Hits below this share of the best one are there because something has to be last.
const scoreShare = 0.25;
// Newer ones tell more; older ones are found by the search.
const summariesMax = 5;

export function createPacks(deps: { database: Database; cache: Cache; search: Search; settings: Settings }): Packs {
  const { database, cache, search, settings } = deps;
  const { packTokens, promptTokens } = settings.factory;
  const kind = createPackKind(settings);
  const { throughOne } = createThrough({ cache, originMs: settings.cache.originMs });

  /** @param request asks for nothing older than the base, so that the whole is not older either. */
  async function find(request: RequestContext, text: string, filter: ContextFilter) {
    // Quotes and minus signs of a prompt are no conditions.
    const query = cutText(text.replaceAll(/["“”]|(?<=^|\s)-+(?=\S)/g, ' ').trim(), queryMax);
    if (!/[\p{L}\p{N}]/u.test(query)) return { hits: [], pending: 0 };
    return search.search(request, {
      query,
      mode: 'hybrid',
      limit: foundMax,
      filter,
      groupBy: 'context',
      isIndexed: false,
    });
  }

  return {
    async pack(request, query) {
      const { project, prompt } = query;
      const key = sha256(JSON.stringify([query, packTokens, promptTokens]));
      const { value } = await throughOne(request, kind, key, async (asked) => {
        const scope = { prefix: factoryPrefix, root: project };
        // Its own may be among the summaries; for a prompt there are none.
        const summaries = prompt === undefined ? summariesMax + 1 : 0;
        const bounds = { scope, personal: personalPrefix, limit: baseMax, summaries, contentBytes: baseBytesMax };
        const { value: base, ...read } = await readPackBase(database, asked, bounds);
        // PostgreSQL is not at fault where nobody waits any more, so its requests end by themselves.
        request.signal?.().throwIfAborted();
        const text = prompt ?? subjectOf(base);
        const { hits, pending } = await find({ ...request, seq: read.seq, signal: asked.signal }, text, { scope });
        const passages = choosePassages(
          candidatesOf(base, hits, query),
          prompt === undefined ? packTokens : promptTokens,
        );
        const loaded = toLoaded(
          { text: printPack(passages), expiresMs: base.expiresMs },
          [anyItem, invalidatedItem],
          read,
        );
        // The index goes on without a tick. A leg of the search that comes back tells more, and nothing else: until the next
        // write it is not worth waiting for it again and again.
        const isPassing = pending > 0;
        return { ...loaded, values: loaded.values.map((one) => ({ ...one, isPassing: one.isPassing || isPassing })) };
      });
      return value.text;
    },
  };
}

/** What a session that begins is likely to be about: the project, and what the last one came to. */
function subjectOf({ project, summaries }: PackBase): string {
  const { title } = JSON.parse(project?.metadata ?? '{}') as { title?: unknown };
  return `${typeof title === 'string' ? title : ''} ${cutText(textOf(summaries[0]), queryMax)}`;
}

function candidatesOf(base: PackBase, hits: readonly SearchHit[], { session, prompt, isForgetful }: PackQuery) {
  const own = sessionContext(session);
  const isOwn = (id: string) => id === own || id.startsWith(`${own}:`);
  const isKnown = (id: string) => isOwn(id) && !(isForgetful && id === summaryContext(session));
  const best = hits[0]?.score ?? 0;
  const found = hits
    .filter(({ head, score }) => !isKnown(head.id) && head.kind !== 'project' && score >= best * scoreShare)
    .map(({ head, snippet }): Candidate => ({ id: head.id, version: head.version, kind: head.kind, text: snippet }));
  const told = {
    instructions: base.instructions.map(toCandidate),
    notes: base.notes.map(toCandidate),
    summaries: base.summaries
      .filter(({ id }) => !isKnown(id))
      .slice(0, summariesMax)
      .map(toCandidate),
  };
  if (prompt === undefined) return { ...told, found };
  // The session was told them when it began: of these only what the prompt has words of, indexed already or not.
  const words = new Set(wordsOf(prompt));
  const isAbout = ({ text }: Candidate) => wordsOf(text).some((word) => words.has(word));
  return { instructions: told.instructions.filter(isAbout), notes: told.notes.filter(isAbout), found, summaries: [] };
}

const wordsOf = (text: string) => splitWords(text, 'query').map(({ lexeme }) => lexeme);

const toCandidate = (context: Context): Candidate => {
  const { id, version, kind } = context;
  return { id, version, kind, text: textOf(context) };
};

function textOf(context: Context | undefined): string {
  if (context?.content === undefined) return '';
  const { content, contentType } = context;
  const text = Buffer.from(content.buffer, content.byteOffset, content.length).toString();
  if (contentType !== 'application/json') return text;
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'string' ? value : text;
  } catch {
    return text;
  }
}
