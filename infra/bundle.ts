import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';

/** What of a bundle is loaded before the first request. */
export interface Eager {
  /** Bytes of the entry, and of what it imports but for `import()`. */
  readonly eagerBytes: number;
  /** In how many files they are. */
  readonly eagerFiles: number;
  /** The packages that something of is among these bytes. */
  readonly eagerPackages: readonly string[];
}

interface Import {
  readonly path: string;
  readonly kind: string;
  readonly external?: boolean;
}

interface Metafile {
  readonly inputs: Readonly<Record<string, { readonly imports: readonly Import[] }>>;
  readonly outputs: Readonly<
    Record<
      string,
      {
        readonly bytes: number;
        readonly inputs: Readonly<Record<string, unknown>>;
        readonly imports: readonly Import[];
      }
    >
  >;
}

interface Esbuild {
  build(options: Readonly<Record<string, unknown>>): Promise<{ readonly metafile: Metafile }>;
}

interface Build {
  onLoad(of: { filter: RegExp }, load: (file: { path: string }) => Promise<unknown>): void;
}

// Packages in CommonJS ask for Node's modules by `require`.
const banner = `import { createRequire } from 'node:module';const require = createRequire(import.meta.url);`;

/**
 * Bundles a function for Node 24: what it loads at its start is one file beside the entry, and what is loaded by `import()` lies
 * in further ones. Its source maps lie in a folder beside `out`, with `-maps` behind its name, and what was found of it in a
 * file with `.json`.
 *
 * SST's own way makes a file of each set of modules that some of the late ones share, and Node takes a millisecond for each
 * (decision 12).
 *
 * @param of.root folder of the repository.
 * @param of.entry module of the function, such as `functions/lambda/api.ts`.
 * @param of.out folder it is written to; what was there goes.
 * @throws Error with what esbuild says where it cannot be built.
 */
export async function bundleFunction(of: { root: string; entry: string; out: string }): Promise<Eager> {
  const { root, entry, out } = of;
  const esbuild = createRequire(join(root, 'infra', 'package.json'))('esbuild') as Esbuild;
  const options = {
    absWorkingDir: root,
    entryPoints: [join(root, entry)],
    outdir: out,
    entryNames: 'bundle',
    outExtension: { '.js': '.mjs' },
    platform: 'node',
    target: 'es2024',
    format: 'esm',
    mainFields: ['module', 'main'],
    banner: { js: banner },
    bundle: true,
    splitting: true,
    minify: true,
    metafile: true,
    logLevel: 'silent',
  };
  await Promise.all([out, mapsOf(out)].map((folder) => rm(folder, { recursive: true, force: true })));
  const { metafile: plan } = await esbuild.build({ ...options, write: false });
  const { metafile } = await esbuild.build({
    ...options,
    sourcemap: 'external',
    plugins: [joinEager(root, entry, plan)],
  });
  await mkdir(mapsOf(out), { recursive: true });
  const maps = Object.keys(metafile.outputs).filter((file) => file.endsWith('.map'));
  await Promise.all(maps.map((file) => rename(join(root, file), join(mapsOf(out), basename(file)))));
  const eager = eagerOf(metafile);
  await writeFile(`${out}.json`, JSON.stringify(eager));
  return eager;
}

const mapsOf = (out: string) => `${out}-maps`;

/**
 * Has each of our modules that is loaded late import what the function loads at its start, which is there by then: esbuild makes
 * a file of the modules that the same entries share, so all of them end up in one.
 */
function joinEager(root: string, entry: string, { inputs }: Metafile) {
  // Not the entry itself: it waits for what it loads while it starts, and that would wait for it.
  const eager = (inputs[entry]?.imports ?? []).filter(isEager).map(({ path }) => join(root, path));
  const late = Object.values(inputs)
    .flatMap(({ imports }) => imports)
    .filter(({ path, kind, external }) => kind === 'dynamic-import' && !external && !path.includes('node_modules/'))
    .map(({ path }) => join(root, path));
  const imports = eager.map((path) => `import ${JSON.stringify(path)};`).join('');
  return {
    name: 'join-eager',
    setup(build: Build) {
      build.onLoad({ filter: /\.ts$/ }, async ({ path }) =>
        late.includes(path)
          ? { contents: `${await readFile(path, 'utf8')}\n${imports}`, loader: 'ts', resolveDir: dirname(path) }
          : undefined,
      );
    },
  };
}

const isEager = ({ kind, external }: Import) => kind === 'import-statement' && !external;

function eagerOf({ outputs }: Metafile): Eager {
  const [entry] = Object.keys(outputs).filter((file) => /(^|\/)bundle\.mjs$/.test(file));
  const seen = new Set<string>();
  for (const todo = entry === undefined ? [] : [entry]; todo.length > 0; ) {
    const file = todo.pop() as string;
    if (seen.has(file)) continue;
    seen.add(file);
    todo.push(...(outputs[file]?.imports ?? []).filter(isEager).map(({ path }) => path));
  }
  const inputs = [...seen].flatMap((file) => Object.keys(outputs[file]?.inputs ?? {}));
  const packages = inputs.flatMap((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []);
  return {
    eagerBytes: [...seen].reduce((sum, file) => sum + (outputs[file]?.bytes ?? 0), 0),
    eagerFiles: seen.size,
    eagerPackages: [...new Set(packages)].sort(),
  };
}
