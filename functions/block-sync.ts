import {
  appendBlock,
  type Block,
  fillBlock,
  hashBlock,
  isEdited,
  type Made,
  readBlocks,
  toBlockText,
  toContextText,
  unclosedCode,
} from '../lib/factory/blocks.ts';
import { shellWord } from '../lib/factory/shell-word.ts';
import {
  type ContextAnswer,
  expectContext,
  expectGood,
  fetchBase,
  fetchText,
  pathOf,
  type Refusal,
} from './block-versions.ts';
import type { Client } from './client.ts';
import { readIfThere, replaceFile } from './replace-file.ts';

/** What became of a block: `isUnsettled` where somebody has to settle something. */
export interface BlockReport {
  readonly id: string;
  readonly text: string;
  readonly isUnsettled: boolean;
}

/** Which blocks of which file, and of two changes of the same lines which one is to be kept. */
export interface BlockOrder {
  readonly path: string;
  /** All when absent. */
  readonly id?: string | undefined;
  readonly prefer?: 'ours' | 'theirs' | undefined;
}

type Outcome = { readonly report: BlockReport; readonly bytes?: Buffer };

const settled = (id: string, text: string): Outcome => ({ report: { id, text, isUnsettled: false } });
const unsettled = (id: string, text: string): Outcome => ({ report: { id, text, isUnsettled: true } });

/** Brings what Lamina has into the blocks of a file; what was edited there since is merged with it. */
export async function pullBlocks(client: Client, order: BlockOrder): Promise<BlockReport[]> {
  const { path, id: only, prefer } = order;
  return overFile(order, { isNewAllowed: only !== undefined }, async (bytes, id, block) => {
    const head = await fetchText(client, pathOf(id));
    if ('missing' in head) return unsettled(id, `${head.missing} The block, if there is one, is left as it is.`);
    const filling = { version: head.version, versionText: head.text, text: toBlockText(head.text) };
    const place = (made: Made, text: string) => placed(made, { id, path, text, otherwise: 'Nothing was changed.' });
    if (block === undefined) return place(appendBlock(bytes, id, filling), `version ${head.version} put at the end`);
    const isOfHead = block.version === head.version && block.hash === hashBlock(head.text);
    if (isOfHead && !isEdited(block)) return settled(id, `version ${head.version}, as it was`);
    const isPlain =
      block.version === undefined ? block.text === '' : block.version !== head.version && !isEdited(block);
    if (isPlain || block.text === filling.text) {
      return place(fillBlock(bytes, id, filling), `version ${head.version}`);
    }
    if (isOfHead) {
      const how = 'empty the block, take version and hash out of its marker, and pull';
      const discard = prefer === 'theirs' ? ` Lamina has not changed since: to discard the edit, ${how}.` : '';
      return settled(id, `edited here since version ${head.version}; push takes it there.${discard}`);
    }
    if (block.version === undefined) {
      return unsettled(id, 'the block names no version, and is not what Lamina has: empty it, and pull again.');
    }
    const base = await fetchBase(client, block, head);
    if ('missing' in base) return unsettled(id, base.missing);
    const merged = await client.send<ContextAnswer & Refusal>('POST', '/v1/merge', {
      strategy: 'three-way',
      base: { id, version: base.version },
      sources: [
        { content: toContextText(block.text, base.text), contentType: head.contentType },
        { id, version: head.version },
      ],
      ...(prefer === undefined ? {} : { prefer }),
    });
    if (merged.json.code === 'merge_conflict') return unsettled(id, conflictText(merged.json, path, id));
    const text = toBlockText(String(expectGood(merged).content));
    const what = `version ${head.version}, merged with what was edited here; push takes it there`;
    return place(fillBlock(bytes, id, { ...filling, text }), what);
  });
}

/** Takes what was edited in the blocks of a file to Lamina; what was changed there since is merged with it. */
export async function pushBlocks(client: Client, order: BlockOrder): Promise<BlockReport[]> {
  const { path } = order;
  return overFile(order, { isNewAllowed: false }, async (bytes, id, block) => {
    if (block === undefined) return unsettled(id, 'there is no block of it.');
    if (block.version === undefined) return create(client, { bytes, block, path });
    if (!isEdited(block)) return settled(id, `version ${block.version}, not edited here`);
    const head = await fetchText(client, pathOf(id));
    if ('missing' in head) {
      const how = head.isGone
        ? ' Take version and hash out of the marker and push again to make it anew, or take the block out.'
        : '';
      return unsettled(id, head.missing + how);
    }
    const base = await fetchBase(client, block, head);
    if ('missing' in base) return unsettled(id, base.missing);
    const body = { content: toContextText(block.text, base.text), contentType: head.contentType };
    const put = await client.send<ContextAnswer & Refusal>('PUT', `${pathOf(id)}?onConflict=three-way`, body, {
      'if-match': `"${block.version}"`,
    });
    if (put.json.code === 'merge_conflict') return unsettled(id, conflictText(put.json, path, id));
    if ([404, 410, 412].includes(put.status)) return unsettled(id, 'it was changed in Lamina meanwhile: push again.');
    const { version, content } = expectContext(put);
    const now = String(content);
    const made = fillBlock(bytes, id, { version, versionText: now, text: toBlockText(now) });
    return placed(made, { id, path, text: `version ${version}`, otherwise: `Version ${version} was written there.` });
  });
}

async function create(client: Client, of: { bytes: Buffer; block: Block; path: string }): Promise<Outcome> {
  const { bytes, block, path } = of;
  const { id, text } = block;
  const content = toContextText(text, undefined);
  const body = { content, contentType: 'text/markdown', kind: 'note' };
  const put = await client.send<ContextAnswer & Refusal>('PUT', pathOf(id), body, { 'if-none-match': '*' });
  const { code } = put.json;
  if (code === 'already_exists' || code === 'version_conflict') {
    return unsettled(id, 'the block names no version, but Lamina has the context: empty the block and pull.');
  }
  const { version } = expectContext(put);
  const made = fillBlock(bytes, id, { version, versionText: content, text });
  const otherwise = `Version ${version} was written there.`;
  return placed(made, { id, path, text: `version ${version}, new`, otherwise });
}

function placed(made: Made, of: { id: string; path: string; text: string; otherwise: string }): Outcome {
  const { id, path, text, otherwise } = of;
  if ('refused' in made) return unsettled(id, `it cannot stand in a block of ${path}: ${made.refused}. ${otherwise}`);
  return { report: { id, text, isUnsettled: false }, bytes: made.bytes };
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
  if (ids.length === 0) throw new Error(noBlock(path, unclosedCode(bytes)));
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

function noBlock(path: string, unclosed: number | undefined): string {
  if (unclosed !== undefined) {
    return `${path} has no block: what comes after line ${unclosed} is code, since the code block there is not closed.`;
  }
  return `${path} has no block: npm run pull -- ${shellWord(path)} --id ID puts one at its end. A context whose block was taken out stays in Lamina; DELETE ${pathOf('ID')} deletes it.`;
}

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
    `  Settle it: npm run pull -- ${shellWord(path)} --id ${id} --prefer ours (or theirs), which merges the rest, then push; or edit those lines to what Lamina has, and pull.`,
  ].join('\n');
}
