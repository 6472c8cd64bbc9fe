import { randomBytes } from 'node:crypto';
import {
  access,
  chmod,
  constants,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** The bytes of a file, undefined where there is none. @throws Error in a sentence where it cannot be read. */
export async function readIfThere(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new Error(`${path} cannot be read: ${error.message}`);
  });
}

/** What a file is to be. */
export interface Replacement {
  /** What it is based on; undefined where there was no file. */
  readonly before: Uint8Array | undefined;
  /** Undefined removes it. */
  readonly after: Uint8Array | undefined;
  /** Whether nobody but its owner may read it from now on. */
  readonly isSecret?: boolean;
}

// What is that old beside a file was left by a process that was killed.
const leftMs = 600_000;

/**
 * Writes a file in one step, or removes it: whoever reads it meanwhile sees the old one or the new one. It keeps its mode,
 * its owner where that is allowed, and where it is a link, that stays, also one that leads to no file yet.
 *
 * @returns what puts the file back as it was.
 * @throws Error in a sentence where it is no longer what it was, or may not be written, and is left as it is.
 */
export async function replaceFile(path: string, to: Replacement): Promise<() => Promise<void>> {
  const { before, after, isSecret = false } = to;
  const target = await targetOf(path);
  const kept = await stat(target).catch(() => undefined);
  const mode = kept && kept.mode & 0o7777;
  let isSame: boolean;
  try {
    if (mode !== undefined && (mode & 0o222) === 0) throw new Error('it is read-only');
    if (mode !== undefined) await access(target, constants.W_OK);
    isSame = await writeIfSame(target, { before, after, mode: isSecret ? (mode ?? 0o600) & 0o700 : mode, owner: kept });
  } catch (error) {
    throw new Error(`${path} cannot be written: ${error instanceof Error ? error.message : error}.`);
  }
  if (!isSame) throw new Error(`${path} was changed by someone else meanwhile; it is left as it is. Run this again.`);
  return async () => {
    await replaceFile(path, { before: after, after: before });
    if (mode !== undefined) await chmod(target, mode);
  };
}

/** Writes all of them, or none. @throws Error that says which file could not be written, and whether others still are. */
export async function replaceFiles(files: readonly (Replacement & { readonly path: string })[]): Promise<void> {
  const written: { path: string; putBack: () => Promise<void> }[] = [];
  try {
    for (const file of files) written.push({ path: file.path, putBack: await replaceFile(file.path, file) });
  } catch (error) {
    const stuck: string[] = [];
    for (const { path, putBack } of written.reverse()) await putBack().catch(() => stuck.push(path));
    const rest =
      stuck.length > 0
        ? `What was written before could not be put back: ${stuck.join(', ')}.`
        : written.length > 0
          ? 'What was written before is put back.'
          : '';
    throw new Error(`${error instanceof Error ? error.message : error} ${rest}`.trim());
  }
}

async function writeIfSame(
  target: string,
  to: Replacement & { mode: number | undefined; owner: { uid: number; gid: number } | undefined },
): Promise<boolean> {
  const { before, after, mode, owner } = to;
  const isSame = async () => {
    const now = await readIfThere(target);
    return now === undefined || before === undefined ? now === before : now.equals(before);
  };
  if (after === undefined) {
    if (!(await isSame())) return false;
    await rm(target, { force: true });
    return true;
  }
  await mkdir(dirname(target), { recursive: true, mode: mode !== undefined && (mode & 0o077) === 0 ? 0o700 : 0o777 });
  await clearLeft(target);
  const aside = `${target}.${randomBytes(6).toString('hex')}.part`;
  try {
    const file = await open(aside, 'wx', mode ?? 0o666);
    try {
      // Only root may give a file away, and giving it away takes from its mode; what `open` was asked for is cut by the umask.
      if (owner !== undefined) await file.chown(owner.uid, owner.gid).catch(() => {});
      if (mode !== undefined) await file.chmod(mode);
      await file.writeFile(after);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!(await isSame())) return false;
    await rename(aside, target);
    return true;
  } finally {
    await rm(aside, { force: true });
  }
}

/** Where a path leads to, whether there is a file or not. */
async function targetOf(path: string, links = 40): Promise<string> {
  const real = await realpath(path).catch(() => undefined);
  if (real !== undefined) return real;
  const link = await readlink(path).catch(() => undefined);
  if (link === undefined || links === 0) return path;
  return targetOf(resolve(dirname(path), link), links - 1);
}

async function clearLeft(target: string): Promise<void> {
  const folder = dirname(target);
  for (const name of await readdir(folder)) {
    const isPart = name.startsWith(`${basename(target)}.`) && /\.[0-9a-f]{12}\.part$/.test(name);
    if (!isPart) continue;
    const path = join(folder, name);
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > leftMs) await rm(path, { force: true });
  }
}
