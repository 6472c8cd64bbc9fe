import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { printPlain } from '../base/json.ts';
import { syncStrategies } from '../sync/join.ts';
import type { PeerDefinition } from '../sync/peer.ts';
import type { Peer, RunReport } from '../sync/sync.ts';
import { toTime } from './context-json.ts';
import { readCursor, writeCursor } from './cursor.ts';
import { later } from './later.ts';
import { pageAnswer } from './pages.ts';
import { type Route, route } from './route.ts';
import { contextId, pageOf, pageQuery } from './schemas.ts';

const tag = 'Synchronisation';
const stamp = '2026-01-31T12:00:00.000Z';
const runId = '01kg0example0run0of0a0peer';
const count = later(() => z.int().min(0));
const name = later(() =>
  z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'is 1 to 40 of a–z 0–9 -, beginning with a letter or digit')
    .meta({ description: 'Names the peer within its space.', examples: ['laptop'] }),
);
const params = later(() => z.object({ name: name() }));

const line = (max: number) =>
  z
    .string()
    .max(max)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these end a line or a string elsewhere
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'holds a control character');
const secrets = later(() =>
  z
    .record(
      z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$/, 'is the name of a header or a variable'),
      line(8192).nullable(),
    )
    .refine((all) => Object.keys(all).length <= 50, 'has at most 50 members')
    .meta({ description: 'Write-only: answers have null for each; null sent keeps what there is.' }),
);
const url = later(() =>
  z
    .url({ protocol: /^https?$/, error: 'is an http or https URL' })
    .max(2000)
    .refine(
      (text) => URL.canParse(text) && new URL(text).username === '' && new URL(text).password === '',
      'carries no password: send headers',
    ),
);
const transport = later(() =>
  z.union([
    z.strictObject({ url: url(), headers: secrets().optional() }),
    z.strictObject({
      command: line(1000).min(1),
      args: z.array(line(4000)).max(100).default([]),
      env: secrets().optional(),
    }),
  ]),
);
const direction = later(() => z.enum(['both', 'pull', 'push']));
const peerBody = later(() =>
  z
    .strictObject({
      type: z.enum(['mcp-memory', 'lamina']),
      transport: transport(),
      strategy: z.enum(syncStrategies).default('three-way'),
      direction: direction().default('both'),
      intervalSeconds: z.int().min(1).max(31_536_000).optional(),
      subtree: contextId().optional(),
    })
    .refine((peer) => peer.type !== 'lamina' || 'url' in peer.transport, {
      error: 'is a url for a peer of type lamina',
      path: ['transport'],
    })
    .meta({ id: 'PeerPut' }),
);

const conflicts = later(() => count().meta({ description: 'Open conflicts: see `GET /v1/conflicts`.' }));
const peerFields = later(() => ({
  name: name(),
  type: z.enum(['mcp-memory', 'lamina']),
  transport: z.record(z.string(), z.json()),
  strategy: z.enum(syncStrategies),
  direction: direction(),
  intervalSeconds: z.int().nullable(),
  subtree: contextId().nullable(),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
  nextAt: z.iso.datetime().nullable().meta({ description: 'When the schedule runs it next.' }),
  failures: count().meta({ description: 'Runs that failed or were halted since the last that did its work.' }),
  running: z.string().nullable().meta({ description: 'The run that is going on.' }),
  cursor: z.string().meta({ description: 'Up to which change of ours its runs have come.' }),
  due: count().meta({ description: 'Items that wait for the next run.' }),
  conflicts: conflicts(),
}));
const peerAnswer = later(() => z.strictObject(peerFields()).meta({ id: 'Peer' }));
const waiting = later(() => z.array(z.strictObject({ id: z.string(), reason: z.string().nullable() })));
const onePeer = later(() =>
  z.strictObject({
    ...peerFields(),
    waiting: waiting().meta({ description: 'Up to a hundred items that wait for the next run, and why.' }),
  }),
);
const example = {
  name: 'laptop',
  type: 'mcp-memory',
  transport: { url: 'https://memory.example.com/mcp', headers: { authorization: null } },
  strategy: 'three-way',
  direction: 'both',
  intervalSeconds: 60,
  subtree: null,
  createdAt: stamp,
  updatedAt: stamp,
  nextAt: stamp,
  failures: 0,
  running: null,
  cursor: '42',
  due: 0,
  conflicts: 0,
};

