import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import { unifiedDiff } from '../lib/merge/diff.ts';
import { isLoopbackUrl } from './address.ts';
import type { Order } from './agent-files.ts';
import { applyChanges, type Change, claudeCommand, planConnect, planUndo, serverLeft } from './agents.ts';
import { connectionsFolder, readConnections, toServerUrl } from './connection.ts';
import { type Environment, readEnvironment } from './runtime.ts';

// npm run connect -- droid|claude: writes the hooks and the MCP server into the agent's configuration, or takes them back.
// It shows what it would change first; see docs/droid.md.
const usage = 'Say which agent: npm run connect -- droid|claude [--url URL] [--project] [--undo] [--yes]';
try {
  const environment = readEnvironment();
  const { order, isUndo, isAgreed } = readOrder(process.argv.slice(2), environment);
  const changes = await (isUndo ? planUndo : planConnect)(order, environment);
  for (const change of changes) console.log(show(change));
  if (changes.length === 0) console.log(isUndo ? 'Nothing of Lamina is there.' : 'Nothing to change.');
  else if (isAgreed || (await ask())) {
    await applyChanges(changes);
    if (isUndo && (await readConnections(environment)).size === 0) {
      await rm(join(connectionsFolder(environment), '..', 'sessions'), { recursive: true, force: true });
    }
    console.log('Done. Sessions that are open do not know of it yet.');
  } else process.exit(2);
  await tellRest(order, environment, isUndo);
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

function readOrder(args: string[], environment: Environment): { order: Order; isUndo: boolean; isAgreed: boolean } {
  const options = {
    url: { type: 'string' },
    project: { type: 'boolean', default: false },
    undo: { type: 'boolean', default: false },
    yes: { type: 'boolean', default: false },
  } as const;
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  const [agent, ...more] = positionals;
  if ((agent !== 'droid' && agent !== 'claude') || more.length > 0) throw new Error(usage);
  const given = values.url ?? environment.serverUrl ?? `http://127.0.0.1:${environment.port}`;
  const url = toServerUrl(given);
  return { order: { agent, isProject: values.project, url }, isUndo: values.undo, isAgreed: values.yes };
}

function show({ path, before, after, shown, isClosed }: Change): string {
  const labels = { from: before === undefined ? '/dev/null' : path, to: after === undefined ? '/dev/null' : path };
  const diff = unifiedDiff(shown.before, shown.after, labels) || `${path}: what is not shown of it changes`;
  return isClosed ? `${diff.trimEnd()}\n${path}: from then on you alone may read it` : diff;
}

async function ask(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    console.error('Nothing was changed: say --yes to have it done.');
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question('Shall this be done? [y/N] ');
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

async function tellRest(order: Order, environment: Environment, isUndo: boolean): Promise<void> {
  const { agent, isProject, url } = order;
  if (agent === 'claude' && !isProject) {
    const command = isUndo ? 'claude mcp remove --scope user lamina' : claudeCommand(order, environment);
    console.log(`Claude Code keeps its own list of MCP servers for all projects; say to it:\n  ${command}`);
    if (!isUndo) console.log('While that runs, whoever may list the processes of this machine sees the token.');
  }
  if (isUndo) {
    const left = await serverLeft(order, environment);
    if (left === undefined) return;
    console.log(`${left} has an MCP server named lamina still, at another address: say it with --url, or take it out.`);
    return;
  }
  if (isProject) console.log('The MCP server reads the token from LAMINA_TOKEN: export it where the agent starts.');
  if (isProject && agent === 'droid') {
    console.log('The hooks name a path of this machine: keep .factory/hooks.json out of the repository.');
  }
  if (url.startsWith('http:') && !isLoopbackUrl(url)) {
    console.log(`${url} is not encrypted: whoever is on the way reads the token and the sessions.`);
  }
}
