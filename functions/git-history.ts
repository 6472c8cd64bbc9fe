import { execFile, spawn } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const outputBytesMax = 1024 * 1024 * 1024;
const markdown = ['*.md', '*.mdx'];

/** One file as one commit left it; `text` is null where the commit removed it. */
export interface Revision {
  readonly path: string;
  readonly text: string | null;
  readonly commit: string;
  readonly author: string;
  readonly subject: string;
  /** ISO 8601. */
  readonly date: string;
}

/** One file that both sides of a merge commit had changed since they parted, and what was committed for it. */
export interface MergeCase {
  readonly path: string;
  readonly commit: string;
  readonly base: string;
  readonly ours: string;
  readonly theirs: string;
  readonly committed: string;
}

/**
 * Every revision of the Markdown files below `folder`, oldest first: from git where it is a repository (renames are a
 * removal and a creation), else each file as it lies there, as one revision.
 */
export async function readRevisions(folder: string): Promise<Revision[]> {
  return (await isRepository(folder)) ? readGit(folder) : readFiles(folder);
}

/**
 * Files that two branches had changed both, from the merge commits of two parents, newest first.
 *
 * @param options.patterns which files, as git's pathspecs; Markdown when absent.
 * @param options.mergesMax how many merge commits are looked at.
 */
export async function* readMergeCases(
  folder: string,
  options: { readonly patterns?: readonly string[]; readonly mergesMax: number },
): AsyncGenerator<MergeCase> {
  if (!(await isRepository(folder))) return;
  const { patterns = markdown, mergesMax } = options;
  const merges = await git(folder, ['log', '--merges', '--max-parents=2', '-n', String(mergesMax), '--format=%H %P']);
  for (const line of merges.split('\n').filter(Boolean)) {
    const [commit = '', ours = '', theirs = ''] = line.split(' ');
    const base = (await git(folder, ['merge-base', ours, theirs]).catch(() => '')).trim();
    if (base === '') continue;
    const changedBy = (side: string) => readModified(folder, base, side, patterns);
    const [byOurs, byTheirs] = [await changedBy(ours), await changedBy(theirs)];
    const both = [...byOurs].filter(([path]) => byTheirs.has(path));
    if (both.length === 0) continue;
    const after = await readTree(
      folder,
      commit,
      both.map(([path]) => path),
    );
    const wanted = both.flatMap(([path, { from, to }]) => [
      from,
      to,
      byTheirs.get(path)?.to ?? '',
      after.get(path) ?? '',
    ]);
    const texts = await readBlobs(folder, [...new Set(wanted.filter(Boolean))]);
    for (const [path, { from, to }] of both) {
      const [baseText, oursText, theirsText, committed] = [from, to, byTheirs.get(path)?.to, after.get(path)].map(
        (blob) => texts.get(blob ?? ''),
      );
      if (baseText === undefined || oursText === undefined || theirsText === undefined || committed === undefined)
        continue;
      if (oursText === theirsText) continue;
      yield { path, commit, base: baseText, ours: oursText, theirs: theirsText, committed };
    }
  }
}

async function git(folder: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run('git', ['-C', folder, ...args], { maxBuffer: outputBytesMax });
  return stdout;
}

function isRepository(folder: string): Promise<boolean> {
  return git(folder, ['rev-parse', '--verify', 'HEAD']).then(
    () => true,
    () => false,
  );
}

interface Touched {
  readonly revision: Omit<Revision, 'text'>;
  /** Object id of the content, null where the file was removed. */
  readonly blob: string | null;
}

async function readGit(folder: string): Promise<Revision[]> {
  const shape = ['--reverse', '--no-merges', '--no-renames', '--raw', '--no-abbrev', '-z'];
  const format = '--format=%x01%H%x00%an%x00%s%x00%cI';
  const output = await git(folder, ['log', ...shape, format, '--', ...markdown]);
  const touched = output.split('\u0001').slice(1).flatMap(readCommit);
  const texts = await readBlobs(folder, [...new Set(touched.flatMap(({ blob }) => blob ?? []))]);
  return touched.map(({ revision, blob }) => ({ ...revision, text: blob === null ? null : (texts.get(blob) ?? '') }));
}

// `:modes old new status`, as `--raw --no-abbrev` prints a file.
const rawFile = /^\n?:\d+ \d+ ([0-9a-f]+) ([0-9a-f]+) ([A-Z])/;

/** A commit of `git log --raw -z`: its fields, then for each file its raw line and its path, each closed by NUL. */
function readCommit(record: string): Touched[] {
  const [commit = '', author = '', subject = '', date = '', ...rest] = record.split('\u0000');
  return readRaw(rest).map(({ path, to, status }) => ({
    revision: { path, commit, author, subject, date },
    blob: status === 'D' ? null : to,
  }));
}

function readRaw(fields: readonly string[]): { path: string; from: string; to: string; status: string }[] {
  const files = [];
  for (let at = 0; at + 1 < fields.length; at++) {
    const [, from = '', to = '', status = ''] = rawFile.exec(fields[at] ?? '') ?? [];
    if (status !== '') files.push({ path: fields[++at] ?? '', from, to, status });
  }
  return files;
}

/** What a side modified since the base: the blobs before and after, by path. */
async function readModified(folder: string, base: string, side: string, patterns: readonly string[]) {
  const shape = ['-r', '-z', '--raw', '--no-renames', '--no-abbrev', '--diff-filter=M'];
  const output = await git(folder, ['diff-tree', ...shape, base, side, '--', ...patterns]);
  return new Map(readRaw(output.split('\u0000')).map(({ path, from, to }) => [path, { from, to }]));
}

/** The blobs of the paths as the commit has them. */
async function readTree(folder: string, commit: string, paths: readonly string[]): Promise<Map<string, string>> {
  const output = await git(folder, ['ls-tree', '-r', '-z', '--format=%(objectname) %(path)', commit, '--', ...paths]);
  return new Map(
    output
      .split('\u0000')
      .filter(Boolean)
      .map((line) => [line.slice(line.indexOf(' ') + 1), line.slice(0, line.indexOf(' '))]),
  );
}

/** The texts of objects, by one `git cat-file --batch`. */
async function readBlobs(folder: string, blobs: readonly string[]): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const child = spawn('git', ['-C', folder, 'cat-file', '--batch'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(blobs.map((blob) => `${blob}\n`).join(''));
  const pieces: Buffer[] = [];
  for await (const piece of child.stdout) pieces.push(piece as Buffer);
  const output = Buffer.concat(pieces);
  for (let at = 0; at < output.length; ) {
    const lineEnd = output.indexOf(10, at);
    const [blob = '', kind = '', size = '0'] = output.toString('latin1', at, lineEnd).split(' ');
    at = lineEnd + 1;
    if (kind === 'missing') continue;
    texts.set(blob, output.toString('utf8', at, at + Number(size)));
    at += Number(size) + 1;
  }
  return texts;
}

async function readFiles(folder: string): Promise<Revision[]> {
  const paths = (await readdir(folder, { recursive: true })).filter(
    (path) => /\.mdx?$/.test(path) && !/(^|\/)(node_modules|\.[^/]+)\//.test(path),
  );
  return Promise.all(
    paths.sort().map(async (path) => {
      const { mtime } = await stat(join(folder, path));
      const about = { commit: 'none', author: 'unknown', subject: 'as it lies there', date: mtime.toISOString() };
      return { path, text: await readFile(join(folder, path), 'utf8'), ...about };
    }),
  );
}
