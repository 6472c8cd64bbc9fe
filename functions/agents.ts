import { existsSync } from 'node:fs';
import { lstat, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
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
import {
  byteOrderMark,
  connectionPath,
  hookPlaceOf,
  mentions,
  type Order,
  parse,
  placesOf,
  plainText,
  readConfig,
} from './agent-files.ts';
import { type Connection, printConnection, readConnections } from './connection.ts';
import { replaceFiles } from './replace-file.ts';
import { type Environment, home } from './runtime.ts';

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
// What RFC 6750 lets a token have, and the hook sends.
const tokenForm = /^[A-Za-z0-9._~+/=-]+$/;

/** The changes that connect an agent; none where it is connected. */
export async function planConnect(order: Order, environment: Environment): Promise<Change[]> {
  const connections = await readConnections(environment);
  const path = connectionPath(order, environment);
  const known = connections.get(path);
  const places = placesOf(order, environment);
  const { servers } = places;
  const hooks = await hookPlaceOf(places);
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
  const { hooks, servers } = placesOf(order, environment);
  const knownUrls = [`${order.url}/mcp`, ...(known === undefined ? [] : [`${known.url}/mcp`])];
  const mask = masking({ tokens: [known?.token, environment.ownerToken], shown: knownUrls });
  const made = new Set(known?.made);
  const changes: Change[] = [];
  for (const place of hooks) {
    if (place === undefined) continue;
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
  const { servers } = placesOf(order, environment);
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
