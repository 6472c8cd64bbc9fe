import { createApp } from '../../lib/http/app.ts';
import { routesOf } from '../../lib/http/routes.ts';
import { mcpMounts } from '../mcp-mounts.ts';
import { createAnswer } from './answer.ts';
import { primeApp } from './prime.ts';
import { start } from './start.ts';

const { manager, settings, environment, telemetry, queue } = await start();
const { publicUrl, ownerToken = '' } = environment;
const app = createApp({
  manager,
  routes: routesOf(settings),
  telemetry,
  mounts: mcpMounts({ manager, telemetry, publicUrl, isLocal: false }),
});
await primeApp(app, ownerToken);
const answer = createAnswer({ app, newId: manager.ids.sortable });

/** Answers over HTTP, streaming; what was ordered on the way is sent, and what came too late ends, before the function is frozen. */
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  try {
    await answer(event, stream, context);
  } finally {
    await Promise.all([queue.settled(), manager.factory.settled()]);
  }
});
