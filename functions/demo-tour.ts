import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { Client } from './client.ts';
import type { MergeCase, Revision } from './git-history.ts';
import type { Progress } from './progress.ts';

const batchMax = 100;
// Below the 4 MiB that a request may have, with room for what JSON adds to a text.
const batchBytesMax = 2_000_000;
const textType = 'text/markdown';
const mark = (code: number) => (text: string) => (process.stdout.isTTY ? `\u001b[${code}m${text}\u001b[0m` : text);
const bold = mark(1);
const dim = mark(2);

interface ContextJson {
  readonly version: number;
  readonly content: string;
  readonly metadata: { readonly path: string; readonly subject: string };
}

interface VersionJson {
  readonly version: number;
  readonly message?: string;
}

interface MergeJson {
  readonly content: string;
  readonly conflicts: readonly { readonly path: string }[];
}

interface CacheJson {
  readonly layers: Readonly<Record<'l1' | 'l2', { readonly hits: number; readonly misses: number }>>;
}

interface Imported {
  readonly path: string;
  versions: number;
  isAlive: boolean;
}

/** Imports the revisions as contexts and versions, then shows a search, a difference, a merge and what it all cost. */
export async function runDemo(deps: {
  client: Client;
  revisions: readonly Revision[];
  /** A document that two branches have changed, where the history has one. */
  branches: MergeCase | undefined;
  folder: string;
  progress: Progress;
  servedBy: string;
  /** Requests made to PostgreSQL so far, where they can be counted. */
  requests: () => number | undefined;
}): Promise<void> {
  const { client, revisions, branches, folder, progress } = deps;
  const name = basename(folder) || 'root';
  const root = `demo:${toId(name)}`;
  const print = (text: string, aside = '') => console.log(`${text}${aside === '' ? '' : ` ${dim(aside)}`}`);
  if (revisions.length === 0) {
    progress.done();
    print(`There are no Markdown files in ${folder}.`);
    return;
  }

  const started = performance.now();
  const requestsBefore = deps.requests();
  // Creates only: a history that is there already is not written over itself.
  await client.expect('POST', '/v1/contexts', { id: root, kind: 'repository', content: { folder: name } });
  const { documents, refusals } = await importRevisions();
  const seconds = (performance.now() - started) / 1000;
  const requestsAfter = deps.requests();
  progress.done();

  const commits = new Set(revisions.map(({ commit }) => commit)).size;
  print(
    `\n${bold(name)}: ${count(documents.size, 'document')} with ${count(revisions.length, 'version')} from ${count(commits, 'commit')}`,
  );
  for (const refusal of refusals.slice(0, 5)) print(`  left out: ${refusal}`);
  if (refusals.length > 5) print(`  and ${refusals.length - 5} more left out`);
  await showSearch();
  const [favourite] = [...documents]
    .filter(([, { isAlive }]) => isAlive)
    .sort(([, a], [, b]) => b.versions - a.versions);
  if (favourite !== undefined) await showHistory(...favourite);
  if (branches !== undefined) await showBranches(branches);
  if (favourite !== undefined) await showRace(...favourite);
  await showCost();

  async function importRevisions() {
    const imported = new Map<string, Imported>();
    const refused: string[] = [];
    let batch: { path: string; operation: { op: string; id: string } }[] = [];
    let bytes = 0;
    let done = 0;
    const flush = async () => {
      if (batch.length === 0) return;
      const operations = batch.map(({ operation }) => operation);
      const { json } = await client.expect<{ results: { index: number; problem?: { detail: string } }[] }>(
        'POST',
        '/v1/batch/write',
        { operations },
      );
      for (const { index, problem } of json.results) {
        // What one branch removes another may have removed before; git tells of both.
        if (problem && batch[index]?.operation.op !== 'delete') {
          refused.push(`${batch[index]?.path}: ${problem.detail}`);
        }
      }
      done += batch.length;
      batch = [];
      bytes = 0;
      progress.step('revisions', done, revisions.length);
    };
    for (const revision of revisions) {
      const { path, text } = revision;
      const id = `${root}:${toId(path)}`;
      const size = Buffer.byteLength(text ?? '');
      if (size > batchBytesMax) {
        refused.push(`${path} as of ${revision.commit.slice(0, 8)}: ${size} bytes are more than one request takes`);
        done++;
        continue;
      }
      // One context stands once in a batch, and its next version in the next.
      const isFull = batch.length === batchMax || bytes + size > batchBytesMax;
      if (isFull || batch.some(({ operation }) => operation.id === id)) await flush();
      batch.push({ path, operation: toOperation(id, root, revision) });
      bytes += size;
      const known = imported.get(id) ?? { path, versions: 0, isAlive: true };
      imported.set(id, Object.assign(known, { versions: known.versions + 1, isAlive: text !== null }));
    }
    await flush();
    return { documents: imported, refusals: refused };
  }

  async function showSearch() {
    const byAuthor = Map.groupBy(revisions, ({ author }) => author);
    const [author = ''] = [...byAuthor].sort(([, a], [, b]) => b.length - a.length)[0] ?? [];
    const query = new URLSearchParams({ subtreeOf: root, 'metadata.author': author, order: 'updated', limit: '5' });
    const { json } = await client.expect<{ items: ContextJson[] }>('GET', `/v1/contexts?${query}`);
    print(`\n${bold('Search by metadata')}`, `GET /v1/contexts?metadata.author=${author}&order=updated`);
    for (const { metadata, version } of json.items)
      print(`  ${metadata.path}`, `v${version} · ${short(metadata.subject)}`);
  }

  async function showHistory(id: string, { path }: Imported) {
    const { json } = await client.expect<{ items: VersionJson[] }>('GET', `/v1/contexts/${id}/versions?limit=3`);
    const { items } = json;
    print(`\n${bold('History')}`, `GET /v1/contexts/${id}/versions`);
    for (const { version, message = '' } of items) print(`  ${path} v${version}`, short(message));
    const [to, from] = items.map(({ version }) => version);
    if (to === undefined || from === undefined) return;
    const diff = await client.expect<{ patch: string }>('GET', `/v1/contexts/${id}/diff?from=${from}&to=${to}`);
    print(`\n${bold('Difference')}`, `v${from} → v${to} of ${path}`);
    const lines = diff.json.patch.split('\n').slice(2);
    for (const line of lines.slice(0, 10)) print(`  ${line.slice(0, 110)}`);
    if (lines.length > 11) print(dim(`  … ${lines.length - 11} more lines`));
  }

  /** What git's own users merged by hand or by git, merged here from the same three texts. */
  async function showBranches({ path, commit, base, ours, theirs, committed }: MergeCase) {
    const as = (content: string) => ({ content, contentType: textType });
    const plan = { strategy: 'three-way', base: as(base), sources: [as(ours), as(theirs)], prefer: 'ours' };
    const { json } = await client.expect<MergeJson>('POST', '/v1/merge', plan);
    print(`\n${bold('Merge of two branches')}`, `${path}, joined by commit ${commit.slice(0, 8)}`);
    const { conflicts } = json;
    if (conflicts.length > 0) {
      print(
        `  both branches changed ${conflicts.map((one) => one.path).join(', ')}: ${count(conflicts.length, 'conflict')} to decide`,
      );
    } else if (json.content === committed) print('  joined without a conflict, byte for byte what was committed');
    else print('  joined without a conflict; whoever committed it changed more by hand');
  }

  /** Two writers start from the same version: the second is merged, not refused and not lost. */
  async function showRace(id: string, { path }: Imported) {
    const { json: before } = await client.expect<ContextJson>('GET', `/v1/contexts/${id}`);
    const [note, end] = ['> read by an agent\n', '\n> and by another one\n'];
    const write = (content: string) =>
      client.send<ContextJson>(
        'PUT',
        `/v1/contexts/${id}?onConflict=three-way`,
        { content, contentType: textType },
        { 'if-match': `"${before.version}"` },
      );
    const [first, second] = [await write(note + before.content), await write(before.content + end)];
    print(
      `\n${bold('Merge of two writers')}`,
      `both wrote ${path} from v${before.version}, PUT …?onConflict=three-way`,
    );
    for (const reply of [first, second])
      if (reply.problem !== undefined) print(`  refused, nothing lost: ${reply.problem}`);
    const isKept = second.json.content === note + before.content + end;
    if (isKept) print(`  v${first.json.version} has the one change, v${second.json.version} has both`);
  }

  async function showCost() {
    const bytes = revisions.reduce((sum, { text }) => sum + Buffer.byteLength(text ?? ''), 0);
    const alive = [...documents.values()].filter(({ isAlive }) => isAlive).length;
    const { seq } = await client.expect('GET', `/v1/contexts?subtreeOf=${root}&limit=1`);
    const line = (label: string, value: string) => print(`  ${label.padEnd(23)}${value}`);
    print(`\n${bold('What it took')}`);
    line(
      'written',
      `${count(revisions.length, 'version')} in ${seconds.toFixed(1)} s, ${Math.round(revisions.length / Math.max(seconds, 0.001))} a second`,
    );
    line('documents', `${documents.size}, ${alive} of them alive`);
    line('text', `${(bytes / 1_048_576).toFixed(2)} MiB over all versions`);
    if (requestsBefore !== undefined && requestsAfter !== undefined) {
      line('database', `${requestsAfter - requestsBefore} requests, up to ${batchMax} writes each`);
    }
    const { json } = await client.expect<CacheJson>('GET', '/v1/cache');
    const { l1, l2 } = json.layers;
    line('contexts served by', `layer 1 ${l1.hits}, layer 2 ${l2.hits}, PostgreSQL ${l2.misses}`);
    line('where', deps.servedBy);
    line('clock', `${seq}: one tick a change, none missing`);
    print('');
  }
}

function toOperation(id: string, root: string, revision: Revision) {
  const { path, text, commit, author, subject, date } = revision;
  if (text === null) return { op: 'delete', id, children: 'orphan' };
  return {
    op: 'put',
    id,
    parentId: root,
    kind: 'document',
    content: text.replaceAll('\u0000', ''),
    contentType: textType,
    metadata: { path, commit, author, subject, date },
    ...(subject === '' ? {} : { message: subject.slice(0, 1000).toWellFormed() }),
  };
}

const idLengthMax = 140;

/** A path as an id; where it cannot stand as it is, its hash keeps it apart from others. */
function toId(path: string): string {
  const id = path
    .replaceAll('/', ':')
    .replaceAll(/[^A-Za-z0-9._:~-]/g, '-')
    .slice(0, idLengthMax);
  if (id.replaceAll(':', '/') === path) return id;
  return `${id}~${createHash('sha256').update(path).digest('hex').slice(0, 8)}`;
}

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;
const short = (text: string) => (text.length > 70 ? `${text.slice(0, 69)}…` : text);
