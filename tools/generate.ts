// Makes the documents that follow from the code, or with --check says which of them are stale.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { home } from '../functions/runtime.ts';
import { loadSettings } from '../lib/config/load.ts';
import { buildOpenApi } from '../lib/http/openapi.ts';
import { loadRoutes } from '../lib/http/route.ts';
import { routes } from '../lib/http/routes.ts';
import { configurationPage } from './configuration-page.ts';
import { costTables, fillTables } from './cost.ts';
import { docsPage } from './docs-page.ts';
import { prices } from './prices.ts';
import { schemaPage } from './schema-page.ts';

const { version } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as { version: string };
const openapi = buildOpenApi(await loadRoutes(routes), version);
const read = (path: string) => readFile(join(home, path), 'utf8');
const settings = await loadSettings(join(home, 'config/context.yaml'));
const files: Record<string, string> = {
  'lib/http/openapi.json': `${JSON.stringify(openapi, null, 1)}\n`,
  'lib/http/docs.html': docsPage(openapi),
  'docs/configuration.md': configurationPage(),
  'docs/schema.md': await schemaPage(),
  'docs/cost.md': fillTables(await read('docs/cost.md'), costTables(settings, prices)),
};
const isCheck = process.argv.includes('--check');
let stale = 0;
for (const [path, text] of Object.entries(files)) {
  const now = await read(path).catch(() => '');
  if (now === text) continue;
  stale++;
  if (isCheck) console.error(`${path} is stale; run npm run generate`);
  else {
    await writeFile(join(home, path), text);
    console.log(`wrote ${path}`);
  }
}
process.exitCode = isCheck && stale > 0 ? 1 : 0;
