import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MergeCase, readMergeCases, readRevisions } from '../functions/git-history.ts';
import { home } from '../functions/runtime.ts';

const run = promisify(execFile);
let folder: string;

async function git(...args: string[]): Promise<string> {
  const as = ['-c', 'user.name=Ann Ä', '-c', 'user.email=ann@example.com', '-c', 'commit.gpgsign=false'];
  return (await run('git', ['-C', folder, ...as, ...args])).stdout;
}

async function commit(files: Record<string, string | null>, subject: string): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    if (text === null) await rm(join(folder, path));
    else await writeFile(join(folder, path), text);
  }
  await git('add', '-A');
  await git('commit', '-m', subject);
}

const demo = (...args: string[]) =>
  run(process.execPath, ['functions/launch.js', 'functions/demo.ts', ...args], { cwd: home }).catch((error) => error);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lamina-history-'));
  await git('init', '-q', '-b', 'main');
  const lines = Array.from({ length: 30 }, (_, at) => `line ${at}\n`);
  await commit({ 'guide.md': lines.join(''), 'a b.md': 'spaces\n', 'a-b.md': 'dashes\n', 'code.ts': '1' }, 'begin');
  await git('checkout', '-q', '-b', 'side');
  await commit({ 'guide.md': lines.with(25, 'from the side\n').join('') }, 'on the side: "quotes", ünïcode');
  await git('checkout', '-q', 'main');
  await commit({ 'guide.md': lines.with(3, 'from main\n').join(''), 'docs/näme.md': 'x' }, 'on main');
  await git('merge', '-q', '--no-ff', 'side', '-m', 'join');
  await commit({ 'a b.md': null }, 'remove');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the history of a repository', () => {
  test('is one revision for each commit and Markdown file, oldest first', async () => {
    const revisions = await readRevisions(folder);
    expect(revisions.map(({ path, text }) => [path, text === null])).toEqual([
      ['a b.md', false],
      ['a-b.md', false],
      ['guide.md', false],
      expect.anything(),
      expect.anything(),
      expect.anything(),
      ['a b.md', true],
    ]);
    expect(revisions.filter(({ path }) => path === 'guide.md')).toHaveLength(3);
    expect(revisions.find(({ path }) => path === 'docs/näme.md')).toMatchObject({ text: 'x', author: 'Ann Ä' });
  });

  test('tells what two branches made of one file, and what was committed', async () => {
    const cases: MergeCase[] = [];
    for await (const one of readMergeCases(folder, { mergesMax: 10 })) cases.push(one);
    expect(cases.map(({ path }) => path)).toEqual(['guide.md']);
    const [{ base, ours, theirs, committed }] = cases as [MergeCase];
    expect([base, ours, theirs].map((text) => /from (main|the side)/.exec(text)?.[1])).toEqual([
      undefined,
      'main',
      'the side',
    ]);
    expect(committed).toMatch(/from main[\s\S]*from the side/);
  });
});

describe('npm run demo', () => {
  test('imports a history, and shows a search, a difference and both merges', async () => {
    const { stdout, stderr } = await demo(folder);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/4 documents with 7 versions from 4 commits/);
    expect(stdout).toContain('metadata.author=Ann Ä');
    expect(stdout).toMatch(/guide\.md v3/);
    expect(stdout).toMatch(/guide\.md, joined by commit \w+\n {2}joined without a conflict, byte for byte/);
    expect(stdout).toMatch(/v4 has the one change, v5 has both/);
    expect(stdout).toMatch(/documents +4, 3 of them alive/);
    expect(stdout).not.toContain('left out');
  });

  test('takes a folder that is no repository, and says so where there is nothing or no folder', async () => {
    const plain = await mkdtemp(join(tmpdir(), 'lamina-plain-'));
    expect((await demo(plain)).stdout).toContain('There are no Markdown files');
    await writeFile(join(plain, 'one.md'), 'a text without a line break');
    expect((await demo(plain)).stdout).toMatch(/1 document with 1 version from 1 commit/);
    expect(await demo(join(plain, 'missing'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is no folder'),
    });
    await rm(plain, { recursive: true });
  });
});
