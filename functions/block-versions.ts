import { type Block, hashBlock } from '../lib/factory/blocks.ts';
import type { Client, Reply } from './client.ts';

/** What is read of a context. */
export interface ContextAnswer {
  readonly version: number;
  readonly contentType: string;
  readonly content: unknown;
}

/** What is read of a problem. */
export interface Refusal {
  readonly code?: string;
  readonly conflicts?: readonly { path: string; base?: unknown; ours?: unknown; theirs?: unknown }[];
}

interface Version {
  readonly version: number;
  readonly text: string;
  readonly contentType: string;
}

interface Missing {
  readonly missing: string;
}

export const pathOf = (id: string) => `/v1/contexts/${encodeURIComponent(id)}`;

/** A context, or one version of it, as far as it is a text; else why it cannot stand in a block. */
export async function fetchText(client: Client, path: string): Promise<Version | (Missing & { isGone: boolean })> {
  const reply = await client.send<ContextAnswer & Refusal>('GET', path, undefined, { 'cache-control': 'no-cache' });
  const { code } = reply.json;
  if (code === 'gone') return { missing: 'it was deleted in Lamina.', isGone: true };
  if (code === 'context_not_found' || code === 'version_not_found') {
    return { missing: 'Lamina does not have it.', isGone: true };
  }
  const { content, contentType, version } = expectContext(reply);
  if (!contentType.startsWith('text/') || typeof content !== 'string') {
    return {
      missing: `it is ${contentType}, and only a text of at most 4 MiB can stand in a block.`,
      isGone: false,
    };
  }
  return { text: content, version, contentType };
}

/**
 * The version that a block was made from: by its number alone it may be one of another store, and what was edited since
 * would be compared with a text that never stood there.
 */
export async function fetchBase(
  client: Client,
  { id, version, hash }: Block,
  head: Version,
): Promise<Version | Missing> {
  const base = version === head.version ? head : await fetchText(client, `${pathOf(id)}?version=${version}`);
  const how = `look at ${pathOf(id)}, edit the block to what shall be, and set version=${head.version} hash=${hashBlock(head.text)} in its marker.`;
  if ('missing' in base) {
    return {
      missing: `version ${version}, from which it was edited here, is no longer kept, so it cannot be merged with version ${head.version}: ${how}`,
    };
  }
  if (hash === hashBlock(base.text)) return base;
  return {
    missing: `version ${version} there is not the text this block was made from; nothing was changed. If it is the right Lamina, ${how}`,
  };
}

/** @throws Error with the problem's sentence. */
export function expectGood<Body>(reply: Reply<Body>): Body {
  if (reply.problem !== undefined) throw new Error(`Lamina answers ${reply.status}: ${reply.problem}`);
  return reply.json;
}

/** @throws Error where the answer is a problem, or no context. */
export function expectContext(reply: Reply<ContextAnswer>): ContextAnswer {
  const { version, contentType, content } = expectGood(reply);
  if (Number.isSafeInteger(version) && typeof contentType === 'string') return { version, contentType, content };
  throw new Error('What answers is no Lamina: it sends no context.');
}
