import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { home } from '../functions/runtime.ts';

/**
 * Who may import whom. A folder may import from itself, from its own row's list and from nothing else: never up.
 * functions → http → unified-context-manager → {versions, contexts, access} → {merge, postgres, telemetry, config} → base
 */
const allowed: Readonly<Record<string, readonly string[]>> = {
  'lib/base': [],
  'lib/config': ['lib/base'],
  'lib/telemetry': ['lib/base'],
  'lib/postgres': ['lib/base', 'lib/telemetry'],
  'lib/merge': ['lib/base'],
  'lib/redis': ['lib/base', 'lib/telemetry'],
  'lib/cache': ['lib/base', 'lib/config', 'lib/redis', 'lib/telemetry'],
  'lib/contexts': ['lib/base', 'lib/config', 'lib/telemetry', 'lib/merge', 'lib/postgres', 'lib/redis', 'lib/cache'],
  'lib/versions': ['lib/base', 'lib/config', 'lib/postgres', 'lib/merge', 'lib/contexts'],
  'lib/sync': ['lib/base', 'lib/config', 'lib/telemetry', 'lib/postgres', 'lib/merge', 'lib/contexts'],
  'lib/memory': ['lib/base', 'lib/config', 'lib/postgres', 'lib/cache', 'lib/contexts', 'lib/sync'],
  'lib/factory': [
    'lib/base',
    'lib/config',
    'lib/telemetry',
    'lib/merge',
    'lib/postgres',
    'lib/cache',
    'lib/contexts',
    'lib/search',
    'lib/memory',
  ],
  'lib/search': ['lib/base', 'lib/config', 'lib/telemetry', 'lib/merge', 'lib/postgres', 'lib/cache', 'lib/contexts'],
  'lib/search/embedders': ['lib/base', 'lib/telemetry', 'lib/search'],
  'lib/search/engines': ['lib/base', 'lib/telemetry', 'lib/search'],
  'lib/access': ['lib/base', 'lib/config', 'lib/postgres', 'lib/cache', 'lib/contexts'],
  lib: [
    'lib/base',
    'lib/config',
    'lib/telemetry',
    'lib/postgres',
    'lib/redis',
    'lib/cache',
    'lib/contexts',
    'lib/versions',
    'lib/memory',
    'lib/search',
    'lib/search/embedders',
    'lib/sync',
    'lib/factory',
    'lib/access',
  ],
  'lib/http': [
    'lib/base',
    'lib/config',
    'lib/telemetry',
    'lib/merge',
    'lib/cache',
    'lib/contexts',
    'lib/versions',
    'lib/memory',
    'lib/search',
    'lib/sync',
    'lib/factory',
    'lib/access',
    'lib',
  ],
  'lib/mcp': [
    'lib/base',
    'lib/telemetry',
    'lib/merge',
    'lib/contexts',
    'lib/versions',
    'lib/memory',
    'lib/search',
    'lib/sync',
    'lib/access',
    'lib/http',
    'lib',
  ],
  functions: [
    'lib/base',
    'lib/config',
    'lib/telemetry',
    'lib/postgres',
    'lib/redis',
    'lib/search',
    'lib/search/embedders',
    'lib/search/engines',
    'lib/http',
    'lib/memory',
    'lib/mcp',
    'lib/merge',
    'lib/factory',
    'lib',
  ],
  'functions/lambda': ['lib/base', 'lib/contexts', 'lib/telemetry', 'lib/postgres', 'lib/http', 'lib', 'functions'],
  infra: ['lib/config', 'lib/search/embedders'],
  'infra/graph': ['lib/config', 'lib/search/embedders', 'functions/lambda', 'functions', 'infra'],
  tools: [
    'lib',
    'lib/contexts',
    'lib/search',
    'lib/base',
    'lib/config',
    'lib/telemetry',
    'lib/postgres',
    'lib/http',
    'functions',
    'functions/lambda',
    'infra/graph',
  ],
};

/** Each vendor's package has one home. */
const vendors: Readonly<Record<string, readonly string[]>> = {
  '@electric-sql/pglite': ['lib/postgres', 'functions'],
  '@electric-sql/pglite-pgvector': ['functions'],
  '@neondatabase/serverless': ['lib/postgres'],
  '@upstash/redis': ['lib/redis'],
  '@hono/node-server': ['functions'],
  '@redocly/openapi-core': ['tools'],
  '@modelcontextprotocol/server': ['lib/mcp'],
  '@modelcontextprotocol/client': ['lib/mcp', 'lib/memory'],
  '@modelcontextprotocol/client/stdio': ['lib/memory'],
  '@modelcontextprotocol/server/stdio': ['functions'],
  'hono/hono-base': ['lib/http'],
  'hono/router/trie-router': ['lib/http'],
  'hono/router/reg-exp-router': ['functions'],
  'hono/aws-lambda': ['functions/lambda'],
  'aws-lambda': ['functions/lambda'],
  'prom-client': ['lib/telemetry'],
  'prom-client/lib/counter.js': ['lib/telemetry'],
  'prom-client/lib/gauge.js': ['lib/telemetry'],
  'prom-client/lib/histogram.js': ['lib/telemetry'],
  'prom-client/lib/registry.js': ['lib/telemetry'],
  '@orama/stemmers/english': ['lib/search'],
  'lru-cache': ['lib/access', 'lib/cache', 'lib/mcp', 'lib/search'],
  yaml: ['lib/config'],
  zod: ['lib/http', 'lib/mcp', 'lib/config', 'lib/search/embedders', 'tools'],
  'zod/v4/core': ['lib/mcp'],
  aws4fetch: ['lib/search/embedders', 'functions/lambda'],
  ky: ['lib/search/embedders'],
  'p-map': ['lib/search/embedders', 'lib/search/engines'],
  'weaviate-client': ['lib/search/engines'],
};

