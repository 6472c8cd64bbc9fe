import { sha256 } from '../base/hash.ts';

/** Before every context that this door makes for a project or a session. */
export const factoryPrefix = 'factory:';

/** What a session belongs to. */
export interface Project {
  /** Its context. */
  readonly id: string;
  readonly name: string;
  /** Without credentials; absent where the event tells none. */
  readonly gitRemote?: string;
  /** The folder, where there is no remote. */
  readonly cwd?: string;
}

/**
 * The project of an event: by its git remote, which is the same on every machine, else by the folder.
 *
 * @param of.gitRemote as git prints it, whichever way it is spelled.
 */
export function projectOf(of: { readonly gitRemote: string | undefined; readonly cwd: string }): Project {
  const remote = of.gitRemote === undefined ? undefined : normalizeRemote(of.gitRemote);
  if (remote !== undefined) return { id: projectId(`git:${remote}`), name: lastPart(remote), gitRemote: remote };
  const cwd = of.cwd.replace(/(?<=.)[/\\]+$/, '');
  return { id: projectId(`cwd:${cwd}`), name: lastPart(cwd) || 'unknown', cwd };
}

/**
 * `host/path` of a git remote, without user, password, scheme, remote helper and `.git`; undefined for what is none, and
 * where an `@` further on may be part of a password.
 */
export function normalizeRemote(remote: string): string | undefined {
  const text = remote.trim().replace(/^[a-z0-9+.-]+::/i, '');
  const [, host, path] =
    /^[a-z][a-z0-9+.-]*:\/\/(?:[^/]*@)?([^/:@]+)(?::\d+)?\/+([^@]+)$/i.exec(text) ??
    /^(?:[^/@:]+@)?([^/:@]+):(?!\/\/)([^@]+)$/.exec(text) ??
    [];
  if (host === undefined || path === undefined) return undefined;
  const place = path
    .replace(/[/]+$/, '')
    .replace(/\.git$/i, '')
    .replace(/^\/+/, '');
  return place === '' ? undefined : `${host.toLowerCase()}/${place}`;
}

const projectId = (identity: string) => `${factoryPrefix}project:${sha256(identity).slice(0, 32)}`;
const lastPart = (path: string) => path.split(/[/\\]/).filter(Boolean).at(-1) ?? '';

/** A session's name as it fits into ids, without the colon that parts them. */
export function sessionKey(sessionId: string): string {
  return /^[A-Za-z0-9][A-Za-z0-9._~-]{0,99}$/.test(sessionId) ? sessionId : `x${sha256(sessionId).slice(0, 40)}`;
}

/** The context of a session: part 1 is the session itself, the others are its children. */
export const sessionContext = (key: string, part = 1) =>
  `${factoryPrefix}session:${key}${part === 1 ? '' : `:${part}`}`;
export const summaryContext = (key: string) => `${factoryPrefix}session:${key}:summary`;

/** What was asked to be remembered, the same words once a project; what is for no project alone has an id outside the prefix. */
export function noteContext(project: string | null, text: string): string {
  const words = sha256(text.trim().replaceAll(/\s+/g, ' ').toLowerCase()).slice(0, 32);
  return project === null ? `factory-note:${words}` : `${factoryPrefix}note:${project.split(':').at(-1)}:${words}`;
}
