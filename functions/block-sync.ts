import {
  appendBlock,
  type Block,
  fillBlock,
  isEdited,
  readBlocks,
  toBlockText,
  toContextText,
} from '../lib/factory/blocks.ts';
import type { Client, Reply } from './client.ts';
import { readIfThere, replaceFile } from './replace-file.ts';

/** What became of a block: `isOpen` where somebody has to settle something. */
export interface BlockReport {
  readonly id: string;
  readonly text: string;
  readonly isOpen: boolean;
}

/** Which blocks of which file, and of two changes of the same lines which one is to be kept. */
export interface BlockOrder {
  readonly path: string;
  /** All when absent. */
  readonly id?: string | undefined;
  readonly prefer?: 'ours' | 'theirs' | undefined;
}

interface ContextAnswer {
  readonly version: number;
  readonly contentType: string;
  readonly content: unknown;
}

interface Refusal {
  readonly code?: string;
  readonly currentVersion?: number;
  readonly baseKept?: boolean;
  readonly conflicts?: readonly { path: string; base?: unknown; ours?: unknown; theirs?: unknown }[];
}

type Outcome = { readonly report: BlockReport; readonly bytes?: Buffer };

const pathOf = (id: string) => `/v1/contexts/${encodeURIComponent(id)}`;
const done = (id: string, text: string, bytes?: Buffer): Outcome => ({
  report: { id, text, isOpen: false },
  ...(bytes === undefined ? {} : { bytes }),
});
const open = (id: string, text: string): Outcome => ({ report: { id, text, isOpen: true } });

/** Brings what Lamina has into the blocks of a file; what was edited there since is merged with it. */
export async function pullBlocks(client: Client, order: BlockOrder): Promise<BlockReport[]> {
  const { id, prefer } = order;
  return overFile(order, { isNewAllowed: id !== undefined }, async (bytes, wanted, block) => {
    const head = await readText(client, pathOf(wanted));
    if ('missing' in head) return open(wanted, `${head.missing} The block, if there is one, is left as it is.`);
    const theirs = toBlockText(head.text);
    const filling = { version: head.version, versionText: head.text, text: theirs };
    if (block === undefined)
      return done(wanted, `version ${head.version} put at the end`, appendBlock(bytes, wanted, filling));
    const isSame = block.version === head.version && !isEdited(block);
    if (isSame) return done(wanted, `version ${head.version}, as it was`);
    const isPlain = block.version === undefined ? block.text === '' : !isEdited(block);
    if (isPlain || block.text === theirs) {
      return done(wanted, `version ${head.version}`, fillBlock(bytes, wanted, filling));
    }
    if (block.version === head.version)
      return done(wanted, `edited here since version ${head.version}; push takes it there`);
    if (block.version === undefined) {
      return open(wanted, 'the block names no version, and is not what Lamina has: empty it, and pull again.');
    }
    const base = await readText(client, `${pathOf(wanted)}?version=${block.version}`);
    if ('missing' in base) return open(wanted, baseGone(wanted, block.version, head.version));
    const ours = { content: toContextText(block.text, base.text), contentType: head.contentType };
    const merged = await client.send<ContextAnswer & Refusal>('POST', '/v1/merge', {
      strategy: 'three-way',
      base: { id: wanted, version: block.version },
      sources: [ours, { id: wanted, version: head.version }],
      ...(prefer === undefined ? {} : { prefer }),
    });
    if (merged.json.code === 'merge_conflict') return open(wanted, conflictText(merged.json, order.path, wanted));
    const text = toBlockText(String(expectGood(merged).content));
    const what = `version ${head.version}, merged with what was edited here; push takes it there`;
    return done(wanted, what, fillBlock(bytes, wanted, { ...filling, text }));
  });
}

/** Takes what was edited in the blocks of a file to Lamina; what was changed there since is merged with it. */
export async function pushBlocks(client: Client, order: BlockOrder): Promise<BlockReport[]> {
  return overFile(order, { isNewAllowed: false }, async (bytes, id, block) => {
    if (block === undefined) return open(id, 'there is no block of it.');
    const { version, text } = block;
    if (version === undefined) return create(client, bytes, block);
    if (!isEdited(block)) return done(id, `version ${version}, not edited here`);
    const base = await readText(client, `${pathOf(id)}?version=${version}`);
    if ('missing' in base) return open(id, await whyGone(client, id, version, base.missing));
    const body = { content: toContextText(text, base.text), contentType: base.contentType };
    const put = await client.send<ContextAnswer & Refusal>('PUT', `${pathOf(id)}?onConflict=three-way`, body, {
      'if-match': `"${version}"`,
    });
    const { code } = put.json;
    if (code === 'merge_conflict') return open(id, conflictText(put.json, order.path, id));
    if (code === 'gone' || code === 'context_not_found' || code === 'version_conflict') {
      return open(id, await whyGone(client, id, version, put.problem ?? ''));
    }
    const written = expectGood(put);
    const now = String(written.content);
    const filling = { version: written.version, versionText: now, text: toBlockText(now) };
    return done(id, `version ${written.version}`, fillBlock(bytes, id, filling));
  });
}

