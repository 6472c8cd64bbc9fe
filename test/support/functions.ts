import { createCipheriv, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { home } from '../../functions/runtime.ts';
import { type Entry, layFiles } from '../../infra/files.ts';
import { loadSettings } from '../../lib/config/load.ts';
import type { Settings } from '../../lib/config/settings.ts';

/** Functions as a deployment bundles and lays them out, and how their secrets reach them. */
export interface Deployed {
  folderOf(entry: Entry): string;
  /** The variables of a function whose links say this, sealed as SST seals them. */
  variables(links: Readonly<Record<string, string>>): Promise<Record<string, string>>;
  remove(): Promise<void>;
}

/**
 * Bundles functions as a deployment does and lays their files beside them.
 *
 * @param of.settings what differs from the settings file.
 */
export async function deployFunctions(of: {
  entries: readonly Entry[];
  settings?: (settings: Settings) => Settings;
}): Promise<Deployed> {
  const { entries, settings: change = (settings: Settings) => settings } = of;
  // It is among what deploys, and only there where that is installed.
  const { bundleFunction } = await import('../../infra/bundle.ts');
  const root = await mkdtemp(join(tmpdir(), 'lamina-functions-'));
  const key = randomBytes(32);
  const settings = change(await loadSettings(join(home, 'config', 'context.yaml')));
  const folderOf = (entry: Entry) => join(root, entry);
  for (const entry of entries) {
    await bundleFunction({ root: home, entry: `functions/lambda/${entry}.ts`, out: folderOf(entry) });
    await layFiles({ root: home, folder: folderOf(entry), entry, settings });
  }
  let sealed = 0;
  return {
    folderOf,
    async variables(links) {
      const file = join(root, `resource-${++sealed}.enc`);
      const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
      const text = JSON.stringify({ Environment: { type: 'sst.sst.Linkable', ...links } });
      await writeFile(file, Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]));
      return { SST_KEY: key.toString('base64'), SST_KEY_FILE: file };
    },
    remove: () => rm(root, { recursive: true, force: true }),
  };
}
