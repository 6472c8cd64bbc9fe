import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
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

  test('is one file beside the entry, whatever of it the late modules share', async () => {
    const names = ['one', 'two', 'three'];
    for (const name of names)
      await writeFile(join(home, folder, `${name}.ts`), `export const ${name} = () => '${name}';`);
    const using = (...of: string[]) => of.map((name) => `import { ${name} } from './${name}.ts';`).join('');
    await writeFile(join(home, folder, 'late.ts'), `${using('one', 'two')} export const late = () => one() + two();`);
    await writeFile(
      join(home, folder, 'later.ts'),
      `${using('two', 'three')} export const late = () => two() + three();`,
    );
    const { eagerFiles } = await bundle(`${using(...names)}
      const { late } = await import('./late.ts');
      export const handler = async () => [one(), three(), late(), (await import('./later.ts')).late()];`);
    expect(eagerFiles).toBe(2);
    // It starts, although what it loads at its start is loaded late.
    const { handler } = await import(join(home, folder, 'out', 'bundle.mjs'));
    expect(await handler()).toEqual(['one', 'three', 'onetwo', 'twothree']);
    expect((await readdir(join(home, folder, 'out'))).filter((file) => file.endsWith('.map'))).toEqual([]);
    expect(await readdir(join(home, folder, 'out-maps'))).toContain('bundle.mjs.map');
  });
});
