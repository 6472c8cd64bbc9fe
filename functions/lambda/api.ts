import type { StreamifyHandler } from 'aws-lambda';
import { streamHandle } from 'hono/aws-lambda';
import { createApp } from '../../lib/http/app.ts';
import { routesOf } from '../../lib/http/routes.ts';
import { mcpMounts } from '../mcp-mounts.ts';
import { primeAnswer } from './prime.ts';
import { asSent } from './request.ts';
import { start } from './start.ts';

const { manager, settings, environment, telemetry, queue } = await start();
const { publicUrl, ownerToken = '' } = environment;
const app = createApp({
  manager,
  routes: routesOf(settings),
  telemetry,
  mounts: mcpMounts({ manager, telemetry, publicUrl, isLocal: false }),
});
// Hono's own type of it is that of a handler that does not stream.
const answer = streamHandle(app) as unknown as StreamifyHandler;
await primeAnswer(answer, ownerToken);

/** Answers over HTTP, streaming; what was ordered on the way is sent, and what came too late ends, before the function is frozen. */
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  await answer(asSent(event), stream, context);
  await Promise.all([queue.settled(), manager.factory.settled()]);
});
