import type { Facts } from './facts.ts';

/** What a session came to, as Markdown; null where there is nothing to tell. */
export function printSummary(
  facts: Facts,
  of: { readonly project: string; readonly endedAt: string | null },
): string | null {
  const { prompts = [], plan, decisions = [], files = [], todos = [], outcome, title } = facts;
  const open = todos.filter(({ isDone }) => !isDone);
  const isEmpty =
    prompts.length + decisions.length + files.length + todos.length === 0 &&
    plan === undefined &&
    outcome === undefined;
  if (isEmpty) return null;
  const sections = [
    `# ${title ?? prompts[0] ?? `A session in ${of.project}`}`,
    section('Asked', prompts),
    plan === undefined ? '' : `## Plan\n\n${plan}`,
    section('Decisions', decisions),
    section(
      'Open to-dos',
      open.map(({ text }) => text),
    ),
    todos.length > 0 && open.length === 0 ? `All ${todos.length} to-dos were done.` : '',
    section('Files changed', files),
    outcome === undefined ? '' : `## Last said\n\n${outcome}`,
    of.endedAt === null ? '' : `The session ended at ${of.endedAt}.`,
  ];
  return `${sections.filter((one) => one !== '').join('\n\n')}\n`;
}

const section = (name: string, items: readonly string[]) =>
  items.length === 0 ? '' : `## ${name}\n\n${items.map((item) => `- ${item.replaceAll('\n', ' ')}`).join('\n')}`;
