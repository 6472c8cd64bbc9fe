import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { home } from '../../functions/runtime.ts';
import { canRunFunctions } from '../support/lambda-engines.ts';

const folder = join('.sst', 'bundle-mistake');

describe.skipIf(!canRunFunctions)('what a bundle loads at its start', () => {
  beforeAll(() => mkdir(join(home, folder), { recursive: true }));
  afterAll(() => rm(join(home, folder), { recursive: true }));

  async function bundle(source: string) {
    const { bundleFunction } = await import('../../infra/bundle.ts');
    await writeFile(join(home, folder, 'entry.ts'), source);
    return bundleFunction({ root: home, entry: join(folder, 'entry.ts'), out: join(home, folder, 'out') });
  }
  const clients = ['weaviate-client', '@modelcontextprotocol/server', 'yaml'];

  test('is told by package where something heavy is imported in passing', async () => {
    const { eagerPackages, eagerBytes } = await bundle(
      clients.map((name, at) => `import * as m${at} from '${name}';\nconsole.log(m${at});`).join('\n'),
    );
    expect(eagerPackages).toEqual(expect.arrayContaining(clients));
    expect(eagerBytes).toBeGreaterThan(1_000_000);
  });

  test('is nothing of what is imported when it is used', async () => {
    const { eagerPackages } = await bundle(
      `export const handler = async () => [${clients.map((name) => `await import('${name}')`)}];`,
    );
    expect(eagerPackages).toEqual([]);
  });
});
