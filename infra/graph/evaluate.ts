// A process of its own for each stage: Pulumi and SST keep the state of a program in globals.
import { createCipheriv } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { home } from '../../functions/runtime.ts';
import type { Eager } from '../bundle.ts';
import { platformFolder } from './platform.ts';
import type { Graph, Inputs, Packed, Resource } from './resources.ts';

interface Esbuild {
  build(options: Readonly<Record<string, unknown>>): Promise<unknown>;
}

interface MockResource {
  readonly type: string;
  readonly name: string;
  readonly inputs: Inputs;
}

/** What Pulumi's engine is asked for beside the arguments of a resource. */
interface RegisterRequest {
  getType(): string;
  getName(): string;
  getDependenciesList(): string[];
  getProtect(): boolean;
  getRetainondelete(): boolean;
}

interface Monitor {
  readonly MockMonitor: {
    readonly prototype: { registerResource(request: RegisterRequest, ...rest: unknown[]): Promise<void> };
  };
}

interface Pulumi {
  readonly runtime: {
    setMocks(
      mocks: {
        newResource(resource: MockResource): { id: string; state: Inputs };
        call(call: { token: string; inputs: Inputs }): Inputs;
      },
      project: string,
      stack: string,
      preview: boolean,
    ): Promise<void>;
    runInPulumiStack(program: () => Promise<unknown>): Promise<unknown>;
    disconnect(): Promise<void>;
  };
}

interface App {
  readonly name: string;
  readonly removal: string;
  readonly protect: boolean;
}

const [stage = 'ci', outFile = ''] = process.argv.slice(2);
const workFolder = join(home, '.sst', `graph-${stage}`);
const region = 'eu-central-1';
const account = '123456789012';
const requireOfPlatform = createRequire(join(platformFolder, 'package.json'));
const { runtime } = requireOfPlatform('@pulumi/pulumi') as Pulumi;
const { MockMonitor } = requireOfPlatform('@pulumi/pulumi/runtime/mocks') as Monitor;
const esbuild = createRequire(join(home, 'infra', 'package.json'))('esbuild') as Esbuild;
const lock = JSON.parse(await readFile(join(home, '.sst', 'provider-lock.json'), 'utf8')) as readonly {
  alias: string;
  package: string;
}[];

const resources: Resource[] = [];
const requests = new Map<string, RegisterRequest>();
const bundles: Record<string, Packed> = {};

process.on('unhandledRejection', (error) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});

/** Secrets arrive wrapped: what they say is what is looked at. */
function unwrap(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrap);
  if (typeof value !== 'object' || value === null) return value;
  const { '4dabf18193072939515e22adb298388d': signature, value: inner, ...rest } = value as Record<string, unknown>;
  if (signature !== undefined) return 'value' in value ? unwrap(inner) : unwrap({ signature, ...rest });
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, unwrap(one)]));
}

/** What AWS, Neon and Upstash would answer, as far as something later reads it. */
function stateOf({ type, name, inputs }: MockResource): Inputs {
  const [service = 'aws'] = (type.split(':')[1] ?? '').split('/');
  const arn = `arn:aws:${service}:${region}:${account}:${name}`;
  const named = { arn, name: inputs['name'] ?? name, ...inputs };
  if (type === 'aws:lambda/function:Function') {
    return { ...named, version: '7', qualifiedArn: `${arn}:7`, invokeArn: `${arn}/invocations` };
  }
  if (type === 'aws:lambda/functionUrl:FunctionUrl')
    return { ...named, functionUrl: `https://${name.toLowerCase()}.lambda-url.${region}.on.aws/` };
  if (type === 'aws:lambda/invocation:Invocation')
    return { ...named, result: JSON.stringify({ defaultSlot: 'default@1' }) };
  if (type === 'aws:sqs/queue:Queue')
    return { ...named, url: `https://sqs.${region}.amazonaws.com/${account}/${name}` };
  if (type === 'aws:cloudfront/distribution:Distribution')
    return { ...named, domainName: 'd111111abcdef8.cloudfront.net' };
  if (type === 'aws:acm/certificate:Certificate') return { ...named, domainValidationOptions: [] };
  if (type === 'neon:index/project:Project' || type.startsWith('neon:'))
    return {
      ...named,
      connectionUriPooler: 'postgresql://owner:secret@ep-made-pooler.eu-central-1.aws.neon.tech/neondb',
    };
  if (type.startsWith('upstash:')) return { ...named, endpoint: 'made.upstash.io', restToken: 'made-token' };
  if (type === 'random:index/randomBytes:RandomBytes')
    return { ...named, base64: Buffer.alloc(32, 7).toString('base64') };
  return named;
}

