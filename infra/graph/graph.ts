// npm run graph: what a deployment would make, without an account: laid out, type-checked, evaluated with the real bundles
// under Pulumi's mocks, and held against the rules; and each rule against mistakes that it has to find.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { home } from '../../functions/runtime.ts';
import { loadSettings } from '../../lib/config/load.ts';
import { mistakes } from './mistakes.ts';
import { layOut, run } from './platform.ts';
import type { Graph } from './resources.ts';
import { rules } from './rules.ts';
import { printTable } from './table.ts';

const isQuiet = process.argv.includes('--check');
const database = 'postgresql://owner:database-secret@ep-given.eu-central-1.aws.neon.tech/neondb';
const given = { SST_SECRET_LaminaToken: 'lam_default_owner_graph-secret' };
/** Between them every choice that a stage has. */
const stages: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  production: {
    ...given,
    LAMINA_ENGINES: 'provisioned',
    LAMINA_DOMAIN: 'lamina.example.com',
    LAMINA_EMBEDDER: 'bedrock:eu.cohere.embed-v4:0:512,bedrock:amazon.titan-embed-text-v2:0',
  },
  ci: {
    ...given,
    LAMINA_ENGINES: 'secrets',
    LAMINA_EMBEDDER: 'bedrock:amazon.titan-embed-text-v2:0',
    SST_SECRET_DatabaseUrl: database,
    SST_SECRET_UpstashRedisRestUrl: 'https://given.upstash.io',
    SST_SECRET_UpstashRedisRestToken: 'given-secret',
  },
};
// Seconds, where nothing else keeps the machine busy.
const evaluationMs = 300_000;
const started = performance.now();
const problems: string[] = [];

async function evaluate(stage: string): Promise<Graph | undefined> {
  const file = join(home, '.sst', `graph-${stage}.json`);
  await rm(file, { force: true });
  const variables = { LAMINA_DOMAIN: '', LAMINA_EMBEDDER: '', ...stages[stage] };
  const { isGood, output } = await run(process.execPath, [join(home, 'infra/graph/evaluate.ts'), stage, file], {
    variables,
    timeMs: evaluationMs,
  });
  if (isGood) return JSON.parse(await readFile(file, 'utf8')) as Graph;
  problems.push(`${stage} cannot be evaluated:\n${output}`);
  return undefined;
}

async function checkTypes(): Promise<void> {
  const tsc = join(home, 'node_modules/typescript/bin/tsc');
  const { isGood, output } = await run(process.execPath, [tsc, '--project', join(home, 'infra/tsconfig.json')]);
  if (!isGood) problems.push(`types:\n${output}`);
}

await layOut();
const [production, ci] = await Promise.all([evaluate('production'), evaluate('ci'), checkTypes()]);
const settings = await loadSettings(join(home, 'config', 'context.yaml'));
for (const graph of [production, ci]) {
  if (graph === undefined) continue;
  if (!isQuiet) console.log(printTable(graph));
  for (const { name, check } of rules)
    for (const what of check(graph, settings)) problems.push(`${graph.stage}: ${name}: ${what}`);
}
let found = 0;
// What is wrong by itself would be found in any case.
if (production !== undefined && problems.length === 0) {
  for (const { rule: wanted, name, make } of mistakes) {
    const wrong = structuredClone(production);
    make(wrong as Parameters<typeof make>[0]);
    const rule = rules.find((one) => one.name === wanted);
    if ((rule?.check(wrong, settings) ?? []).length > 0) found++;
    else problems.push(`the rule of ${wanted} does not find ${name}`);
  }
  const proven = new Set(mistakes.map(({ rule }) => rule));
  for (const { name } of rules) if (!proven.has(name)) problems.push(`nothing proves the rule of ${name}`);
}
for (const problem of problems) console.log(`FAIL ${problem}`);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${rules.length} rules on 2 stages, ${found} of ${mistakes.length} seeded mistakes found (${seconds} s)`);
process.exitCode = problems.length > 0 ? 1 : 0;
