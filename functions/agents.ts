import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type ConfigText,
  dropHooks,
  dropServer,
  hookCommand,
  isOwnCommand,
  maskConfig,
  putHooks,
  putServer,
  type ServerEntry,
} from '../lib/factory/hook-config.ts';
import { isLoopbackUrl } from './address.ts';
import { type Connection, connectionPath, printConnection, readConnection } from './connection.ts';
import { readIfThere } from './replace-file.ts';
import { type Environment, home } from './runtime.ts';

export type Agent = 'droid' | 'claude';

/** What `npm run connect` was asked for. */
export interface Order {
  readonly agent: Agent;
  /** Only for the project it was called in; for all of the user's otherwise. */
  readonly isProject: boolean;
  readonly url: string;
}

/** A file that is to be made, changed or removed, and how both states of it may be shown. */
export interface Change {
  readonly path: string;
  readonly before: ConfigText;
  readonly after: ConfigText;
  readonly shown: { readonly before: string; readonly after: string };
  readonly isSecret: boolean;
}

const hookPath = join(home, 'plugin', 'lamina', 'hooks', 'lamina-hook.sh');
const hidden = '(your token)';

interface Places {
  /** Where hooks may be; the first is where they are written. */
  readonly hooks: readonly { readonly path: string; readonly wrapper?: 'hooks' }[];
  /** Undefined where the agent's own command is the way. */
  readonly servers: string | undefined;
}

async function placesOf({ agent, isProject }: Order, environment: Environment): Promise<Places> {
  const { callerFolder, homeFolder } = environment;
  const root = isProject ? callerFolder : homeFolder;
  if (root === undefined) throw new Error('HOME is not set: say where your configuration is.');
  if (agent === 'claude') {
    // A command with a path of this machine belongs into no file that others check out.
    const path = join(root, '.claude', isProject ? 'settings.local.json' : 'settings.json');
    return { hooks: [{ path, wrapper: 'hooks' }], servers: isProject ? join(root, '.mcp.json') : undefined };
  }
  const flat = { path: join(root, '.factory', 'hooks.json') };
  const wrapped = { path: join(root, '.factory', 'settings.json'), wrapper: 'hooks' as const };
  // Droid does not read the hooks of its settings once there is a hooks.json: to make one would turn them off.
  const settings = existsSync(flat.path) ? undefined : await readText(wrapped.path);
  const hasOthers =
    Object.keys((settings && (parse(wrapped.path, settings) as Wrapped | null)?.hooks) ?? {}).length > 0;
  return { hooks: hasOthers ? [wrapped, flat] : [flat, wrapped], servers: join(root, '.factory', 'mcp.json') };
}

interface Wrapped {
  readonly hooks?: object;
}

/** The changes that connect an agent; none where it is connected. */
export async function planConnect(order: Order, environment: Environment): Promise<Change[]> {
  const known = await readConnection(environment);
  const { hooks, servers } = await placesOf(order, environment);
  const [place] = hooks;
  if (place === undefined) return [];
  const legacy = join(place.path, '..', 'hooks', 'hooks.json');
  if (order.agent === 'droid' && existsSync(legacy) && !existsSync(place.path)) {
    throw new Error(`${legacy} is of an older Droid: open /hooks in Droid once, which moves it, and run this again.`);
  }
  const token = await tokenFor(order, environment, known);
  const command = hookCommand(hookPath, order.agent);
  const users = [...new Set([...(known?.users ?? []), place.path])];
  const connection = { url: order.url, token, users };
  const header = order.isProject ? `Bearer \${LAMINA_TOKEN}` : `Bearer ${token}`;
  const entry: ServerEntry = {
    type: 'http',
    url: `${order.url}/mcp`,
    headers: { Authorization: header },
    ...(order.agent === 'droid' ? { oauth: false } : {}),
  };
  const knownUrls = known === undefined ? [] : [`${known.url}/mcp`];
  const mask = masking({ tokens: [token, known?.token], shown: [entry.url, ...knownUrls, command] });
  return [
    await connectionChange(environment, connection, known),
    await configChange(place.path, mask, false, (text) => putHooks(text, { ...place, command })),
    ...(servers === undefined
      ? []
      : [await configChange(servers, mask, !order.isProject, (text) => putServer(text, { entry, knownUrls }))]),
  ].filter(({ before, after }) => before !== after);
}