function answerCall({ token, inputs }: { token: string; inputs: Inputs }): Inputs {
  if (token === 'aws:index/getPartition:getPartition') return { partition: 'aws', dnsSuffix: 'amazonaws.com' };
  if (token === 'aws:index/getRegion:getRegion') return { region, name: region, id: region };
  if (token === 'aws:index/getCallerIdentity:getCallerIdentity') return { accountId: account };
  // SST leaves out an empty policy, which it knows by its statements.
  if (token === 'aws:iam/getPolicyDocument:getPolicyDocument')
    return { ...inputs, json: JSON.stringify({ statements: unwrap(inputs['statements']) }) };
  if (token.includes('getZone')) return { zoneId: 'Z1', name: inputs['name'] };
  return inputs;
}

/** Seals the links of a function beside its bundle, as SST's program does where it is given one. */
async function build(input: Inputs): Promise<Inputs> {
  const [name, out] = [String(input['functionID']), String(input['bundle'])];
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(String(input['encryptionKey']), 'base64'), Buffer.alloc(12));
  const sealed = [cipher.update(JSON.stringify(input['links'])), cipher.final()];
  await writeFile(join(out, 'resource.enc'), Buffer.concat([...sealed, cipher.getAuthTag()]));
  bundles[name] = { ...(JSON.parse(await readFile(`${out}.json`, 'utf8')) as Eager), zipBytes: 0, files: [] };
  return { handler: input['handler'], errors: [], sourcemaps: [], out };
}

async function answerRpc(method: string, params: Inputs): Promise<unknown> {
  if (method === 'Runtime.Build') return build(params);
  if (method === 'Provider.Aws.Bootstrap')
    return {
      asset: 'assets',
      assetEcrRegistryId: account,
      assetEcrUrl: 'ecr',
      state: 'state',
      appsyncHttp: '',
      appsyncRealtime: '',
    };
  if (method === 'Provider.Aws.Appsync') return { http: '', realtime: '' };
  throw new Error(`SST asks for ${method}, which nobody answers here.`);
}

async function serveRpc(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  const { method, params } = JSON.parse(Buffer.concat(pieces).toString()) as { method: string; params: Inputs[] };
  const [first] = Array.isArray(params) ? params : [params];
  const answer = await answerRpc(method, first ?? {}).then(
    (result) => ({ result }),
    (error) => ({ error: String(error) }),
  );
  response.end(JSON.stringify(answer));
}

const common = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'esnext',
  mainFields: ['module', 'main'],
  logLevel: 'silent',
  absWorkingDir: home,
};
const requireBanner = `import { createRequire as $r } from 'node:module'; const require = $r(import.meta.url);
import { fileURLToPath as $f } from 'node:url'; const __filename = $f(import.meta.url); const __dirname = $f(new URL('.', import.meta.url));`;

/** What `app()` says of the stage. */
async function readApp(): Promise<App & { stage: string }> {
  const file = join(workFolder, 'app.mjs');
  await esbuild.build({
    ...common,
    entryPoints: [join(home, 'sst.config.ts')],
    outfile: file,
    banner: { js: 'const $config = (input) => input;' },
    external: ['./infra/*'],
  });
  const { default: config } = (await import(pathToFileURL(file).href)) as {
    default: { app(of: { stage: string }): App };
  };
  return { ...config.app({ stage }), stage };
}

