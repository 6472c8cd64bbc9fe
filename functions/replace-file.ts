import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The bytes of a file, undefined where there is none. @throws Error in a sentence where it cannot be read. */
export async function readIfThere(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new Error(`${path} cannot be read: ${error.message}`);
  });
}

/**
 * Writes a file in one step, or removes it: whoever reads it meanwhile sees the old one or the new one. It keeps its mode,
 * and where it is a link, that stays.
 *
 * @param to.before what it is based on; undefined where there was no file.
 * @param to.after undefined removes it.
 * @param to.isSecret whether nobody but its owner may read it from now on.
 * @throws Error in a sentence where it is no longer what it was, and is left as it is.
 */
export async function replaceFile(
  path: string,
  to: { before: Uint8Array | undefined; after: Uint8Array | undefined; isSecret?: boolean },
): Promise<void> {
  const { before, after, isSecret = false } = to;
  const target = await realpath(path).catch(() => path);
  if (after !== undefined) await mkdir(dirname(target), { recursive: true, mode: isSecret ? 0o700 : 0o777 });
  const kept = await stat(target).then(
    ({ mode }) => mode & 0o7777,
    () => undefined,
  );
  const mode = isSecret ? (kept ?? 0o600) & 0o700 : kept;
  const aside = `${target}.${randomBytes(6).toString('hex')}.part`;
  try {
    if (after !== undefined) {
      const file = await open(aside, 'wx', mode ?? 0o666);
      try {
        // What `open` was asked for is cut by the umask.
        if (mode !== undefined) await file.chmod(mode);
        await file.writeFile(after);
        await file.sync();
      } finally {
        await file.close();
      }
    }
    const now = await readIfThere(target);
    const isSame = now === undefined || before === undefined ? now === before : now.equals(before);
    if (!isSame) throw new Error(`${path} was changed by someone else meanwhile; it is left as it is. Run this again.`);
    if (after === undefined) await rm(target, { force: true });
    else await rename(aside, target);
  } finally {
    await rm(aside, { force: true });
  }
}
