import { existsSync } from 'node:fs';
import { lstat, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../lib/base/hash.ts';
import {
  type ConfigText,
  dropHooks,
  dropServer,
  hasServer,
  hookCommand,
  hookTimeoutSeconds,
  isOwnCommand,
  maskConfig,
  putHooks,
  putServer,
  type ServerEntry,
} from '../lib/factory/hook-config.ts';
import { shellWord } from '../lib/factory/shell-word.ts';
import { isLoopbackUrl } from './address.ts';
import { type Connection, connectionsFolder, printConnection, readConnections } from './connection.ts';
import { readIfThere, replaceFiles } from './replace-file.ts';
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
  /** Whether only its owner may read it from then on. */
  readonly isSecret: boolean;
  /** Whether others may read it until then. */
  readonly isClosed: boolean;
}

const hookPath = join(home, 'plugin', 'lamina', 'hooks', 'lamina-hook.sh');
const hidden = '(your token)';
const byteOrderMark = '\ufeff';
// What RFC 6750 lets a token have, and the hook sends.
const tokenForm = /^[A-Za-z0-9._~+/=-]+$/;

interface HookPlace {
  readonly path: string;
  readonly wrapper?: 'hooks';
}

interface Places {
  /** Where hooks are written. */
  readonly hooks: HookPlace;
  /** Where they may be, too, from a time when they were written there. */
  readonly otherHooks: readonly HookPlace[];
  /** Undefined where the agent's own command is the way. */
  readonly servers: string | undefined;
}

function rootOf({ isProject }: Order, { callerFolder, homeFolder }: Environment): string {
  const root = isProject ? callerFolder : homeFolder;
  if (root === undefined) throw new Error('HOME is not set: say where your configuration is.');
  return root;
}

async function placesOf(order: Order, environment: Environment): Promise<Places> {
  const { agent, isProject } = order;
  const root = rootOf(order, environment);
  if (agent === 'claude') {
    // A command with a path of this machine belongs into no file that others check out.
    const path = join(root, '.claude', isProject ? 'settings.local.json' : 'settings.json');
    const servers = isProject ? join(root, '.mcp.json') : undefined;
    return { hooks: { path, wrapper: 'hooks' }, otherHooks: [], servers };
  }
  const flat = { path: join(root, '.factory', 'hooks.json') };
  const wrapped = { path: join(root, '.factory', 'settings.json'), wrapper: 'hooks' as const };
  const servers = join(root, '.factory', 'mcp.json');
  // Droid does not read the hooks of its settings once there is a hooks.json: to make one would turn them off.
  const settings = existsSync(flat.path) ? undefined : await readConfig(wrapped.path);
  const isWrapped = settings?.includes('"hooks"') && hasEvents(parse(wrapped.path, settings));
  return isWrapped ? { hooks: wrapped, otherHooks: [flat], servers } : { hooks: flat, otherHooks: [wrapped], servers };
}

const hasEvents = (settings: unknown) =>
  Object.keys((settings as { hooks?: object | null } | null)?.hooks ?? {}).length > 0;

/** Where the connection of a configuration is kept: one a configuration, so that none redirects the sessions of another. */
export function connectionPath(order: Order, environment: Environment): string {
  const project = order.isProject ? `-${sha256(rootOf(order, environment)).slice(0, 12)}` : '';
  return join(connectionsFolder(environment), order.agent + project);
}

