import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import type { Context } from '../contexts/context.ts';
import type { RequestContext } from '../contexts/request.ts';
import { titleOf } from '../search/chunk.ts';
import type { SearchHit } from '../search/search.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import { contentMembers } from './context-json.ts';
import { later } from './later.ts';
import { type Route, route } from './route.ts';
import { contextId, kind, rawJson, versionNumber } from './schemas.ts';
import { filterFields, queryText, readMetadata, searchMode, toFilter } from './search-query.ts';

const hit = later(() =>
  z.strictObject({
    id: contextId(),
    version: versionNumber(),
    score: z.number().meta({ description: 'The higher the better; comparable within one answer alone.' }),
    snippet: z.string(),
    chunk: z
      .strictObject({ ordinal: z.int(), start: z.int(), end: z.int() })
      .meta({ description: 'Which chunk of the content, from 0, and where in its bytes, the end not included.' }),
    title: z.string().optional(),
    kind: kind(),
    metadata: z.record(z.string(), z.json()),
    contentType: z.string().nullable().optional(),
    content: z.json().optional(),
    contentUrl: z.string().optional(),
  }),
);

export const searchRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/search',
    operationId: 'search',
    tag: 'Search',
    summary: 'Find contexts by meaning and by words',
    description:
      'Heads whose contents are about the query, the best first, each with its best chunk (`groupBy: "chunk"` tells every chunk by itself). What is deleted, expired or replaced is never found. `pending` counts writes that the index has not seen yet; `consistency: "indexed"` waits for them, ten seconds at most. `degraded` names a leg that is down.',
    scope: 'read',
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: () =>
        z
          .strictObject({
            query: queryText(),
            mode: searchMode().default('hybrid'),
            limit: z.int().min(1).max(100).default(10),
            filter: z
              .strictObject({
                ...filterFields(),
                metadata: rawJson()
                  .optional()
                  .meta({
                    description: 'Path → value, or → `{gt, gte, lt, lte}`; numbers by value, texts by their bytes.',
                    examples: [{ team: 'payments', 'build.number': { gte: 7 } }],
                  }),
              })
              .optional(),
            include: z.array(z.literal('content')).max(1).optional(),
            groupBy: z.enum(['context', 'chunk']).default('context'),
            consistency: z.enum(['eventual', 'indexed']).default('eventual'),
          })
          .meta({ id: 'Search' }),
      example: { query: 'what did we decide about refunds', limit: 5, filter: { kind: 'note' } },
    },
    answers: {
      200: {
        description: 'What was found.',
        schema: () =>
          z.strictObject({
            hits: z.array(hit()),
            engine: z.string(),
            embedder: z.string(),
            pending: z.int(),
            degraded: z.array(z.literal('semantic')),
          }),
        example: {
          hits: [
            {
              id: 'checkout:notes',
              version: 3,
              score: 0.93,
              snippet: 'Refunds above 500 need a second pair of eyes …',
              chunk: { ordinal: 2, start: 1804, end: 2630 },
              title: 'Checkout',
              kind: 'note',
              metadata: { title: 'Checkout' },
            },
          ],
          engine: 'pgvector',
          embedder: 'static:glove-6b-30k:100:1',
          pending: 0,
          degraded: [],
        },
      },
    },
    problems: [],
    async handle({ manager, request, body }) {
      const { query, mode, limit, groupBy } = body;
      const { metadata, ...fields } = body.filter ?? {};
      const filter = toFilter(fields, readMetadata(metadata));
      const isIndexed = body.consistency === 'indexed';
      const found = await manager.search.search(request, { query, mode, limit, filter, groupBy, isIndexed });
      const contents = body.include?.length ? await readContents(manager, request, found.hits) : undefined;
      const hits = found.hits.flatMap((one) => {
        if (contents === undefined) return [hitMembers(one)];
        const context = contents.get(one.head.id);
        // Erased between the two reads.
        if (context === undefined) return [];
        return [{ ...hitMembers(one), contentType: context.contentType, ...contentMembers(context) }];
      });
      const { engine, embedder } = manager.search;
      const { seq, pending, degraded } = found;
      return { seq, body: printPlain({ hits, engine, embedder, pending, degraded }) };
    },
  }),
];

/** A hit as the answers tell it. */
export function hitMembers({ head, score, snippet, chunk }: SearchHit): Record<string, unknown> {
  const title = titleOf(head);
  return {
    id: head.id,
    version: head.version,
    score: Math.round(score * 1e4) / 1e4,
    snippet,
    chunk,
    ...(title === null ? {} : { title }),
    kind: head.kind,
    metadata: { jsonText: head.metadata },
  };
}

/** The very versions that were found, as far as they are still there. */
async function readContents(
  { contexts }: UnifiedContextManager,
  request: RequestContext,
  hits: readonly SearchHit[],
): Promise<Map<string, Context>> {
  const references = new Map(hits.map(({ head: { id, version } }) => [id, { id, version }]));
  const { value } = await contexts.readExact(request, [...references.values()]);
  return new Map(value.flatMap((context) => (context === null ? [] : [[context.id, context]])));
}