/** The program as SST compiles it before it deploys, its output beside the packages of the platform. */
async function compileProgram(app: App): Promise<string> {
  const file = join(platformFolder, `graph-${stage}.mjs`);
  const paths = { home: workFolder, root: home, work: workFolder, platform: platformFolder };
  const cli = { command: 'deploy', dev: false, rpc: '', home: workFolder, paths, state: { version: {} } };
  const globals = [
    ...lock.map(({ alias, package: name }) => `import * as ${alias} from "${name}";`),
    `import * as sst from "${platformFolder}/src/components";`,
  ].join('\n');
  await esbuild.build({
    ...common,
    stdin: {
      contents: `import { run } from "${platformFolder}/src/auto/run.ts"; import mod from "${home}/sst.config.ts"; export default () => run(mod.run);`,
      resolveDir: platformFolder,
      sourcefile: 'eval.ts',
      loader: 'ts',
    },
    outfile: file,
    banner: { js: requireBanner },
    define: { $app: JSON.stringify(app), $cli: JSON.stringify(cli), $dev: 'false' },
    inject: [join(platformFolder, 'src', 'shim', 'run.js')],
    nodePaths: [join(platformFolder, 'node_modules')],
    external: [
      '@pulumi/*',
      '@pulumiverse/*',
      '@sst-provider/*',
      '@upstash/pulumi',
      '@aws-sdk/*',
      'undici',
      'esbuild',
      'archiver',
      'glob',
      'vite',
      'prettier',
      'ts-node',
      'typescript',
    ],
    plugins: [
      {
        name: 'globals',
        setup(build: { onLoad(filter: { filter: RegExp }, load: (args: { path: string }) => Promise<unknown>): void }) {
          build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
            if (path.includes('/.sst/') || path.includes('/node_modules/')) return undefined;
            return { contents: `${globals}\n${await readFile(path, 'utf8')}`, loader: 'ts' };
          });
        },
      },
    ],
  });
  return file;
}

const server = createServer((request, response) => void serveRpc(request, response));
// A connection that ends just as the next question is sent would end the evaluation.
server.keepAliveTimeout = 600_000;
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
process.env['SST_SERVER'] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
await rm(workFolder, { recursive: true, force: true });
await mkdir(workFolder, { recursive: true });
const app = await readApp();
const program = await compileProgram(app);
// The mocks are told the arguments alone.
const { registerResource } = MockMonitor.prototype;
MockMonitor.prototype.registerResource = function (request, ...rest) {
  requests.set(`${request.getType()} ${request.getName()}`, request);
  return registerResource.call(this, request, ...rest);
};
try {
  await runtime.setMocks(
    {
      newResource(resource) {
        const { type, name } = resource;
        const inputs = unwrap(resource.inputs) as Inputs;
        const request = requests.get(`${type} ${name}`);
        resources.push({
          type,
          name,
          inputs,
          after: (request?.getDependenciesList() ?? []).map((urn) => urn.split('::').at(-1) ?? urn).sort(),
          isProtected: request?.getProtect() ?? false,
          isRetained: request?.getRetainondelete() ?? false,
        });
        return { id: `${name}-id`, state: stateOf({ type, name, inputs }) };
      },
      call: ({ token, inputs }) => answerCall({ token, inputs: unwrap(inputs) as Inputs }),
    },
    app.name,
    stage,
    false,
  );
  await runtime.runInPulumiStack(async () => {
    const { default: deploy } = (await import(pathToFileURL(program).href)) as { default: () => Promise<unknown> };
    return deploy();
  });
  await runtime.disconnect();
} finally {
  await rm(program, { force: true });
  server.close();
}
for (const [name, bundle] of Object.entries(bundles)) {
  const { size } = await stat(join(workFolder, 'artifacts', name, 'code.zip'));
  const files = (await readdir(join(workFolder, 'functions', name), { recursive: true })).sort();
  bundles[name] = { ...bundle, zipBytes: size, files };
}
/** Which variables the source of the functions asks for. */
async function readVariables(): Promise<string[]> {
  const files = ['functions/runtime.ts', 'functions/embedders.ts'];
  const texts = await Promise.all(files.map((file) => readFile(join(home, file), 'utf8')));
  return [
    ...new Set([...texts.join('\n').matchAll(/\b(?:text|urlOf)\('([A-Z_]+)'\)/g)].map(([, name]) => name as string)),
  ];
}

const linked = resources.find(({ name }) => name === 'EnvironmentLinkRef')?.inputs['properties'] as Inputs;
const graph: Graph = {
  stage,
  secrets: Object.values(linked).filter((value): value is string => typeof value === 'string' && value !== ''),
  variablesRead: await readVariables(),
  app: { removal: app.removal, protect: app.protect },
  resources: resources.sort((left, right) => `${left.type} ${left.name}`.localeCompare(`${right.type} ${right.name}`)),
  bundles,
};
await writeFile(outFile, JSON.stringify(graph));
await rm(workFolder, { recursive: true, force: true });
process.exit(0);