/** The changes that connect an agent; none where it is connected. */
export async function planConnect(order: Order, environment: Environment): Promise<Change[]> {
  const connections = await readConnections(environment);
  const path = connectionPath(order, environment);
  const known = connections.get(path);
  const { hooks, servers } = await placesOf(order, environment);
  const legacy = join(hooks.path, '..', 'hooks', 'hooks.json');
  if (order.agent === 'droid' && existsSync(legacy) && !existsSync(hooks.path)) {
    throw new Error(`${legacy} is of an older Droid: open /hooks in Droid once, which moves it, and run this again.`);
  }
  const token = await tokenFor(order, environment, [known, ...connections.values()]);
  if (!tokenForm.test(token)) throw new Error('The token has characters that no bearer token may have (RFC 6750).');
  const command = hookCommand(hookPath, { agent: order.agent, connection: path });
  const entry: ServerEntry = {
    type: 'http',
    url: `${order.url}/mcp`,
    headers: { Authorization: order.isProject ? `Bearer \${LAMINA_TOKEN}` : `Bearer ${token}` },
    ...(order.agent === 'droid' ? { oauth: false } : {}),
  };
  const knownUrls = known === undefined ? [] : [`${known.url}/mcp`];
  const mask = masking({ tokens: [token, known?.token], shown: [entry.url, ...knownUrls] });
  const files = [
    await configChange(hooks.path, { mask, edit: (text) => putHooks(text, { ...hooks, command }) }),
    ...(servers === undefined
      ? []
      : [
          await configChange(servers, {
            mask,
            isSecret: !order.isProject,
            edit: (text) => putServer(text, { entry, knownUrls }),
          }),
        ]),
  ];
  const made = new Set(known?.made);
  for (const file of files) if (file.before === undefined) made.add(file.path);
  const connection = { url: order.url, token, hooks: hooks.path, made: [...made] };
  return [
    await connectionChange(path, { to: connection, known }),
    ...files,
    ...(await unusedChanges(connections, path)),
  ].filter(({ before, after }) => before !== after);
}

/** The changes that take an agent's connection back; none where there is none. */
export async function planUndo(order: Order, environment: Environment): Promise<Change[]> {
  const connections = await readConnections(environment);
  const path = connectionPath(order, environment);
  const known = connections.get(path);
  const { hooks, otherHooks, servers } = await placesOf(order, environment);
  const knownUrls = [`${order.url}/mcp`, ...(known === undefined ? [] : [`${known.url}/mcp`])];
  const mask = masking({ tokens: [known?.token, environment.ownerToken], shown: knownUrls });
  const made = new Set(known?.made);
  const changes: Change[] = [];
  for (const place of [hooks, ...otherHooks]) {
    const edit = (text: string) => dropHooks(text, place);
    // What has nothing of ours may be written as it likes.
    if (await mentions(place.path, 'lamina-hook.sh')) changes.push(await dropChange(place.path, { made, mask, edit }));
  }
  if (servers !== undefined && (await mentions(servers, '"lamina"'))) {
    const edit = (text: string) => dropServer(text, knownUrls);
    changes.push(await dropChange(servers, { made, mask, edit }));
  }
  changes.push(await connectionChange(path, { to: undefined, known }), ...(await unusedChanges(connections, path)));
  return changes.filter(({ before, after }) => before !== after);
}

/** Makes all changes, or none. @throws Error that says which file could not be written. */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  const bytes = (text: ConfigText) => (text === undefined ? undefined : Buffer.from(text));
  await replaceFiles(
    changes.map(({ path, before, after, isSecret }) => ({
      path,
      isSecret,
      before: bytes(before),
      after: bytes(after),
    })),
  );
}

/** The file in which there is still an MCP server named `lamina`, which an undo did not take for ours. */
export async function serverLeft(order: Order, environment: Environment): Promise<string | undefined> {
  const { servers } = await placesOf(order, environment);
  if (servers === undefined || !(await mentions(servers, '"lamina"'))) return undefined;
  return hasServer(plainText(await readConfig(servers)) ?? '{}') ? servers : undefined;
}

/** How Claude Code itself takes the MCP server for all projects: its own file is not ours to write. */
export function claudeCommand(order: Order, environment: Environment): string {
  const token = `$(sed -n 2p ${shellWord(connectionPath(order, environment))})`;
  return `claude mcp add --scope user --transport http lamina ${shellWord(`${order.url}/mcp`)} --header "Authorization: Bearer ${token}"`;
}

async function tokenFor(
  order: Order,
  environment: Environment,
  connections: readonly (Connection | undefined)[],
): Promise<string> {
  const { ownerToken, dataFolder } = environment;
  if (ownerToken !== undefined) return ownerToken;
  if (dataFolder !== undefined && isLoopbackUrl(order.url)) {
    const token = await readFile(join(dataFolder, 'token'), 'utf8').catch(() => '');
    if (token.trim() !== '') return token.trim();
  }
  const known = connections.find((one) => one?.url === order.url);
  if (known !== undefined) return known.token;
  throw new Error(
    isLoopbackUrl(order.url)
      ? 'There is no token yet: start Lamina once with npm start, or set LAMINA_TOKEN.'
      : `Set LAMINA_TOKEN to a token of ${order.url}; one with the scope sync is enough.`,
  );
}

