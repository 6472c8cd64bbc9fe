import { sha256 } from '../base/hash.ts';
import { maskAndCut } from './masking.ts';

/** Before every context that this door makes for a project or a session. */
export const factoryPrefix = 'factory:';

/** What a session belongs to. */
export interface Project {
  /** Its context. */
  readonly id: string;
  readonly place: Place;
}

/** What is told of a project, without credentials. */
export interface Place {
  readonly name: string;
  /** Absent where the event tells none. */
  readonly gitRemote?: string;
  /** The folder, where there is no remote. */
  readonly cwd?: string;
}

// More is no remote and no folder that anybody works in.
export const placeMax = 2048;

/**
 * The project of an event: by its git remote, which is the same on every machine, else by the folder; where there is neither, the
 * session is its own.
 *
 * @param of.gitRemote as git prints it, whichever way it is spelled.
 * @param of.session its name in ids.
 */
export function projectOf(of: {
  readonly gitRemote: string | undefined;
  readonly cwd: string | undefined;
  readonly session: string;
}): Project {
  const remote = of.gitRemote === undefined ? undefined : normalizeRemote(of.gitRemote);
  if (remote !== undefined)
    return toProject(`git:${remote}`, lastPart(remote), { gitRemote: maskAndCut(remote, placeMax) });
  if (of.cwd === undefined) return toProject(`session:${of.session}`, 'unknown', {});
  const cwd = normalizeFolder(of.cwd);
  return toProject(`cwd:${cwd}`, lastPart(cwd), { cwd: maskAndCut(cwd, placeMax) });
}

// Told apart by what was sent, not by what is left of it.
const toProject = (identity: string, name: string, place: Omit<Place, 'name'>): Project => ({
  id: `${factoryPrefix}project:${sha256(identity).slice(0, 32)}`,
  place: { name: maskAndCut(name, 200) || 'unknown', ...place },
});

const lastPart = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const defaultPorts = ['22', '80', '443', '9418'];

/**
 * `host/path` of a git remote, without user, password, scheme, remote helper, query and `.git`; undefined for what is none, and
 * where an `@` further on may be part of a password.
 */
export function normalizeRemote(remote: string): string | undefined {
  if (remote.length > placeMax) return undefined;
  const text = remote.trim().replace(/^[a-z0-9+.-]{1,20}::/i, '');
  const [, address] = /^[a-z][a-z0-9+.-]{0,20}:\/\/(.*)$/is.exec(text) ?? [];
  const [authority, path] = address === undefined ? splitShort(text) : splitAt(address, address.search(/[/?#]|$/));
  const [, host = '', port = ''] =
    /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(authority.slice(authority.lastIndexOf('@') + 1)) ?? [];
  const place = trimSlashes(path.replace(/[?#].*$/s, '')).replace(/\.git$/i, '');
  if (host === '' || place === '' || place.includes('@')) return undefined;
  const isDefault = port === '' || defaultPorts.includes(port);
  return `${host.toLowerCase()}${isDefault ? '' : `:${port}`}/${place}`.normalize('NFC');
}

/** `user@host:path`, where a drive's letter is no host. */
function splitShort(text: string): [authority: string, path: string] {
  const slash = text.search(/[/\\]|$/);
  const colon = text.indexOf(':', text.lastIndexOf('@', slash) + 1);
  return colon < 2 || colon > slash ? ['', ''] : splitAt(text, colon);
}

const splitAt = (text: string, at: number): [string, string] => [text.slice(0, at), text.slice(at)];

function trimSlashes(path: string): string {
  let [start, end] = [0, path.length];
  while (path[start] === '/' || path[start] === ':') start++;
  while (end > start && path[end - 1] === '/') end--;
  return path.slice(start, end);
}

/** A folder in one spelling: no `.`, no slash twice or at the end, Windows' drives and slashes alike. */
function normalizeFolder(cwd: string): string {
  const isWindows = /^(?:[A-Za-z]:|\\\\)/.test(cwd);
  const path = (isWindows ? cwd.replaceAll('\\', '/') : cwd).normalize('NFC');
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  if (isWindows && parts[0] !== undefined) parts[0] = parts[0].toLowerCase();
  return `${path.startsWith('/') ? '/' : ''}${parts.join('/')}`;
}

/** A session's name as it fits into ids, without the colon that parts them. */
export function sessionKey(sessionId: string): string {
  return /^[A-Za-z0-9][A-Za-z0-9._~-]{0,99}$/.test(sessionId) ? sessionId : `x${sha256(sessionId).slice(0, 40)}`;
}

/** The context of a session: part 1 is the session itself, the others are its children. */
export const sessionContext = (key: string, part = 1) =>
  `${factoryPrefix}session:${key}${part === 1 ? '' : `:${part}`}`;
export const summaryContext = (key: string) => `${factoryPrefix}session:${key}:summary`;
