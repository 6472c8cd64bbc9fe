import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { systemClock } from '../lib/base/clock.ts';
import { createIds } from '../lib/base/id.ts';
import { settingsSchema } from '../lib/config/settings.ts';
import { createApp } from '../lib/http/app.ts';
import { routes } from '../lib/http/routes.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { createUnifiedContextManager } from '../lib/unified-context-manager.ts';
import { createClient } from './client.ts';
import { runDemo } from './demo-tour.ts';
import { openEmbedded } from './embedded.ts';
import { readMergeCases, readRevisions } from './git-history.ts';
import { createProgress } from './progress.ts';
import { home, migrationsFolder, readEnvironment, snapshotsFolder } from './runtime.ts';

// npm run demo [-- <folder or repository> …]: its Markdown as contexts, with one version a commit, in a store of its
// own that ends with it; or in a running one, where LAMINA_URL and LAMINA_TOKEN name it.
const progress = createProgress(process.stderr);
try {
  const folders = process.argv.slice(2).map((path) => resolve(path));
  if (folders.length === 0) folders.push(home);
  for (const folder of folders) {
    const isFolder = await stat(folder).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder) throw new Error(`${folder} is no folder.`);
  }
  const store = await openStore();
  for (const folder of folders) {
    progress.say(`reading the history of ${folder}`);
    const revisions = await readRevisions(folder);
    progress.say('looking for a document that two branches have changed');
    const { value: branches } = await readMergeCases(folder, { mergesMax: 200 }).next();
    await runDemo({ ...store, revisions, branches: branches ?? undefined, folder, progress });
  }
  await store.close();
} catch (error) {
  progress.done();
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function openStore() {
  const { serverUrl, ownerToken } = readEnvironment();
  if (serverUrl !== undefined) {
    if (ownerToken === undefined) throw new Error('LAMINA_URL is set: set LAMINA_TOKEN to a token of that server too.');
    const client = createClient({ url: serverUrl, token: ownerToken, fetch });
    return { client, servedBy: serverUrl, requests: () => undefined, close: async () => {} };
  }
  progress.say('opening a store in memory');
  let requests = 0;
  const telemetry = { ...noTelemetry, engineCall: () => void requests++ };
  const { database } = await openEmbedded({ migrations: migrationsFolder, snapshots: snapshotsFolder, telemetry });
  // One version a commit, however many there are.
  const settings = settingsSchema.parse({ versions: { retained: 1_000_000 } });
  const token = createIds({ clock: systemClock }).random(40);
  const manager = await createUnifiedContextManager({ database, settings, telemetry, ownerToken: token });
  const app = createApp({ manager, routes, telemetry });
  const client = createClient({ url: 'http://demo.invalid', token, fetch: async (request) => app.fetch(request) });
  return { client, servedBy: 'PostgreSQL in this process', requests: () => requests, close: () => manager.close() };
}
