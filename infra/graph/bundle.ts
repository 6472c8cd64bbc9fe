import { rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';
import { home } from '../../functions/runtime.ts';

/** What SST is told of a function's bundle: the `nodejs` of its arguments. */
export interface BundleOptions {
  readonly minify?: boolean;
  readonly splitting?: boolean;
}

/** A bundle as it was written. */
export interface Bundle {
  /** What Lambda is told to call, such as `bundle.handler`. */
  readonly handler: string;
  readonly errors: readonly string[];
  readonly sourcemaps: readonly string[];
  /** Bytes that are loaded before the first request: the entry, and what it imports but for `import()`. */
  readonly eagerBytes: number;
  /** The packages that something of is among these bytes. */
  readonly eagerPackages: readonly string[];
}

interface Metafile {
  readonly outputs: Readonly<
    Record<
      string,
      {
        readonly bytes: number;
        readonly entryPoint?: string;
        readonly inputs: Readonly<Record<string, unknown>>;
        readonly imports: readonly { readonly path: string; readonly kind: string; readonly external?: boolean }[];
      }
    >
  >;
}

interface Esbuild {
  build(options: Readonly<Record<string, unknown>>): Promise<{ readonly metafile: Metafile }>;
}

// The version that is inside SST's own program.
const esbuild = createRequire(join(home, 'infra', 'package.json'))('esbuild') as Esbuild;

const banner = `import { createRequire as topLevelCreateRequire } from "module";
const require = topLevelCreateRequire(import.meta.url);
import { fileURLToPath as topLevelFileUrlToPath, URL as topLevelURL } from "url"
const __filename = topLevelFileUrlToPath(import.meta.url)
const __dirname = topLevelFileUrlToPath(new topLevelURL(".", import.meta.url))
`;

/**
 * Bundles a function for Node 24 as SST does when it deploys: the same options for the same version of esbuild.
 * https://github.com/anomalyco/sst/blob/dev/pkg/runtime/node/build.go
 *
 * @param of.handler file and export, such as `functions/lambda/api.handler`.
 * @param of.out folder it is written to; what was there goes.
 */
export async function bundleFunction(of: { handler: string; out: string; options: BundleOptions }): Promise<Bundle> {
  const { handler, out, options } = of;
  const { minify = false, splitting = false } = options;
  const target = splitting
    ? { outdir: out, entryNames: 'bundle', outExtension: { '.js': '.mjs' } }
    : { outfile: join(out, 'bundle.mjs') };
  await rm(out, { recursive: true, force: true });
  try {
    const { metafile } = await esbuild.build({
      absWorkingDir: home,
      entryPoints: [join(home, handler.replace(/\.\w+$/, '.ts'))],
      platform: 'node',
      external: ['sharp', 'pg-native'],
      keepNames: true,
      bundle: true,
      splitting,
      metafile: true,
      sourcemap: true,
      format: 'esm',
      target: 'es2024',
      mainFields: ['module', 'main'],
      banner: { js: banner },
      minify,
      logLevel: 'silent',
      ...target,
    });
    const files = Object.keys(metafile.outputs).map((file) => join(home, file));
    const sourcemaps = files.filter((file) => file.endsWith('.map'));
    return { handler: `bundle${extname(handler)}`, errors: [], sourcemaps, ...eagerOf(metafile) };
  } catch (error) {
    const errors = [error instanceof Error ? error.message : String(error)];
    return { handler, errors, sourcemaps: [], eagerBytes: 0, eagerPackages: [] };
  }
}

function eagerOf({ outputs }: Metafile): Pick<Bundle, 'eagerBytes' | 'eagerPackages'> {
  const [entry] = Object.keys(outputs).filter((file) => /(^|\/)bundle\.mjs$/.test(file));
  const seen = new Set<string>();
  for (const todo = entry === undefined ? [] : [entry]; todo.length > 0; ) {
    const file = todo.pop() as string;
    if (seen.has(file)) continue;
    seen.add(file);
    for (const { path, kind, external } of outputs[file]?.imports ?? []) {
      if (kind === 'import-statement' && !external) todo.push(path);
    }
  }
  const inputs = [...seen].flatMap((file) => Object.keys(outputs[file]?.inputs ?? {}));
  const packages = inputs.flatMap((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []);
  return {
    eagerBytes: [...seen].reduce((sum, file) => sum + (outputs[file]?.bytes ?? 0), 0),
    eagerPackages: [...new Set(packages)].sort(),
  };
}
