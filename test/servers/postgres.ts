import { execFile, spawn } from 'node:child_process';
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A real PostgreSQL of this run's own, on loopback. */
export interface PostgresServer {
  readonly port: number;
  readonly version: string;
  /** URL of one of its databases for the superuser. */
  url(database: string): string;
  /** Ends it at once, as a crash would, and starts it again on the same port. */
  crash(): Promise<void>;
  stop(): Promise<void>;
}

/** The folder of PostgreSQL's programs; undefined where it is not installed. */
export async function findPostgres(): Promise<string | undefined> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => []);
  const newest = versions.sort((left, right) => Number(right) - Number(left))[0];
  if (newest !== undefined) return `/usr/lib/postgresql/${newest}/bin`;
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    if (
      await run(join(folder, 'initdb'), ['--version']).then(
        () => true,
        () => false,
      )
    )
      return folder;
  }
  return undefined;
}

/** Starts a server with `fsync` off; it refuses to run as root, so root lends it the user nobody. */
export async function startPostgres(programs: string): Promise<PostgresServer> {
  const folder = await mkdtemp(join(tmpdir(), 'lamina-postgres-'));
  const user = process.getuid?.() === 0 ? await findUser() : undefined;
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  const data = join(folder, 'data');
  const as = { ...user, cwd: folder };
  await run(
    join(programs, 'initdb'),
    ['-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync', '-E', 'UTF8', '--locale=C.UTF-8'],
    as,
  );
  const port = await freePort();
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    shared_buffers: '512MB',
    max_connections: 200,
    max_wal_size: '4GB',
  };
  const args = ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  let server = await launch();

  function launch() {
    return new Promise<ReturnType<typeof spawn>>((resolve, reject) => {
      const child = spawn(join(programs, 'postgres'), args, { ...as, stdio: ['ignore', 'ignore', 'pipe'] });
      let log = '';
      child.stderr?.on('data', (piece: Buffer) => {
        log = (log + piece.toString()).slice(-4000);
        if (log.includes('ready to accept connections')) resolve(child);
      });
      child.once('exit', (code) => reject(new Error(`postgres ended with ${code}: ${log}`)));
    });
  }

  // However this process ends, its end of the pipe closes, and the server with what it had goes.
  const clean = 'cat >/dev/null; kill -QUIT "$0" 2>/dev/null; rm -rf "$1"';
  function watch() {
    const args = ['-c', clean, String(server.pid), folder];
    const watcher = spawn('sh', args, { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    watcher.unref();
    return watcher;
  }
  let watcher = watch();

  const ended = (child: ReturnType<typeof spawn>) => new Promise((resolve) => child.once('exit', resolve));
  const { stdout } = await run(join(programs, 'postgres'), ['--version']);
  return {
    port,
    version: stdout.trim(),
    url: (database) => `postgresql://postgres@127.0.0.1:${port}/${database}`,
    async crash() {
      const gone = ended(server);
      watcher.kill();
      server.kill('SIGQUIT');
      await gone;
      server = await launch();
      watcher = watch();
    },
    async stop() {
      const gone = ended(server);
      watcher.kill();
      server.kill('SIGQUIT');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function findUser(): Promise<{ uid: number; gid: number }> {
  const id = async (flag: string) => Number((await run('id', [flag, 'nobody'])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
