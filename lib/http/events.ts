import * as z from 'zod';
import { sha256 } from '../base/hash.ts';
import { hookEvents } from '../base/hook-events.ts';
import { printPlain } from '../base/json.ts';
import { invalid } from '../base/problem.ts';
import { readEvent } from '../factory/events.ts';
import type { EventEntry, Sent } from '../factory/factory.ts';
import { type Piece, readBytes, readLines } from '../factory/transcript.ts';
import { toTime } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { pageAnswer } from './pages.ts';
import { type Route, route } from './route.ts';
import { pageOf, pageQuery } from './schemas.ts';

const tag = 'Events';
const stamp = '2026-01-31T12:00:00.000Z';
const hookOutput = later(() =>
  z
    .strictObject({
      hookSpecificOutput: z
        .strictObject({
          hookEventName: z.enum(hookEvents),
          additionalContext: z.string().optional().meta({ description: 'Markdown between markers, with its sources.' }),
        })
        .optional(),
    })
    .meta({ id: 'HookOutput' }),
);
const states = later(() => z.enum(['pending', 'done', 'dead']));
const eventAnswer = later(() =>
  z
    .strictObject({
      id: z.string(),
      sessionId: z.string().meta({ description: 'As it stands in the ids of its contexts, `factory:session:<id>`.' }),
      event: z.string(),
      status: states(),
      attempts: z.int().min(0),
      reason: z.string().nullable().meta({ description: 'What the last attempt failed by, or `erased`.' }),
      contexts: z.array(z.string()).meta({ description: 'What it is for and what it was written to, the first 200.' }),
      receivedAt: z.iso.datetime(),
      nextAt: z.iso.datetime().nullable().meta({ description: 'When it is tried next.' }),
      finishedAt: z.iso.datetime().nullable(),
    })
    .meta({ id: 'HookEvent' }),
);
const example = {
  id: '01kg0example0event0of0a0hook',
  sessionId: '5e550000-0000-4000-8000-000000000002',
  event: 'PostToolUse',
  status: 'dead' as const,
  attempts: 5,
  reason: 'already_exists: There is something else in the place of an entity.',
  contexts: ['factory:session:5e550000-0000-4000-8000-000000000002'],
  receivedAt: stamp,
  nextAt: null,
  finishedAt: stamp,
};
const eventId = later(() => z.object({ id: z.string().regex(/^[\w-]{1,60}$/, 'is no id of an event') }));
const ndjson = 'application/x-ndjson';

