import type { RequestContext } from '../lib/contexts/request.ts';
import { writeOne } from '../lib/contexts/written.ts';
import type { SearchQuery } from '../lib/search/search.ts';
import type { UnifiedContextManager } from '../lib/unified-context-manager.ts';

/** Texts that are searched, each a transcript or a note, and what is asked of them. */
export interface Collection {
  readonly documents: readonly { readonly id: string; readonly kind?: string; readonly text: string }[];
  /** `evidence` names the chunks that answer, as `id#ordinal`. */
  readonly questions: readonly { readonly query: string; readonly evidence: readonly string[] }[];
}

/** A way to search, by name. */
export interface Way {
  readonly name: string;
  readonly manager: UnifiedContextManager;
  readonly mode: SearchQuery['mode'];
}

/** Where each way put each piece of evidence, from 0; infinite where it did not find it. */
export interface Measured {
  readonly collection: number;
  readonly ranks: Readonly<Record<string, readonly number[]>>;
}

interface LocomoTurn {
  readonly speaker: string;
  readonly dia_id: string;
  readonly text: string;
  readonly blip_caption?: string;
}

/** Conversations as LoCoMo has them: a transcript for each session, questions of the categories 1–4 with their turns. */
export function readLocomo(
  data: readonly {
    conversation: Record<string, unknown>;
    qa: { question: string; category: number; evidence: string[] }[];
  }[],
): Collection[] {
  return data.map(({ conversation, qa }) => {
    const places = new Map<string, string>();
    const documents = Object.entries(conversation).flatMap(([name, turns]) => {
      if (!/^session_\d+$/.test(name) || !Array.isArray(turns)) return [];
      const lines = (turns as LocomoTurn[]).map(({ speaker, dia_id, text, blip_caption }, ordinal) => {
        places.set(dia_id, `${name}#${ordinal}`);
        return `${speaker}: ${`${text}${blip_caption ? ` [image: ${blip_caption}]` : ''}`.replaceAll(/\s+/g, ' ')}`;
      });
      return [{ id: name, kind: 'transcript', text: lines.join('\n') }];
    });
    const questions = qa.flatMap(({ question, category, evidence }) => {
      // Some name several turns at once, or write zeros before the number.
      const ids = evidence.flatMap((one) =>
        [...one.matchAll(/D:?(\d+):0*(\d+)/g)].map(([, session, turn]) => `D${session}:${turn}`),
      );
      const found = [...new Set(ids)].flatMap((id) => places.get(id) ?? []);
      return category >= 1 && category <= 4 && found.length > 0 ? [{ query: question, evidence: found }] : [];
    });
    return { documents, questions };
  });
}

const recall = (ranks: readonly number[], k: number) => ranks.filter((rank) => rank < k).length / ranks.length;

function ndcg(ranks: readonly number[], k: number): number {
  const gain = (rank: number) => (rank < k ? 1 / Math.log2(rank + 2) : 0);
  const best = ranks.map((_, at) => gain(at)).reduce((sum, one) => sum + one, 0);
  return ranks.reduce((sum, rank) => sum + gain(rank), 0) / best;
}

const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / Math.max(values.length, 1);

/**
 * Writes and indexes the documents, then asks each question in each way; all of them search the same database.
 *
 * @param onAnswer hears how long the last way took.
 */
export async function answerQuestions(
  of: { readonly request: RequestContext; readonly number: number; readonly ways: readonly [Way, ...Way[]] },
  { documents, questions }: Collection,
  onAnswer: (measured: Measured, tookMs: number) => void,
): Promise<void> {
  const { request, number, ways } = of;
  const [{ manager: writer }] = ways;
  for (const { id, text, kind } of documents) {
    const content = { bytes: Buffer.from(text), contentType: 'text/plain' };
    await writeOne(writer.contexts, request, { op: 'put', id, kind: kind ?? 'note', content });
  }
  await writer.search.indexing.index(request, 600_000);
  for (const { query, evidence } of questions) {
    const ranks: Record<string, number[]> = {};
    let tookMs = 0;
    for (const { name, manager, mode } of ways) {
      const started = performance.now();
      const asked = { query, mode, limit: 20, filter: null, groupBy: 'chunk', isIndexed: false } as const;
      const { hits } = await manager.search.search(request, asked);
      tookMs = performance.now() - started;
      const found = hits.map(({ head, chunk }) => `${head.id}#${chunk.ordinal}`);
      ranks[name] = evidence.map((one) => found.indexOf(one)).map((at) => (at < 0 ? Number.POSITIVE_INFINITY : at));
    }
    onAnswer({ collection: number, ranks }, tookMs);
  }
}

/** The mean of a figure over all questions, for one way. */
export function meanOf(measured: readonly Measured[], name: string, figure: 'recall10' | 'ndcg10'): number {
  const of = figure === 'recall10' ? recall10 : ndcg10;
  return mean(measured.map(({ ranks }) => of(ranks[name] ?? [])));
}

/**
 * A table of the ways, over all collections and over either half, and what one of them gains over some: the one of
 * `chosenFrom` whose four figures are the highest together in the first half, measured on the second.
 */
export function measure(
  measured: readonly Measured[],
  names: readonly string[],
  chosenFrom: readonly [string, ...string[]],
  bases: readonly string[],
): string {
  const half = Math.floor(Math.max(...measured.map(({ collection }) => collection + 1)) / 2);
  const first = measured.filter(({ collection }) => collection < half);
  const second = measured.filter(({ collection }) => collection >= half);
  const lines = (what: string, of: readonly Measured[]) =>
    names.map((name) => {
      const ranks = of.map((one) => one.ranks[name] ?? []);
      const cells = [recall5, recall10, recall20, ndcg10].map((figure) => mean(ranks.map(figure)).toFixed(3));
      return `| ${what} | ${of.length} | ${name} | ${cells.join(' | ')} |`;
    });
  const columns = (name: string) =>
    mean([recall5, recall10, recall20, ndcg10].map((of) => mean(first.map(({ ranks }) => of(ranks[name] ?? [])))));
  const [chosen] = chosenFrom.toSorted((left, right) => columns(right) - columns(left));
  const gainOver = (base: string) => {
    const gains = second.map(({ ranks }) => recall(ranks[chosen ?? ''] ?? [], 10) - recall(ranks[base] ?? [], 10));
    const [low, high] = bootstrap(gains);
    return `over ${base} ${mean(gains).toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
  };
  return [
    '| questions | n | way | R@5 | R@10 | R@20 | nDCG@10 |',
    '|---|---|---|---|---|---|---|',
    ...lines('all', measured),
    ...lines('first half', first),
    ...lines('second half', second),
    '',
    `${chosen}, the best in the first half, finds within ten on the second: ${bases.map(gainOver).join(', ')} (95 % paired bootstrap)`,
  ].join('\n');
}

const recall5 = (ranks: readonly number[]) => recall(ranks, 5);
const recall10 = (ranks: readonly number[]) => recall(ranks, 10);
const recall20 = (ranks: readonly number[]) => recall(ranks, 20);
const ndcg10 = (ranks: readonly number[]) => ndcg(ranks, 10);

/** The bounds that 95 % of the means of resampled values lie in; the same for the same values. */
function bootstrap(values: readonly number[]): [low: number, high: number] {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const means = Array.from({ length: 2000 }, () =>
    mean(values.map(() => values[Math.floor(next() * values.length)] ?? 0)),
  );
  means.sort((left, right) => left - right);
  return [means[50] ?? 0, means[1949] ?? 0];
}