/** The changes that take an agent's connection back; none where there is none. */
export async function planUndo(order: Order, environment: Environment): Promise<Change[]> {
  const known = await readConnection(environment);
  const { hooks, servers } = await placesOf(order, environment);
  const knownUrls = [`${order.url}/mcp`, ...(known === undefined ? [] : [`${known.url}/mcp`])];
  const mask = masking({ tokens: [known?.token, environment.ownerToken], shown: knownUrls });
  const changes: Change[] = [];
  for (const place of hooks)
    changes.push(await configChange(place.path, mask, false, (text) => dropHooks(text, place)));
  if (servers !== undefined) {
    changes.push(await configChange(servers, mask, false, (text) => dropServer(text, knownUrls)));
  }
  if (known !== undefined) {
    const paths = new Set(hooks.map(({ path }) => path));
    const users = known.users.filter((path) => !paths.has(path));
    changes.push(await connectionChange(environment, users.length === 0 ? undefined : { ...known, users }, known));
  }
  return changes.filter(({ before, after }) => before !== after);
}

/** How Claude Code itself takes the MCP server for all projects: its own file is not ours to write. */
export function claudeCommand(order: Order, environment: Environment): string {
  const token = `$(sed -n 2p '${connectionPath(environment).replaceAll("'", "'\\''")}')`;
  return `claude mcp add --scope user --transport http lamina ${order.url}/mcp --header "Authorization: Bearer ${token}"`;
}

async function tokenFor(order: Order, environment: Environment, known: Connection | undefined): Promise<string> {
  const { ownerToken, dataFolder } = environment;
  if (ownerToken !== undefined) return ownerToken;
  if (known?.url === order.url) return known.token;
  if (dataFolder !== undefined && isLoopbackUrl(order.url)) {
    const token = await readFile(join(dataFolder, 'token'), 'utf8').catch(() => '');
    if (token.trim() !== '') return token.trim();
  }
  throw new Error(
    isLoopbackUrl(order.url)
      ? 'There is no token yet: start Lamina once with npm start, or set LAMINA_TOKEN.'
      : `Set LAMINA_TOKEN to a token of ${order.url}; one with the scope sync is enough.`,
  );
}

async function connectionChange(
  environment: Environment,
  to: Connection | undefined,
  known: Connection | undefined,
): Promise<Change> {
  const path = connectionPath(environment);
  const shown = (one: Connection | undefined, token: string) =>
    one === undefined ? '' : printConnection({ ...one, token });
  return {
    path,
    before: await readText(path),
    after: to && printConnection(to),
    shown: {
      before: shown(known, to && to.token !== known?.token ? '(the token before)' : hidden),
      after: shown(to, hidden),
    },
    isSecret: true,
  };
}

async function configChange(
  path: string,
  mask: (text: ConfigText) => string,
  isSecret: boolean,
  edit: (text: ConfigText) => ConfigText,
): Promise<Change> {
  const before = await readText(path);
  if (before !== undefined) parse(path, before);
  try {
    const after = edit(before);
    return { path, before, after, shown: { before: mask(before), after: mask(after) }, isSecret };
  } catch (error) {
    throw new Error(`${path} ${error instanceof Error ? error.message : error}. Nothing was changed.`);
  }
}

/** Shows our own words, and nothing of what others have there. */
function masking(to: {
  tokens: readonly (string | undefined)[];
  shown: readonly string[];
}): (text: ConfigText) => string {
  const plain = new Set([...to.shown, 'http', 'command', 'mcp__.*', `Bearer \${LAMINA_TOKEN}`]);
  const [token, before] = to.tokens;
  const own = (value: string) => {
    if (plain.has(value) || isOwnCommand(value)) return value;
    if (token !== undefined && value === `Bearer ${token}`) return `Bearer ${hidden}`;
    return before !== undefined && value === `Bearer ${before}` ? 'Bearer (the token before)' : undefined;
  };
  return (text) => maskConfig(text, { own });
}

async function readText(path: string): Promise<ConfigText> {
  return (await readIfThere(path))?.toString();
}

/** @throws Error that tells where it is no JSON, but nothing of what is there. */
function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const [, position] = /position (\d+)/.exec(String(error)) ?? [];
    const line = position === undefined ? '' : ` (line ${text.slice(0, Number(position)).split('\n').length})`;
    throw new Error(`${path} is no JSON${line}. Nothing was changed.`);
  }
}