const counts = later(() => ({
  pulled: count(),
  pushed: count(),
  merged: count(),
  conflicts: count(),
  skipped: count(),
}));
const reportAnswer = later(() =>
  z
    .strictObject({
      runId: z.string(),
      ...counts(),
      halted: z.string().optional().meta({ description: 'Why it changed nothing. With `force` it goes on.' }),
      cursor: z.string().nullable(),
      left: waiting().meta({ description: 'Up to a hundred items that could not be synchronised, and why.' }),
      tookMs: z.number().min(0),
    })
    .meta({ id: 'SyncReport' }),
);
const report = {
  runId,
  pulled: 3,
  pushed: 1,
  merged: 1,
  conflicts: 0,
  skipped: 0,
  cursor: '47',
  left: [],
  tookMs: 84.2,
};
const runAnswer = later(() =>
  z
    .strictObject({
      id: z.string(),
      trigger: z.enum(['request', 'schedule', 'change']),
      outcome: z.enum(['running', 'done', 'halted', 'failed', 'lost']),
      reason: z.string().nullable(),
      counts: z.record(z.string(), count()),
      startedAt: z.iso.datetime(),
      finishedAt: z.iso.datetime().nullable(),
    })
    .meta({ id: 'SyncRun' }),
);

// A request waits so long for its run; then the run goes on by itself.
const waitMs = 20_000;

