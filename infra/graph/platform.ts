import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { home } from '../../functions/runtime.ts';

/** Where SST lays out the source of its components. */
export const platformFolder = join(home, '.sst', 'platform');

const infraFolder = join(home, 'infra');
const markFile = join(home, '.sst', 'laid-out');

/** What another program has printed, and whether it was content. */
export interface Ran {
  readonly isGood: boolean;
  readonly output: string;
}

/** Runs a program to its end, or to the end of its time. */
export function run(
  command: string,
  args: readonly string[],
  of: { folder?: string; variables?: Readonly<Record<string, string>>; timeMs?: number } = {},
): Promise<Ran> {
  const { folder = home, variables = {}, timeMs = 300_000 } = of;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...variables }, timeout: timeMs });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (piece: Buffer) => {
        output += piece.toString();
      });
    }
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      resolve({ isGood: code === 0, output: signal === null ? output : `${output}ended by ${signal}` }),
    );
  });
}

/**
 * Installs what deploys, and has SST lay out its components with the providers that sst.config.ts names: once, until one of
 * the two changes. Nothing is asked of AWS, nothing is written outside of the repository, and nothing is told to anyone.
 *
 * @returns whether there was anything to do.
 * @throws Error with what the program said that failed.
 */
export async function layOut(): Promise<boolean> {
  const sources = [join(infraFolder, 'package-lock.json'), join(home, 'sst.config.ts')];
  const texts = await Promise.all(sources.map((file) => readFile(file)));
  const wanted = createHash('sha256').update(Buffer.concat(texts)).digest('hex');
  if (existsSync(markFile) && (await readFile(markFile, 'utf8')) === wanted) return false;
  await rm(markFile, { force: true });
  await mkdir(join(home, '.sst'), { recursive: true });
  await must('npm', ['ci', '--no-audit', '--no-fund'], { folder: infraFolder });
  // Scripts of packages are off there (infra/.npmrc), and this is the one that is needed: it puts bun's program in its place.
  await must('npm', ['rebuild', 'bun', '--ignore-scripts=false', '--no-audit', '--no-fund'], { folder: infraFolder });
  // SST keeps files of its own in the home of its user.
  const user = await mkdtemp(join(tmpdir(), 'lamina-sst-'));
  const variables = {
    HOME: user,
    XDG_CONFIG_HOME: join(user, '.config'),
    SST_STAGE: 'ci',
    SST_SKIP_DEPENDENCY_CHECK: '1',
    SST_BUN_PATH: join(infraFolder, 'node_modules', '.bin', 'bun'),
    SST_TELEMETRY_DISABLED: '1',
    DO_NOT_TRACK: '1',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  try {
    await must(process.execPath, [join(infraFolder, 'node_modules', 'sst', 'bin', 'sst.mjs'), 'install'], {
      variables,
    });
  } finally {
    await rm(user, { recursive: true, force: true });
  }
  await writeFile(markFile, wanted);
  return true;
}

async function must(command: string, args: readonly string[], of: Parameters<typeof run>[2]): Promise<void> {
  const { isGood, output } = await run(command, args, of);
  if (!isGood) throw new Error(`${command} ${args.join(' ')} failed:\n${output}`);
}
