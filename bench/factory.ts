import { openEmbedded } from '../functions/embedded.ts';
import { migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { defaultSettings } from '../lib/config/settings.ts';
import { type RequestContext, systemRequest } from '../lib/contexts/request.ts';
import { readEvent } from '../lib/factory/events.ts';
import { createApp } from '../lib/http/app.ts';
import { routes } from '../lib/http/routes.ts';
import type { Database } from '../lib/postgres/database.ts';
import { createNeonDatabase } from '../lib/postgres/neon.ts';
import { type HookEventStage, noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager, type UnifiedContextManager } from '../lib/unified-context-manager.ts';
import { startServer } from './real-store.ts';
import { quantile, type Report, timed } from './report.ts';
import { createTexts, readVocabulary } from './texts.ts';

const contexts = 10_000;
const projects = 20;
const sessions = 20;
const turns = 10;
const token = 'lam_default_owner_0123456789';

/** Hook events through the whole HTTP stack, the work and the index going on behind them, among ten thousand contexts. */
export async function* benchFactory(): AsyncGenerator<Report> {
  const texts = createTexts(await readVocabulary());
  const lines: Record<string, string | number>[] = [];
  const targets: { what: string; isMet: boolean }[] = [];

  async function measure(who: string, database: Database, prepare: () => Promise<void>): Promise<void> {
    const stages: HookEventStage[] = [];
    const telemetry = { ...noTelemetry, hookEvent: (stage: HookEventStage) => stages.push(stage) };
    const manager = await createUnifiedContextManager({
      database,
      settings: defaultSettings,
      ownerToken: token,
      telemetry,
    });
    const request = systemRequest(await manager.access.credentials.authenticate(token), 'bench');
    await fill(manager, request, texts);
    await prepare();
    const app = createApp({ manager, routes, telemetry });
    const stops = [manager.search.indexing.follow(), manager.factory.follow()];
    const answers: Record<string, number[]> = {};
    let packs = 0;
    const send = async (name: string, body: object) => {
      const tookMs = await timed(async () => {
        const response = await app.fetch(
          new Request('http://lamina.bench/v1/events/factory', {
            method: 'POST',
            headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
            body: JSON.stringify({ hook_event_name: name, permission_mode: 'off', ...body }),
          }),
        );
        if (!response.ok) throw new Error(await response.text());
        if ((await response.text()).includes('additionalContext')) packs++;
      });
      answers[name] = [...(answers[name] ?? []), tookMs];
    };
    // The first ones make plans and fill the caches of the process.
    for (let session = -1; session < sessions; session++) {
      if (session === 0) for (const each of [stages, ...Object.values(answers)]) each.length = 0;
      const of = { session_id: `bench-${session + 1}`, cwd: `/home/dev/project-${(session + projects) % projects}` };
      await send('SessionStart', { ...of, source: 'startup' });
      let offset = 0;
      for (let turn = 0; turn < turns; turn++) {
        const text = texts.text(session * turns + turn + 50_000);
        await send('UserPromptSubmit', {
          ...of,
          prompt: texts.query(texts.text(((session * turns + turn) * 37) % contexts)),
        });
        const delta = [
          transcriptLine(`${turn}-a`, 'user', text),
          transcriptLine(`${turn}-b`, 'assistant', `${text} ${text}`),
        ];
        await send('PostToolUse', {
          ...of,
          tool_name: 'Edit',
          tool_input: { file_path: `src/${turn}.ts` },
          transcript: { offset, lines: delta },
        });
        offset += delta.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
        await send('Stop', of);
      }
    }
    await Promise.all(stops.map((stop) => stop()));
    await manager.work({ budgetMs: 60_000 });
    const of = (stage: HookEventStage['stage'], event?: string) =>
      stages
        .filter((one) => one.stage === stage && (event === undefined || one.event === event))
        .map(({ durationMs }) => durationMs);
    const line = (what: string, times: readonly number[]) =>
      lines.push({ who, what, events: times.length, 'p50 ms': quantile(times, 0.5), 'p95 ms': quantile(times, 0.95) });
    line('receipt to commit', of('receipt'));
    line('pack, SessionStart', of('pack', 'SessionStart'));
    line('pack, UserPromptSubmit', of('pack', 'UserPromptSubmit'));
    line('work on an event', of('work'));
    for (const [name, times] of Object.entries(answers)) line(`answer to ${name}`, times);
    const [receiptMs, packMs] = [quantile(of('receipt'), 0.95), quantile(of('pack'), 0.95)];
    targets.push(
      { what: `${who}: receipt to commit p95 below 100 ms (${receiptMs.toFixed(1)})`, isMet: receiptMs < 100 },
      { what: `${who}: the pack p95 below 150 ms (${packMs.toFixed(1)})`, isMet: packMs < 150 },
      {
        what: `${who}: every session and prompt was given a pack (${packs})`,
        isMet: packs === (sessions + 1) * (turns + 1),
      },
    );
  }

  const { database } = await openEmbedded({
    migrations: migrationsFolder,
    snapshots: snapshotsFolder,
    telemetry: noTelemetry,
  });
  await measure('embedded', database, async () => {});
  await database.close();
  const server = await startServer();
  try {
    const address = await server.place('bench_factory');
    // As autovacuum does within a minute.
    await measure('PostgreSQL', createNeonDatabase(address), () => server.lay('bench_factory', 'vacuum analyze'));
  } finally {
    await server.stop();
  }
  yield {
    name: 'factory',
    about: `hook events through HTTP, one after another, with their work and the index behind them; ${contexts} contexts of ${projects} projects in the space`,
    lines,
    targets,
  };
}

const transcriptLine = (id: string, role: string, text: string) =>
  JSON.stringify({
    type: 'message',
    id,
    timestamp: new Date().toISOString(),
    message: { role, content: [{ type: 'text', text }] },
  });

/** Projects with notes, sessions and summaries, and entities of the memory tools, all of them indexed. */
async function fill(
  manager: UnifiedContextManager,
  request: RequestContext,
  texts: ReturnType<typeof createTexts>,
): Promise<void> {
  for (let project = 0; project < projects; project++) {
    const body = {
      session_id: `fill-${project}`,
      cwd: `/home/dev/project-${project}`,
      hook_event_name: 'SessionStart',
    };
    await manager.factory.receive(request, { event: readEvent(body), digest: String(project) });
  }
  await manager.work({ budgetMs: 60_000 });
  const { items } = (
    await manager.contexts.list(request, { filter: { kind: 'project' }, order: 'id', limit: projects })
  ).value;
  for (let at = 0; at < contexts; at += 500) {
    const operations = Array.from({ length: 500 }, (_, index) => {
      const nth = at + index;
      const project = items[nth % projects]?.id ?? '';
      // Every seventh belongs to no project.
      const isScoped = nth % 7 !== 0;
      const kind = nth % 400 === 3 ? 'instructions' : nth % 3 === 0 ? 'session' : 'note';
      const id = isScoped ? `factory:${kind}:${nth}` : `free-${nth}`;
      return {
        op: 'put' as const,
        id,
        kind,
        ...(isScoped ? { parentId: project } : {}),
        content: { bytes: Buffer.from(texts.text(nth)), contentType: 'text/plain' },
      };
    });
    await manager.contexts.write(request, operations, { atomic: true });
  }
  await manager.search.indexing.index(request, Number.POSITIVE_INFINITY);
}