interface Import {
  readonly file: string;
  readonly folder: string;
  readonly target: string;
  readonly names: string;
}

const imports: Import[] = [];
const texts = new Map<string, string>();

beforeAll(async () => {
  for (const root of ['lib', 'functions', 'infra', 'tools']) {
    for (const entry of await readdir(join(home, root), { recursive: true })) {
      if (!entry.endsWith('.ts') || entry.startsWith('node_modules')) continue;
      const file = join(root, entry);
      const text = await readFile(join(home, file), 'utf8');
      texts.set(file, text);
      for (const [, names = '', specifier = ''] of text.matchAll(/(?:import|export)\s+([^;'"]*?)\s*from '([^']+)'/g)) {
        const target = specifier.startsWith('.') ? relative(home, resolve(home, dirname(file), specifier)) : specifier;
        imports.push({ file, folder: dirname(file), target, names });
      }
      for (const [, specifier = ''] of text.matchAll(/import\('([^']+)'\)/g)) {
        const target = specifier.startsWith('.') ? relative(home, resolve(home, dirname(file), specifier)) : specifier;
        imports.push({ file, folder: dirname(file), target, names: '' });
      }
    }
  }
});

describe('the architecture', () => {
  test('the table is of folders that exist, and every folder is in it', () => {
    expect(imports.length).toBeGreaterThan(100);
    const folders = new Set([...texts.keys()].map((file) => dirname(file)));
    expect([...folders].sort()).toEqual(Object.keys(allowed).sort());
  });

  test('imports go down only', () => {
    const wrong = imports
      .filter(({ target }) => /^(lib|functions|infra|tools|test|bench)\b/.test(target))
      .filter(({ folder, target }) => dirname(target) !== folder && !allowed[folder]?.includes(dirname(target)));
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('SQL is private to its folder: types of it may be known, statements not', () => {
    const wrong = imports
      .filter(({ target, folder }) => target.endsWith('.sql.ts') && dirname(target) !== folder)
      .filter(({ names }) => !names.startsWith('type ') && !/^\{\s*(type [^,}]+,?\s*)+\}$/.test(names));
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('SQL lives in *.sql.ts, in migrations, and where databases are opened', () => {
    // filter.ts has conditions that several folders put into their statements.
    const homes = /\.sql\.ts$|^lib\/postgres\/|^lib\/contexts\/filter\.ts$|^tools\/schema-page\.ts$/;
    const wrong = [...texts].filter(
      ([file, text]) =>
        !homes.test(file) &&
        /\b(select \S+ from|insert into|update \w+ set|delete from)\b/.test(
          text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, ''),
        ),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  test('each vendor has one home', () => {
    const wrong = imports
      .filter(({ target }) => !/^(lib|functions|infra|tools|node:|package\.json$)/.test(target))
      .filter(({ folder, target }) => !vendors[target]?.some((one) => one === folder));
    expect(wrong.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  test('what answers over HTTP loads the MCP SDK and the embedded database when they are asked for, not before', () => {
    const eager = new Set<string>();
    const todo = ['functions/listening.ts', 'functions/runtime.ts'];
    for (let file = todo.pop(); file !== undefined; file = todo.pop()) {
      if (eager.has(file)) continue;
      eager.add(file);
      for (const [, specifier = ''] of (texts.get(file) ?? '').matchAll(
        /^(?:import|export) (?!type )[^;'"]*?from '([^']+)'/gm,
      )) {
        todo.push(specifier.startsWith('.') ? relative(home, resolve(home, dirname(file), specifier)) : specifier);
      }
    }
    expect(eager.size).toBeGreaterThan(80);
    const late =
      /^@modelcontextprotocol\/|^@electric-sql\/|^lib\/mcp\/|^lib\/memory\/peer\.ts$|^(aws4fetch|ky|p-map|weaviate-client)$/;
    expect([...eager].filter((one) => late.test(one))).toEqual([]);
  });

  test('the environment is read in one place', () => {
    const readers = [...texts].filter(([, text]) => text.includes('process.env')).map(([file]) => file);
    // What deploys is told by whoever deploys.
    expect(readers.filter((file) => !file.startsWith('infra/'))).toEqual(['functions/runtime.ts']);
  });

  test('nothing is left for later', () => {
    const wrong = [...texts]
      .filter(([, text]) => /\b(TODO|FIXME|XXX|HACK)\b|: any\b|as any\b/.test(text))
      .map(([file]) => file);
    expect(wrong).toEqual([]);
  });
});
