import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Settings } from '../lib/config/settings.ts';

/** An entry of `functions/lambda/`. */
export type Entry = 'api' | 'index-orders' | 'migrate' | 'schedule' | 'sync-orders';

const everywhere = { 'lib/search/embedders/words.bin': 'words.bin' };
const filesOf: Readonly<Record<Entry, Readonly<Record<string, string>>>> = {
  api: { ...everywhere, 'lib/http/openapi.json': 'openapi.json', 'lib/http/docs.html': 'docs.html' },
  'index-orders': everywhere,
  migrate: { ...everywhere, migrations: 'migrations' },
  schedule: everywhere,
  'sync-orders': everywhere,
};

/**
 * Lays what a function reads beside its code into the folder of its bundle. The settings have been checked by whoever deploys:
 * there they lie as JSON, so that nothing that reads or checks a settings file is loaded at a start.
 */
export async function layFiles(of: { root: string; folder: string; entry: Entry; settings: Settings }): Promise<void> {
  const { root, folder, entry, settings } = of;
  for (const [from, to] of Object.entries(filesOf[entry]))
    await cp(join(root, from), join(folder, to), { recursive: true });
  await writeFile(join(folder, 'settings.json'), JSON.stringify(settings));
}
