// npm run check: types, lint, unused code, documents that must follow the code, the OpenAPI document, the architecture, the resource graph.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createConfig, lint } from '@redocly/openapi-core';
import { home } from '../functions/runtime.ts';

interface Check {
  readonly name: string;
  run(): Promise<{ isGood: boolean; output: string }>;
}

const tool = (name: string, file: string, args: readonly string[]): Check => ({
  name,
  run: () =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [join(home, file), ...args], { cwd: home });
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (piece: Buffer) => {
          output += piece.toString();
        });
      }
      child.once('exit', (code) => resolve({ isGood: code === 0, output }));
    }),
});

const openapi: Check = {
  name: 'OpenAPI',
  async run() {
    const config = await createConfig({
      extends: ['recommended'],
      rules: { 'operation-4xx-response': 'off', 'info-license-strict': 'off' },
    });
    const problems = await lint({ ref: join(home, 'lib/http/openapi.json'), config });
    const output = problems
      .map(({ ruleId, message, location }) => `${ruleId}: ${message} at ${location[0]?.pointer}\n`)
      .join('');
    return { isGood: problems.length === 0, output };
  },
};

const checks: readonly Check[] = [
  tool('types', 'node_modules/typescript/bin/tsc', ['--project', 'tsconfig.json']),
  tool('lint and format', 'node_modules/@biomejs/biome/bin/biome', ['check', '--error-on-warnings']),
  tool('unused code', 'node_modules/knip/bin/knip.js', []),
  tool('documents', 'tools/generate.ts', ['--check']),
  openapi,
  tool('architecture', 'node_modules/vitest/vitest.mjs', ['run', 'test/architecture.test.ts']),
  tool('resource graph', 'infra/graph/graph.ts', ['--check']),
];

let failed = 0;
for (const check of checks) {
  const started = performance.now();
  const { isGood, output } = await check.run();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${isGood ? 'ok  ' : 'FAIL'} ${check.name} (${seconds} s)`);
  if (!isGood) {
    failed++;
    console.log(output);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
