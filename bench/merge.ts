import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { type MergeCase, readMergeCases } from '../functions/git-history.ts';
import { Problem } from '../lib/base/problem.ts';
import { type Document, jsonType, toDocument } from '../lib/merge/document.ts';
import { merge, type Preference, type Strategy } from '../lib/merge/merge.ts';
import { median, type Report, timed } from './report.ts';

const run = promisify(execFile);
const textType = 'text/plain';
const repetitions = 9;

/** How long merges take, and how many of the cases that people met they settle, beside `git merge-file`. */
export async function* benchMerge(repositories: readonly string[]): AsyncGenerator<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-bench-merge-'));
  try {
    yield await benchTime(folder);
    yield await benchShare(folder, 'merge-generated', 'JSON documents with 1–4 edits a side', generated());
    for (const repository of repositories) {
      const name = basename(repository.replace(/\/(repo|\.git)?\/?$/, ''));
      for (const [kind, patterns] of [
        ['json', ['*.json']],
        ['text', ['*.md', '*.mdx', '*.ts', '*.js']],
      ] as const) {
        const cases = readMergeCases(repository, { patterns, mergesMax: 2000 });
        yield await benchShare(folder, `merge-${name}-${kind}`, `${kind} files of ${name}'s merge commits`, cases);
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function benchTime(folder: string): Promise<Report> {
  const lines = [];
  const targets = [];
  for (const [label, bytes, limitMs] of [
    ['1 MB', 1_000_000, 50],
    ['10 MB', 10_000_000, 500],
  ] as const) {
    const value = makeDocument(bytes);
    const base = JSON.stringify(value);
    const ours = JSON.stringify(edited(value, 3, 1));
    const theirs = JSON.stringify(edited(value, 3, 2));
    const pretty = [base, ours, theirs].map((text) => `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
    const parse = () => [base, ours, theirs].map((text) => toDocument(Buffer.from(text), jsonType));
    const documents = parse();
    const mergeAs = (strategy: Strategy) => () => join3(strategy, documents as [Document, Document, Document]);
    const texts = pretty.map((text) => toDocument(Buffer.from(text), textType)) as [Document, Document, Document];
    const work: Record<string, () => unknown> = {
      'three-way': mergeAs('three-way'),
      union: mergeAs('union'),
      intersection: mergeAs('intersection'),
      'parse 3': parse,
      'by lines': () => join3('three-way', texts),
      'git merge-file': await gitMerge(folder, pretty as [string, string, string]),
    };
    const times = Object.fromEntries(Object.keys(work).map((what) => [what, [] as number[]]));
    for (let round = -2; round < repetitions; round++) {
      for (const [what, merging] of Object.entries(work)) {
        const ms = await timed(merging);
        if (round >= 0) times[what]?.push(ms);
      }
    }
    const medians = Object.fromEntries(Object.entries(times).map(([what, values]) => [what, median(values)]));
    lines.push({ document: label, ...medians });
    const ms = medians['three-way'] ?? Number.NaN;
    targets.push({ what: `three-way merge of ${label}: ${ms.toFixed(0)} ms (< ${limitMs} ms)`, isMet: ms < limitMs });
  }
  const about = 'median ms; git merge-file on the same documents, pretty-printed, its process included';
  return { name: 'merge-time', about, lines, targets };
}

function join3(
  strategy: Strategy,
  [base, ours, theirs]: readonly [Document, Document, Document],
  prefer: Preference = 'ours',
) {
  const sources = [ours, theirs].map((document, at) => ({ ...document, updatedMs: at, version: at }));
  return merge({ strategy, sources, base, prefer });
}

/** `git merge-file -p` on files written beforehand; answers with the merged text, null where it left conflicts. */
async function gitMerge(
  folder: string,
  texts: readonly [string, string, string],
): Promise<() => Promise<string | null>> {
  const [base, ours, theirs] = ['base', 'ours', 'theirs'].map((name) => join(folder, name)) as [string, string, string];
  await Promise.all([writeFile(base, texts[0]), writeFile(ours, texts[1]), writeFile(theirs, texts[2])]);
  return () =>
    run('git', ['merge-file', '-p', ours, base, theirs], { maxBuffer: 256 * 1024 * 1024 }).then(
      ({ stdout }) => stdout,
      (error: { code: number }) => {
        // The exit status is the number of conflicts; above 127 it is an error.
        if (error.code > 127) throw error;
        return null;
      },
    );
}

/** The share of cases that each merges without a conflict, and of those the share that is what was committed. */
async function benchShare(
  folder: string,
  name: string,
  about: string,
  cases: AsyncIterable<MergeCase> | Iterable<MergeCase>,
): Promise<Report> {
  const seen = { lamina: { clean: 0, same: 0 }, git: { clean: 0, same: 0 } };
  let count = 0;
  let isJson = false;
  let isCommitted = false;
  for await (const one of cases) {
    isJson = one.path.endsWith('.json');
    const texts = [one.base, one.ours, one.theirs] as const;
    // What was generated was never committed.
    const committed = one.committed === '' ? [] : [one.committed];
    if (isJson && ![...texts, ...committed].every(isParsable)) continue;
    count++;
    isCommitted ||= committed.length > 0;
    const printed = (isJson ? texts.map(pretty) : texts) as [string, string, string];
    const documents = texts.map((text) => toDocument(Buffer.from(text), isJson ? jsonType : textType));
    const ours = attempt(documents as [Document, Document, Document]);
    const git = await (await gitMerge(folder, printed))();
    const isSame = (text: string) =>
      isJson ? isParsable(text) && pretty(text) === pretty(one.committed) : text === one.committed;
    for (const [who, text] of [
      ['lamina', ours],
      ['git', git],
    ] as const) {
      if (text === null) continue;
      seen[who].clean++;
      if (committed.length > 0 && isSame(text)) seen[who].same++;
    }
  }
  const percent = (part: number, whole: number) => (whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`);
  const lines = (
    [
      ['Lamina three-way', seen.lamina],
      ['git merge-file', seen.git],
    ] as const
  ).map(([who, { clean, same }]) => ({
    who,
    cases: count,
    clean,
    share: percent(clean, count),
    'as committed': isCommitted ? percent(same, clean) : '–',
  }));
  const targets =
    count === 0
      ? []
      : [{ what: `${about}: settles at least as many as git`, isMet: seen.lamina.clean >= seen.git.clean }];
  return { name, about, lines, targets };
}

function attempt(documents: readonly [Document, Document, Document]): string | null {
  try {
    return Buffer.from(join3('three-way', documents, 'fail').document.bytes).toString();
  } catch (error) {
    if (error instanceof Problem && error.code === 'merge_conflict') return null;
    throw error;
  }
}

function isParsable(text: string): boolean {
  try {
    toDocument(Buffer.from(text), jsonType);
    return true;
  } catch {
    return false;
  }
}

const pretty = (text: string) => `${JSON.stringify(sorted(JSON.parse(text)), null, 2)}\n`;

// Where it only matters what a document says, not in which order its keys stand.
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([key, member]) => [key, sorted(member)]),
  );
}

interface Memory {
  [name: string]: { id: string; notes: string[]; facts: Record<string, unknown>; links: { id: string; to: string }[] };
}

/** A document like those that agents keep, of about so many bytes. */
function makeDocument(bytes: number): Memory {
  const memory: Memory = {};
  for (let at = 0, size = 0; size < bytes; at++) {
    const entry = {
      id: `entity-${at}`,
      notes: Array.from(
        { length: 4 },
        (_, note) => `observation ${note} about entity ${at}: it was seen near ${at * 7}`,
      ),
      facts: { seen: at, score: at / 7, isActive: at % 2 === 0, tags: ['one', 'two', `tag-${at % 10}`] },
      links: [{ id: `link-${at}`, to: `entity-${at + 1}` }],
    };
    memory[`entity-${at}`] = entry;
    size += JSON.stringify(entry).length + 16;
  }
  return memory;
}

/** A copy with so many entries of every hundred edited, spread by `seed`. */
function edited(document: Memory, percent: number, seed: number): Memory {
  const random = generator(seed);
  const copy = structuredClone(document);
  for (const name of Object.keys(copy)) if (random() * 100 < percent) edit(copy, name, random);
  return copy;
}

function edit(copy: Memory, name: string, random: () => number): void {
  const entry = copy[name];
  if (entry === undefined) return;
  const marker = Math.floor(random() * 1e9);
  const kinds = [
    () => entry.notes.push(`added ${marker}`),
    () => entry.notes.splice(Math.floor(random() * entry.notes.length), 1),
    () => Object.assign(entry.facts, { [`fact-${marker}`]: true }),
    () => Object.assign(entry.facts, { score: marker }),
    () => entry.links.push({ id: `link-${marker}`, to: name }),
    () => delete copy[name],
  ];
  kinds[Math.floor(random() * kinds.length)]?.();
}

function* generated(): Generator<MergeCase> {
  const base = makeDocument(4000);
  for (let seed = 1; seed <= 300; seed++) {
    const random = generator(seed);
    const side = () => {
      const copy = structuredClone(base);
      const names = Object.keys(copy);
      for (let edits = 1 + Math.floor(random() * 4); edits > 0; edits--) {
        edit(copy, names[Math.floor(random() * names.length)] ?? '', random);
      }
      return JSON.stringify(copy);
    };
    yield {
      path: 'generated.json',
      commit: '',
      base: JSON.stringify(base),
      ours: side(),
      theirs: side(),
      committed: '',
    };
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32, Tommy Ettinger, public domain). */
function generator(seed: number): () => number {
  let state = seed * 0x9e3779b9;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
