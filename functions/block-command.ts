import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { BlockOrder, BlockReport } from './block-sync.ts';
import type { Client } from './client.ts';
import { createConsoleTelemetry } from './console-telemetry.ts';
import { openClient } from './open-client.ts';
import { readEnvironment } from './runtime.ts';

/**
 * Runs `npm run pull` or `push`: tells what became of each block, and ends with 3 where something is to be settled.
 *
 * @param to.canPrefer whether one side may be given the lines that both have changed.
 */
export async function runBlockCommand(
  usage: string,
  to: { run: (client: Client, order: BlockOrder) => Promise<BlockReport[]>; canPrefer: boolean },
): Promise<void> {
  try {
    const options = { id: { type: 'string' }, url: { type: 'string' }, prefer: { type: 'string' } } as const;
    const { values, positionals } = parseArgs({ args: process.argv.slice(2), options, allowPositionals: true });
    const [file, ...more] = positionals;
    const { id, url, prefer } = values;
    const isPrefer = prefer === undefined || (to.canPrefer && (prefer === 'ours' || prefer === 'theirs'));
    if (file === undefined || more.length > 0 || !isPrefer) throw new Error(usage);
    if (id !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$/.test(id))
      throw new Error(`${id} is no id of a context.`);
    const environment = readEnvironment();
    const path = resolve(environment.callerFolder, file);
    const { client, close } = await openClient(url === undefined ? environment : { ...environment, serverUrl: url }, {
      telemetry: createConsoleTelemetry(),
    });
    const reports = await to.run(client, { path, id, prefer }).finally(close);
    for (const report of reports) console.log(visible(`${report.id}: ${report.text}`));
    process.exit(reports.some(({ isUnsettled }) => isUnsettled) ? 3 : 0);
  } catch (error) {
    console.error(visible(error instanceof Error ? error.message : String(error)));
    process.exit(1);
  }
}

/** A text that does nothing to a terminal: what others have written may hold orders for one. */
const visible = (text: string) =>
  text.replaceAll(
    /(?![\n\t])[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
