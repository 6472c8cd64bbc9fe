// Notes what the code as it stands relies on in the schema: `npm run released`, when a release is cut. Until the next is,
// the schema may grow but has to keep that (test/migrations.test.ts), so that functions of the release before go on while a
// stage is migrated.
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openEmbedded } from '../functions/embedded.ts';
import { home, migrationsFolder, snapshotsFolder } from '../functions/runtime.ts';
import { noTelemetry } from '../lib/telemetry/telemetry.ts';
import { readSurface } from './surface.ts';

const { version } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as { version: string };
const { database } = await openEmbedded({
  migrations: migrationsFolder,
  snapshots: snapshotsFolder,
  telemetry: noTelemetry,
});
const sources = (await readdir(join(home, 'lib'), { recursive: true })).filter((name) => name.endsWith('.ts'));
const code = (await Promise.all(sources.map((name) => readFile(join(home, 'lib', name), 'utf8')))).join('\n');
const { functions, columns } = await readSurface(database);
const called = functions.filter(({ name }) => new RegExp(`\\b${name}\\(`).test(code));
const lines = (of: readonly object[]) => of.map((one) => `    ${JSON.stringify(one)}`).join(',\n');
const text = `{
  "release": "${version}",
  "functions": [\n${lines(called)}\n  ],
  "columns": [\n${lines(columns)}\n  ]
}\n`;
await writeFile(join(home, 'migrations/released.json'), text);
await database.close();
console.log(`wrote migrations/released.json: ${called.length} functions, ${columns.length} columns`);