export const eventRoutes: readonly Route[] = [
  route({
    method: 'post',
    path: '/v1/events/factory',
    operationId: 'receiveHookEvent',
    tag,
    summary: "Take in an event of Droid's hooks, and tell the agent what matters",
    description:
      'The body is one event as Droid writes it on the standard input of a hook; members nobody knows are kept. Beside its own members it may have `transcript: {offset, lines}`: lines of the session file from a byte on, as texts or JSON values. As `application/x-ndjson` the first line is the event, and what follows are the bytes of the file from `?offset=` on. Whole lines are taken; `Transcript-Offset` tells from which byte on to send the rest. The event is committed, its credentials masked, before the answer; contexts are made of it afterwards. The same event twice is applied once: by its `Idempotency-Key`, or else the same body for the same session within ten minutes with no other event between. The answer is what a hook may print: for `SessionStart` and `UserPromptSubmit` with `additionalContext`.',
    scope: 'sync',
    query: () =>
      z.strictObject({
        offset: z
          .string()
          .regex(/^\d{1,15}$/, 'is a number of bytes')
          .optional()
          .meta({ description: 'The byte of the session file at which the second line of the body begins.' }),
      }),
    body: {
      kind: 'bytes',
      types: ['application/json', ndjson],
      example: {
        session_id: '5e550000-0000-4000-8000-000000000002',
        hook_event_name: 'UserPromptSubmit',
        prompt: 'How do we deploy?',
      },
    },
    answers: {
      200: {
        description: 'It is committed.',
        schema: hookOutput,
        example: {
          hookSpecificOutput: {
            hookEventName: 'UserPromptSubmit',
            additionalContext: '<lamina-context>\n…\n</lamina-context>',
          },
        },
      },
    },
    problems: ['idempotency_mismatch', 'unprocessable'],
    async handle({ manager, request, body, query, contentType, idempotency }) {
      const offset = query.offset === undefined ? undefined : Number(query.offset);
      const { value, piece } = contentType === ndjson ? splitLines(body, offset ?? 0) : readJson(body, offset);
      const event = readEvent(value);
      const sent: Sent = { event, piece, digest: sha256(`${contentType}\n${offset}\n${sha256(body)}`), idempotency };
      const factoryRequest = { ...request, actor: { kind: 'factory' as const, id: request.actor.id } };
      const { position, pack } = await manager.factory.receive(factoryRequest, sent);
      const hookEventName = hookEvents.find((name) => name === event.name);
      const hookSpecificOutput = hookEventName && {
        hookEventName,
        ...(pack === null ? {} : { additionalContext: pack }),
      };
      return {
        headers: { 'transcript-offset': String(position) },
        body: printPlain(hookSpecificOutput === undefined ? {} : { hookSpecificOutput }),
      };
    },
  }),

  route({
    method: 'get',
    path: '/v1/events',
    operationId: 'listHookEvents',
    tag,
    summary: 'List the events that were received',
    description:
      'Newest first. What failed `factory.attempts` times is `dead`, with its reason, and no longer keeps the later ones of its session waiting.',
    scope: 'sync',
    query: () => z.strictObject({ status: states().optional(), ...pageQuery() }),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(eventAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const { status: state, limit } = query;
      const [before] = readCursor(['events', state], query.cursor, ['id']) ?? [];
      const found = await manager.factory.listEvents(request, { state, before, limit: limit + 1 });
      return pageAnswer(found, limit, eventMembers, ({ id }) => writeCursor(['events', state], [id]));
    },
  }),

  route({
    method: 'post',
    path: '/v1/events/dead/{id}/replay',
    operationId: 'replayHookEvent',
    tag,
    summary: 'Have a dead event worked again',
    scope: 'sync',
    params: eventId,
    answers: {
      200: {
        description: 'It is pending.',
        schema: eventAnswer,
        example: { ...example, status: 'pending', attempts: 0, nextAt: stamp, finishedAt: null },
      },
    },
    problems: ['not_found', 'unprocessable'],
    async handle({ manager, request, params: { id } }) {
      return { body: printPlain(eventMembers(await manager.factory.replay(request, id))) };
    },
  }),
];

function eventMembers({ session, state, receivedMs, nextMs, finishedMs, ...rest }: EventEntry) {
  return {
    ...rest,
    sessionId: session,
    status: state,
    receivedAt: toTime(receivedMs),
    nextAt: toTime(nextMs),
    finishedAt: toTime(finishedMs),
  };
}

interface Split {
  readonly value: unknown;
  readonly piece: Piece | undefined;
}

function splitLines(body: Uint8Array, offset: number): Split {
  const end = body.indexOf(10);
  const first = end < 0 ? body : body.subarray(0, end);
  return { value: parse(first), piece: end < 0 ? undefined : readBytes(body.subarray(end + 1), offset) };
}

/** An event with its transcript beside it; where the transcript is none, the event is taken without it. */
function readJson(body: Uint8Array, offset: number | undefined): Split {
  const value = parse(body);
  const { transcript } = (typeof value === 'object' && value !== null ? value : {}) as { transcript?: unknown };
  const { lines, offset: own } = (typeof transcript === 'object' && transcript !== null ? transcript : {}) as Record<
    string,
    unknown
  >;
  if (!Array.isArray(lines)) return { value, piece: undefined };
  const isOffset = typeof own === 'number' && Number.isSafeInteger(own) && own >= 0;
  return { value, piece: readLines(lines, isOffset ? own : (offset ?? 0)) };
}

/** Reads leniently, as hooks write: bytes that are no UTF-8, half characters and repeated members are no reason to lose an event. */
function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw invalid('', 'is no JSON');
  }
}