async function connectionChange(
  path: string,
  of: { to: Connection | undefined; known: Connection | undefined },
): Promise<Change> {
  const { to, known } = of;
  const shown = (one: Connection | undefined, token: string) =>
    one === undefined ? '' : printConnection({ ...one, token });
  return {
    path,
    before: await readConfig(path),
    after: to && printConnection(to),
    shown: {
      before: shown(known, to && to.token !== known?.token ? '(the token before)' : hidden),
      after: shown(to, hidden),
    },
    isSecret: true,
    isClosed: false,
  };
}

/** Takes away the connections that no configuration names any more, with their tokens. */
async function unusedChanges(connections: ReadonlyMap<string, Connection>, own: string): Promise<Change[]> {
  const changes: Change[] = [];
  for (const [path, known] of connections) {
    if (path === own || (await mentions(known.hooks, path.slice(path.lastIndexOf('/connections/'))))) continue;
    changes.push(await connectionChange(path, { to: undefined, known }));
  }
  return changes;
}

interface Edit {
  readonly mask: (text: ConfigText) => string;
  readonly isSecret?: boolean;
}

async function configChange(path: string, how: Edit & { edit: (text: ConfigText) => string }): Promise<Change> {
  const { mask, edit, isSecret = false } = how;
  const before = await readConfig(path);
  const text = plainText(before);
  if (text !== undefined) parse(path, text);
  try {
    const edited = edit(text);
    const mark = before?.startsWith(byteOrderMark) ? byteOrderMark : '';
    const isClosed = isSecret && before !== undefined && ((await stat(path)).mode & 0o077) !== 0;
    return {
      path,
      before,
      after: edited === text ? before : mark + edited,
      shown: { before: mask(text), after: mask(edited) },
      isSecret,
      isClosed,
    };
  } catch (error) {
    throw new Error(`${path} ${error instanceof Error ? error.message : error}. Nothing was changed.`);
  }
}

/** Removes what then is empty, but only a file that `connect` has made. */
async function dropChange(
  path: string,
  how: Edit & { made: ReadonlySet<string>; edit: (text: string) => string },
): Promise<Change> {
  const change = await configChange(path, { ...how, edit: (text) => how.edit(text ?? '{}') });
  const isEmpty = change.after !== undefined && change.after !== change.before && /^\s*\{\s*\}\s*$/.test(change.after);
  const isOurs = how.made.has(path) && !(await lstat(path)).isSymbolicLink();
  return isEmpty && isOurs ? { ...change, after: undefined, shown: { ...change.shown, after: '' } } : change;
}

/** Shows our own words, and nothing of what others have there. */
function masking(to: {
  tokens: readonly (string | undefined)[];
  shown: readonly string[];
}): (text: ConfigText) => string {
  const plain = new Set<unknown>([
    ...[...to.shown, 'http', 'command', 'mcp__.*', `Bearer \${LAMINA_TOKEN}`],
    ...[hookTimeoutSeconds, false],
  ]);
  const [token, before] = to.tokens;
  const show = (value: unknown) => {
    if (plain.has(value) || (typeof value === 'string' && isOwnCommand(value))) return value;
    if (token !== undefined && value === `Bearer ${token}`) return `Bearer ${hidden}`;
    return before !== undefined && value === `Bearer ${before}` ? 'Bearer (the token before)' : undefined;
  };
  return (text) => maskConfig(text, show);
}

async function readConfig(path: string): Promise<ConfigText> {
  return (await readIfThere(path))?.toString();
}

const mentions = async (path: string, word: string) => (await readConfig(path))?.includes(word) ?? false;

/** A file without what editors put before its JSON; an empty one has an empty object. */
function plainText(text: ConfigText): ConfigText {
  const plain = text?.startsWith(byteOrderMark) ? text.slice(byteOrderMark.length) : text;
  return plain?.trim() === '' ? '{}\n' : plain;
}

/** @throws Error that tells where it is no JSON, but nothing of what is there. */
function parse(path: string, text: string): unknown {
  const plain = plainText(text) as string;
  try {
    return JSON.parse(plain);
  } catch (error) {
    const [, position] = /position (\d+)/.exec(String(error)) ?? [];
    const line = position === undefined ? '' : ` (line ${plain.slice(0, Number(position)).split('\n').length})`;
    throw new Error(`${path} is no JSON${line}. Nothing was changed.`);
  }
}