async function create(client: Client, bytes: Buffer, { id, text }: Block): Promise<Outcome> {
  const content = toContextText(text, undefined);
  const body = { content, contentType: 'text/markdown', kind: 'note' };
  const put = await client.send<ContextAnswer & Refusal>('PUT', pathOf(id), body, { 'if-none-match': '*' });
  const { code } = put.json;
  if (code === 'already_exists' || code === 'version_conflict') {
    return open(id, 'the block names no version, but Lamina has the context: empty the block and pull.');
  }
  const { version } = expectGood(put);
  return done(id, `version ${version}, new`, fillBlock(bytes, id, { version, versionText: content, text }));
}

/** Goes over the blocks of a file and writes it once, with all that was done even where something went wrong then. */
async function overFile(
  order: BlockOrder,
  { isNewAllowed }: { isNewAllowed: boolean },
  settle: (bytes: Buffer, id: string, block: Block | undefined) => Promise<Outcome>,
): Promise<BlockReport[]> {
  const { path } = order;
  const before = await readIfThere(path);
  if (before === undefined && !isNewAllowed) throw new Error(`${path} is not there.`);
  const within = <Value>(work: () => Value): Value => {
    try {
      return work();
    } catch (error) {
      throw new Error(`${path}: ${error instanceof Error ? error.message : error} It is left as it is.`);
    }
  };
  let bytes = before ?? Buffer.alloc(0);
  const ids = order.id === undefined ? within(() => readBlocks(bytes)).map(({ id }) => id) : [order.id];
  if (ids.length === 0) {
    throw new Error(
      `${path} has no block: npm run pull -- ${path} --id ID puts one at its end. A context whose block was taken out stays in Lamina; DELETE ${pathOf('ID')} deletes it.`,
    );
  }
  const reports: BlockReport[] = [];
  let failure: unknown;
  for (const id of ids) {
    try {
      const block = within(() => readBlocks(bytes)).find((one) => one.id === id);
      const { report, bytes: made } = await settle(bytes, id, block);
      bytes = made ?? bytes;
      reports.push(report);
    } catch (error) {
      failure = error;
      break;
    }
  }
  const isChanged = before === undefined ? bytes.length > 0 : !bytes.equals(before);
  if (isChanged) await replaceFile(path, { before, after: bytes });
  if (failure !== undefined) throw failure;
  return reports;
}

type Text =
  | { readonly text: string; readonly version: number; readonly contentType: string }
  | { readonly missing: string };

async function readText(client: Client, path: string): Promise<Text> {
  const reply = await client.send<ContextAnswer & Refusal>('GET', path, undefined, { 'cache-control': 'no-cache' });
  const { code } = reply.json;
  if (code === 'gone') return { missing: 'it was deleted in Lamina.' };
  if (code === 'context_not_found' || code === 'version_not_found') return { missing: 'Lamina does not have it.' };
  const { content, contentType, version } = expectGood(reply);
  if (!contentType.startsWith('text/') || typeof content !== 'string') {
    return { missing: `it is ${contentType}, and only a text of at most 4 MiB can stand in a block.` };
  }
  return { text: content, version, contentType };
}

function expectGood<Body>(reply: Reply<Body>): Body {
  if (reply.problem !== undefined) throw new Error(`Lamina answers ${reply.status}: ${reply.problem}`);
  return reply.json;
}

async function whyGone(client: Client, id: string, version: number, otherwise: string): Promise<string> {
  const head = await readText(client, pathOf(id));
  if (!('missing' in head)) return baseGone(id, version, head.version);
  return `${head.missing || otherwise} Take version and hash out of the marker and push again to make it anew, or take the block out.`;
}

const baseGone = (id: string, version: number, head: number) =>
  `version ${version}, from which it was edited here, is no longer kept, so it cannot be merged with version ${head}: look at ${pathOf(id)}, edit the block to what shall be, and set version=${head} in its marker.`;

function conflictText({ conflicts = [] }: Refusal, path: string, id: string): string {
  const quote = (side: unknown) =>
    typeof side === 'string' && side !== '' ? side.replace(/\n$/, '').replaceAll(/^/gm, '      | ') : '      (nothing)';
  const parts = conflicts.map(
    ({ path: where, ours, theirs }) =>
      `  ${where} of the version both come from\n    here\n${quote(ours)}\n    in Lamina\n${quote(theirs)}`,
  );
  return [
    'the same lines were changed here and in Lamina; nothing was changed.',
    ...parts,
    `  Settle it: npm run pull -- ${path} --id ${id} --prefer ours (or theirs), which merges the rest, then push; or edit those lines to what Lamina has, and pull.`,
  ].join('\n');
}
