import { maskAndCut } from './masking.ts';
import { noteIn } from './notes.ts';

/** A to-do as an agent wrote it down. */
export interface Todo {
  readonly text: string;
  readonly isDone: boolean;
}

/** What can be told without a model of what a session did. */
export interface Facts {
  readonly prompts?: readonly string[];
  readonly plan?: string;
  readonly decisions?: readonly string[];
  readonly files?: readonly string[];
  readonly todos?: readonly Todo[];
  readonly outcome?: string;
  readonly title?: string;
  /** When that was said of which only the last counts. */
  readonly at?: Readonly<Partial<Record<Single, string>>>;
  /** Tombstones of the session's contexts after which all this was gathered. */
  readonly forgotten?: string;
}

export type FactsDraft = { -readonly [Name in keyof Facts]: Facts[Name] };

const singles = ['plan', 'todos', 'outcome', 'title'] as const;
type Single = (typeof singles)[number];
const most = { prompts: 12, decisions: 40, files: 200 } as const;
const itemMax = 400;
const planMax = 4000;
const todosMax = 100;

/**
 * Adds what else is known: of plan, to-dos, title and outcome what was said last counts, of the others each once, the latest.
 *
 * @param at when it was said, ISO 8601 in UTC; pieces of a transcript may come in any order. Absent within one message.
 */
export function join(facts: FactsDraft, more: Facts, at?: string): void {
  for (const name of singles) {
    const known = facts.at?.[name];
    if (more[name] === undefined || (at !== undefined && known !== undefined && known > at)) continue;
    Object.assign(facts, { [name]: more[name] });
    if (at !== undefined) facts.at = { ...facts.at, [name]: at };
  }
  for (const name of ['prompts', 'decisions', 'files'] as const) {
    const added = more[name];
    if (added === undefined) continue;
    const own = new Set(added);
    const all = [...(facts[name] ?? []).filter((one) => !own.has(one)), ...added];
    // What was asked first tells what it is all about.
    facts[name] =
      name === 'prompts' && all.length > most[name]
        ? [...all.slice(0, 1), ...all.slice(1 - most[name])]
        : all.slice(-most[name]);
  }
}

/** What a call of a tool says of the work: files it changes, the plan, the to-dos. */
export function factsOfTool(name: string, input: unknown): Facts {
  const of = objectOf(input) ?? {};
  const facts: FactsDraft = {};
  if (/todo/i.test(name)) {
    const todos = todosIn(of['todos'] ?? input);
    if (todos !== undefined) facts.todos = todos;
  }
  if (/plan|spec/i.test(name) && !/^(read|grep|glob)/i.test(name)) {
    const plan = firstText(of['plan'], of['spec'], of['explanation']);
    const steps = plan === undefined ? todosIn(of['plan'] ?? of['steps']) : undefined;
    if (plan !== undefined) facts.plan = maskAndCut(plan.trim(), planMax);
    if (steps !== undefined) facts.todos = steps;
  }
  if (/edit|create|write|patch|delete|move/i.test(name) && !/^mcp__|todo/i.test(name)) {
    const paths = [of['file_path'], of['path'], of['notebook_path']].filter((one) => firstText(one) !== undefined);
    const patch = firstText(of['patch'], of['input'], input) ?? '';
    for (const [, path = ''] of patch.matchAll(/^\*\*\* (?:Update|Add|Delete) File: (.+)$/gm)) paths.push(path.trim());
    if (paths.length > 0)
      facts.files = [...new Set(paths as string[])].slice(-most.files).map((path) => maskAndCut(path, itemMax));
  }
  return facts;
}

const decision =
  /(?:\bdecision\s*:|\b(?:we|i|you|they)(?:'ve| have)?\s+(?:decided|chose|agreed|settled)\b|\bdecided (?:to|on|that|against)\b|\bwe(?:'ll| will) (?:use|keep|go with)\b|\blet's (?:use|go with|keep)\b)/i;

/** What a message says of the work: what was asked, what was decided, how it ended. A note is none of these. */
export function factsOfText(role: string, text: string): Facts {
  if (text === '' || (role === 'user' && noteIn(text) !== undefined)) return {};
  const facts: FactsDraft = {};
  const sentences = text.split(/(?<=[.!?])\s+|\n+/);
  const decisions = sentences
    .map((one) => one.replace(/^[\s*#>\-\d.)]+/, '').trim())
    .filter((one) => one.length >= 8 && one.length <= itemMax && decision.test(one));
  if (decisions.length > 0) facts.decisions = decisions.slice(0, 20);
  if (role === 'user') facts.prompts = [cut(text)];
  if (role === 'assistant') {
    facts.outcome = cut(text);
    const plan = planIn(text);
    if (plan !== undefined) facts.plan = maskAndCut(plan, planMax);
  }
  return facts;
}

/** What stands behind a line that says no more than that a plan follows, up to the next heading. */
function planIn(text: string): string | undefined {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.length <= 100 && planLine.test(line));
  if (at < 0) return undefined;
  const rest = lines.slice(at + 1);
  const begin = rest.findIndex((line) => line.trim() !== '');
  const length = rest.slice(begin + 1).findIndex((line) => line.startsWith('#')) + 1;
  return begin < 0
    ? undefined
    : rest
        .slice(begin, length === 0 ? undefined : begin + length)
        .join('\n')
        .trim();
}

const planLine = /^#{0,4}[ \t]*\**(?:the |my )?plan\**[ \t]*:?\**[ \t]*$/i;

/** To-dos as tools have them: a list of objects, or lines such as `1. [in_progress] …` and `- [x] …`. */
export function todosIn(value: unknown): readonly Todo[] | undefined {
  if (typeof value === 'string') {
    const todos: Todo[] = [];
    for (const line of value.split('\n')) {
      const [, state, text] = /^(?:[-*]|\d{1,6}[.)])?[ \t]*\[([^\]]{0,20})\](.+)$/.exec(line.trim()) ?? [];
      if (state === undefined || text === undefined || text.trim() === '') continue;
      if (todos.push(toTodo(text, state)) === todosMax) break;
    }
    return todos.length > 0 ? todos : undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const todos: Todo[] = [];
  for (const one of value) {
    const of = objectOf(one);
    const text = firstText(of?.['content'], of?.['text'], of?.['title'], of?.['step'], of?.['description']);
    if (text !== undefined && todos.push(toTodo(text, firstText(of?.['status'], of?.['state']) ?? '')) === todosMax)
      break;
  }
  // An empty list says that nothing is left.
  return value.length > 0 && todos.length === 0 ? undefined : todos;
}

const toTodo = (text: string, state: string): Todo => ({
  text: maskAndCut(text.trim(), itemMax),
  isDone: /^(x|done|completed?|cancell?ed)$/i.test(state.trim()),
});

const cut = (text: string) => maskAndCut(text.replaceAll(/\s+/g, ' ').trim(), itemMax);

/** The first of them that is a text with something in it. */
export const firstText = (...values: readonly unknown[]): string | undefined =>
  values.find((one): one is string => typeof one === 'string' && one.trim() !== '');

export function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