export const peerRoutes: readonly Route[] = [
  route({
    method: 'put',
    path: '/v1/peers/{name}',
    operationId: 'putPeer',
    tag,
    summary: 'Name a peer, or change it',
    description:
      'A store of another program that is to hold the same: an MCP memory server with the tools of the reference (`mcp-memory`), or another Lamina (`lamina`, with a key of scope `write`). Of a memory server only entities and relations are synchronised, of a Lamina all contexts; with `subtree` only that context and what lies below. A `command` is started on the machine of the server, and only where it listens on the loopback address with embedded engines, or `LAMINA_ALLOW_COMMANDS` is 1. Another URL or command is another store: then nothing counts as agreed on.',
    scope: 'admin',
    params,
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: peerBody,
      example: {
        type: 'mcp-memory',
        transport: { url: 'https://memory.example.com/mcp', headers: { authorization: 'Bearer …' } },
        intervalSeconds: 60,
      },
    },
    answers: {
      200: { description: 'It is changed.', schema: peerAnswer, example },
      201: { description: 'It is named.', schema: peerAnswer, example },
    },
    problems: ['forbidden', 'idempotency_mismatch'],
    async handle({ manager, request, params: { name: of }, body, idempotency }) {
      const { peer, isCreated } = await manager.sync.putPeer(request, of, body as PeerDefinition, idempotency);
      return { status: isCreated ? 201 : 200, body: printPlain(peerMembers(peer)) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/peers',
    operationId: 'listPeers',
    tag,
    summary: 'List the peers',
    scope: 'admin',
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(peerAnswer()),
        example: { items: [example], nextCursor: null },
      },
    },
    problems: [],
    async handle({ manager, request, query }) {
      const [after] = readCursor('peers', query.cursor, ['id']) ?? [];
      const found = await manager.sync.listPeers(request, { after, limit: query.limit + 1 });
      return pageAnswer(found, query.limit, peerMembers, (peer) => writeCursor('peers', [peer.name]));
    },
  }),

  route({
    method: 'get',
    path: '/v1/peers/{name}',
    operationId: 'readPeer',
    tag,
    summary: 'A peer',
    scope: 'admin',
    params,
    answers: { 200: { description: 'The peer.', schema: onePeer, example: { ...example, waiting: [] } } },
    problems: ['not_found'],
    async handle({ manager, request, params: { name: of } }) {
      const { waiting: items, ...peer } = await manager.sync.getPeer(request, of);
      return { body: printPlain({ ...peerMembers(peer), waiting: items }) };
    },
  }),

  route({
    method: 'delete',
    path: '/v1/peers/{name}',
    operationId: 'deletePeer',
    tag,
    summary: 'Forget a peer',
    description: 'What either side holds stays. Its open conflicts and its runs are forgotten with it.',
    scope: 'admin',
    params,
    answers: {
      200: {
        description: 'It is forgotten.',
        schema: () => z.strictObject({ name: name(), removed: z.literal(true) }),
        example: { name: 'laptop', removed: true },
      },
    },
    problems: ['not_found', 'idempotency_mismatch'],
    async handle({ manager, request, params: { name: of }, idempotency }) {
      await manager.sync.removePeer(request, of, idempotency);
      return { body: printPlain({ name: of, removed: true }) };
    },
  }),

  route({
    method: 'post',
    path: '/v1/peers/{name}/sync',
    operationId: 'syncPeer',
    tag,
    summary: 'Synchronise with a peer now',
    description:
      'Both sides are looked at, joined item by item, written, and read back. Stopped anywhere, the next run goes on; where there is nothing to do, nothing moves. A run is halted before it changes anything where much is gone at once on one side: `force` goes on.',
    scope: 'sync',
    params,
    body: {
      kind: 'json',
      types: ['application/json'],
      schema: () =>
        z
          .strictObject({
            dryRun: z.boolean().default(false).meta({ description: 'Only tell what would be done.' }),
            force: z.boolean().default(false),
          })
          .meta({ id: 'SyncRequest' }),
      isOptional: true,
      example: { dryRun: true },
    },
    answers: {
      200: { description: 'What it did, in items.', schema: reportAnswer, example: report },
      202: {
        description:
          'It takes longer than 20 s, and goes on by itself: see the runs of the peer. A dry run is waited for.',
        schema: () => z.strictObject({ runId: z.string() }),
        example: { runId },
      },
    },
    problems: ['not_found', 'sync_running', 'forbidden', 'unprocessable'],
    async handle({ manager, request, params: { name: of }, body }) {
      const { dryRun: isDry = false, force: isForced = false } = body ?? {};
      const id = manager.ids.sortable();
      if (!isDry && (await manager.sync.ask(request, { peer: of, runId: id, isForced }))) {
        return { status: 202, body: printPlain({ runId: id }) };
      }
      const run = manager.sync.run(request, of, { isDry, isForced, trigger: 'request', runId: id });
      // Only what is noted can be told of later.
      if (isDry) return { body: printPlain(reportMembers(await run)) };
      const done = await Promise.race([run, sleep(waitMs, undefined, { ref: false })]);
      if (done) return { body: printPlain(reportMembers(done)) };
      // How it ends is told by the runs of the peer.
      run.catch(() => {});
      return { status: 202, body: printPlain({ runId: id }) };
    },
  }),

  route({
    method: 'get',
    path: '/v1/peers/{name}/runs',
    operationId: 'listRuns',
    tag,
    summary: 'The runs of a peer',
    description: 'The last hundred, newest first.',
    scope: 'sync',
    params,
    query: () => z.strictObject(pageQuery()),
    answers: {
      200: {
        description: 'One page.',
        schema: () => pageOf(runAnswer()),
        example: {
          items: [
            {
              id: runId,
              trigger: 'schedule',
              outcome: 'done',
              reason: null,
              counts: { pulled: 3, pushed: 1, merged: 1, conflicts: 0, skipped: 0 },
              startedAt: stamp,
              finishedAt: stamp,
            },
          ],
          nextCursor: null,
        },
      },
    },
    problems: ['not_found'],
    async handle({ manager, request, params: { name: peer }, query }) {
      const [before] = readCursor(['runs', peer], query.cursor, ['id']) ?? [];
      const items = await manager.sync.runs(request, { peer, before, limit: query.limit + 1 });
      const members = ({ startedMs, finishedMs, ...run }: (typeof items)[number]) => ({
        ...run,
        startedAt: toTime(startedMs),
        finishedAt: toTime(finishedMs),
      });
      return pageAnswer({ items }, query.limit, members, ({ id }) => writeCursor(['runs', peer], [id]));
    },
  }),
];

function peerMembers({ definition, createdMs, updatedMs, nextMs, runId: running, cursor, ...rest }: Peer) {
  const { intervalSeconds = null, subtree = null, ...more } = definition;
  return {
    ...rest,
    ...more,
    intervalSeconds,
    subtree,
    createdAt: toTime(createdMs),
    updatedAt: toTime(updatedMs),
    nextAt: toTime(nextMs),
    running,
    cursor: String(cursor),
  };
}

function reportMembers({ cursor, left, ...rest }: RunReport) {
  return {
    ...rest,
    cursor: cursor === null ? null : String(cursor),
    left: left.map(({ id, reason }) => ({ id, reason })),
  };
}
