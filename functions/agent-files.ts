import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { sha256 } from '../lib/base/hash.ts';
import type { ConfigText } from '../lib/factory/hook-config.ts';
import { connectionsFolder } from './connection.ts';
import { readIfThere } from './replace-file.ts';
import type { Environment } from './runtime.ts';

/** What some editors put before a text. */
export const byteOrderMark = '\ufeff';

export type Agent = 'droid' | 'claude';

/** What `npm run connect` was asked for. */
export interface Order {
  readonly agent: Agent;
  /** Only for the project it was called in; for all of the user's otherwise. */
  readonly isProject: boolean;
  readonly url: string;
}

/** A file that holds hooks: keyed by event itself, or under `wrapper`. */
export interface HookPlace {
  readonly path: string;
  readonly wrapper?: 'hooks';
}

/** Where an agent reads what is written for it. */
export interface Places {
  /** The second is what is read where the first is not there. */
  readonly hooks: readonly [HookPlace, HookPlace?];
  /** Undefined where the agent's own command is the way. */
  readonly servers: string | undefined;
}

export function placesOf(order: Order, environment: Environment): Places {
  const { agent, isProject } = order;
  const root = rootOf(order, environment);
  if (agent === 'claude') {
    // A command with a path of this machine belongs into no file that others check out.
    const path = join(root, '.claude', isProject ? 'settings.local.json' : 'settings.json');
    return { hooks: [{ path, wrapper: 'hooks' }], servers: isProject ? join(root, '.mcp.json') : undefined };
  }
  const flat = { path: join(root, '.factory', 'hooks.json') };
  const wrapped = { path: join(root, '.factory', 'settings.json'), wrapper: 'hooks' as const };
  return { hooks: [flat, wrapped], servers: join(root, '.factory', 'mcp.json') };
}

/**
 * The file that hooks are written to: Droid does not read those of its settings once there is a hooks.json, and to make one
 * would turn them off.
 */
export async function hookPlaceOf({ hooks: [first, second] }: Places): Promise<HookPlace> {
  if (second === undefined || existsSync(first.path)) return first;
  const settings = await readConfig(second.path);
  return settings?.includes('"hooks"') && hasEvents(parse(second.path, settings)) ? second : first;
}

function rootOf({ isProject }: Order, { callerFolder, homeFolder }: Environment): string {
  const root = isProject ? callerFolder : homeFolder;
  if (root === undefined) throw new Error('HOME is not set: say where your configuration is.');
  return root;
}

const hasEvents = (settings: unknown) =>
  Object.keys((settings as { hooks?: object | null } | null)?.hooks ?? {}).length > 0;

/** Where the connection of a configuration is kept: one a configuration, so that none redirects the sessions of another. */
export function connectionPath(order: Order, environment: Environment): string {
  const project = order.isProject ? `-${sha256(rootOf(order, environment)).slice(0, 12)}` : '';
  return join(connectionsFolder(environment), order.agent + project);
}

/** A file of a configuration; undefined where there is none. */
export async function readConfig(path: string): Promise<ConfigText> {
  return (await readIfThere(path))?.toString();
}

/** Whether a file is there and has this word in it, whatever it is otherwise. */
export const mentions = async (path: string, word: string) => (await readConfig(path))?.includes(word) ?? false;

/** A file without what editors put before its JSON; an empty one has an empty object. */
export function plainText(text: ConfigText): ConfigText {
  const plain = text?.startsWith(byteOrderMark) ? text.slice(byteOrderMark.length) : text;
  return plain?.trim() === '' ? '{}\n' : plain;
}

/** @throws Error that tells where it is no JSON, but nothing of what is there. */
export function parse(path: string, text: string): unknown {
  const plain = plainText(text) as string;
  try {
    return JSON.parse(plain);
  } catch (error) {
    const [, position] = /position (\d+)/.exec(String(error)) ?? [];
    const line = position === undefined ? '' : ` (line ${plain.slice(0, Number(position)).split('\n').length})`;
    throw new Error(`${path} is no JSON${line}. Nothing was changed.`);
  }
}
