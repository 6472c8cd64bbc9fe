import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

interface Holder {
  readonly pid: number;
  /** Tells a process from a later one with the same number; empty where the system does not say. */
  readonly startedAt: string;
}

// Long enough for whoever took a stale lock away at the same moment to have put its own there.
const settleMs = 40;

/**
 * Makes sure that one process alone opens the embedded database: two would corrupt it silently. A lock whose holder is
 * gone is taken over.
 *
 * @returns what lets the folder go.
 * @throws FolderHeld naming the process that holds it.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'lock');
  const own: Holder = { pid: process.pid, startedAt: await startOf(process.pid) };
  const candidate = `${path}.${process.pid}`;
  await writeFile(candidate, JSON.stringify(own));
  try {
    for (let tries = 0; tries < 3; tries++) {
      if (await isLinked(candidate, path)) {
        await sleep(settleMs);
        if ((await readHolder(path))?.pid === process.pid) return () => rm(path, { force: true });
      }
      const holder = await readHolder(path);
      if (holder !== undefined && (await isAlive(holder))) throw new FolderHeld(folder, holder.pid);
      await takeAway(path, holder);
    }
    throw new Error(`${folder} cannot be locked; is it writable?`);
  } finally {
    await rm(candidate, { force: true });
  }
}

/** Removes the lock that was judged stale, and no other: one that was put there meanwhile goes back. */
async function takeAway(path: string, stale: Holder | undefined): Promise<void> {
  const aside = `${path}.${process.pid}.aside`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const taken = await readHolder(aside);
  if (taken?.pid !== stale?.pid || taken?.startedAt !== stale?.startedAt) await isLinked(aside, path);
  await rm(aside, { force: true });
}

/** Another process has the folder open. */
export class FolderHeld extends Error {
  readonly pid: number;

  constructor(folder: string, pid: number) {
    super(
      `${folder} is open in process ${pid}: one process at a time can use an embedded store. Stop it, or set LAMINA_DATA to another folder.`,
    );
    this.name = 'FolderHeld';
    this.pid = pid;
  }
}

async function isLinked(candidate: string, path: string): Promise<boolean> {
  try {
    await link(candidate, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder;
  } catch {
    return undefined;
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const startedAt = await startOf(holder.pid);
  return startedAt === '' || holder.startedAt === '' || startedAt === holder.startedAt;
}

/** When a process started, in the kernel's ticks since boot (field 22 of /proc/<pid>/stat); empty outside Linux. */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}
