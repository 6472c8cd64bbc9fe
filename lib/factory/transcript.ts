import { sha256 } from '../base/hash.ts';
import { maskAndCut, toStorable } from './masking.ts';

/** What an assistant did with a tool, or what came of it, in short. */
export interface ToolUse {
  readonly name: string;
  /** What it was about: a command, a path, a query, or the beginning of a result. */
  readonly about?: string;
}

/** A message as it is kept. */
export interface Message {
  readonly id: string;
  readonly role: string;
  /** As the transcript tells it; absent where it does not. */
  readonly at?: string;
  readonly text: string;
  readonly tools?: readonly ToolUse[];
  /** What a summary is made of; goes into no context as it stands. */
  readonly facts?: Facts;
}

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
  /** Tombstones of the session's contexts after which all this was gathered. */
  readonly forgotten?: string;
}

/** What a line of a transcript amounts to; `unknown` for what nothing can be made of. */
export type Line = { readonly message: Message } | 'known' | 'unknown';

/** A piece of a transcript. */
export interface Piece {
  readonly messages: readonly Message[];
  readonly from: number;
  /** The byte after the last whole line. */
  readonly to: number;
  readonly unknown: number;
}

const messageMax = 16_384;
const aboutMax = 300;
const itemMax = 400;
const planMax = 4000;
const idMax = 200;
// Without the end of a line in so many bytes, it is no line that is still being written.
export const lineBytesMax = 1_048_576;

/**
 * Reads the bytes of a transcript that begin at `from`: whole lines only, the rest is sent again with what follows. A line above
 * {@link lineBytesMax} that does not end is passed over as far as it is there, and so is what follows of it.
 */
export function readBytes(bytes: Uint8Array, from: number): Piece {
  const end = bytes.lastIndexOf(10) + 1;
  if (end === 0 && bytes.length >= lineBytesMax) return { messages: [], from, to: from + bytes.length, unknown: 1 };
  const text = new TextDecoder().decode(bytes.subarray(0, end));
  return { ...readTexts(text.split('\n')), from, to: from + end };
}

/** The same of lines that were sent as texts or as JSON values, which count with the bytes they have as compact JSON. */
export function readLines(values: readonly unknown[], from: number): Piece {
  const texts = values.map((value) => (typeof value === 'string' ? value.replace(/\r?\n$/, '') : print(value)));
  const to = texts.reduce((at, text) => at + Buffer.byteLength(text) + 1, from);
  return { ...readTexts(texts), from, to };
}

function readTexts(texts: readonly string[]): Pick<Piece, 'messages' | 'unknown'> {
  const lines = texts.map(readLine);
  const messages = lines.flatMap((line) => (typeof line === 'object' ? [line.message] : []));
  return { messages, unknown: lines.filter((line) => line === 'unknown').length };
}

/** Reads one line, credentials masked. Whatever hooks have said stands in lines of its own, and is passed over. */
export function readLine(text: string): Line {
  if (text.trim() === '') return 'known';
  const line = parse(text);
  if (line === undefined) return 'unknown';
  const { type } = line;
  if (type === 'todo_state') {
    const todos = todosIn(line['todos'] ?? objectOf(line['state'])?.['todos']);
    return todos === undefined
      ? 'known'
      : { message: toMessage(line, text, { role: 'system', text: '', facts: { todos } }) };
  }
  if (type === 'session_start') {
    const title = [line['sessionTitle'], line['title']].find((one) => typeof one === 'string' && one.trim() !== '');
    const facts = typeof title === 'string' ? { title: maskAndCut(title, 200) } : {};
    return title === undefined
      ? 'known'
      : { message: toMessage(line, `${text} title`, { role: 'system', text: '', facts }) };
  }
  if (type === 'session_end' || (typeof type === 'string' && /compact/i.test(type))) return 'known';
  const said = objectOf(line['message']);
  if (type !== 'message' || said === undefined) return 'unknown';
  // Captured ones have these in the message.
  if ([line, said].some((of) => 'hookEventName' in of || of['visibility'] === 'user_only')) return 'known';
  const role = typeof said['role'] === 'string' ? toStorable(said['role']).slice(0, 20) : 'unknown';
  return readMessage(line, text, role, said['content']);
}

function readMessage(line: Record<string, unknown>, text: string, role: string, content: unknown): Line {
  const blocks: readonly unknown[] =
    typeof content === 'string' ? [{ type: 'text', text: content }] : Array.isArray(content) ? content : [];
  const texts: string[] = [];
  const tools: ToolUse[] = [];
  const facts: FactsDraft = {};
  for (const block of blocks) {
    const of = objectOf(block);
    if (of === undefined) continue;
    if (of['type'] === 'text' && typeof of['text'] === 'string') texts.push(of['text']);
    else if (of['type'] === 'tool_use') {
      tools.push(toolUse(of['name'], of['input']));
      join(facts, factsOfTool(String(of['name']), of['input']));
    } else if (of['type'] === 'tool_result') {
      const about = maskAndCut(resultText(of['content']), aboutMax);
      tools.push({ name: 'result', ...(about === '' ? {} : { about }) });
    }
  }
  const own = stripInjected(texts.join('\n\n')).trim();
  const said = maskAndCut(own, messageMax);
  join(facts, factsOfText(role, said));
  if (said === '' && tools.length === 0) return 'known';
  return { message: toMessage(line, text, { role, text: said, ...(tools.length > 0 ? { tools } : {}), facts }) };
}

function toMessage(line: Record<string, unknown>, text: string, of: Omit<Message, 'id' | 'at'>): Message {
  const { id, timestamp } = line;
  const isNamed = typeof id === 'string' && id !== '' && line['type'] === 'message';
  const at =
    typeof timestamp === 'string' && Number.isFinite(Date.parse(timestamp))
      ? new Date(timestamp).toISOString()
      : undefined;
  const { facts, ...rest } = of;
  return {
    id: isNamed ? toStorable(id).slice(0, idMax) : `line:${sha256(text).slice(0, 40)}`,
    ...(at === undefined ? {} : { at }),
    ...rest,
    ...(facts === undefined || Object.keys(facts).length === 0 ? {} : { facts }),
  };
}

/**
 * A text without what was put into the conversation from outside: system reminders, and the packs of this store, which would
 * otherwise come back as what was said.
 */
export function stripInjected(text: string): string {
  if (!text.includes('<')) return text;
  return text
    .replaceAll(/<(system-reminder|lamina-context)>[\s\S]*?<\/\1>/g, '')
    .replace(/^\s*<(?:system-reminder|lamina-context)>[\s\S]*$/, '');
}

function toolUse(name: unknown, input: unknown): ToolUse {
  const of = objectOf(input) ?? {};
  const first = ['command', 'file_path', 'path', 'pattern', 'query', 'url', 'description', 'prompt', 'plan']
    .map((key) => of[key])
    .find((one) => typeof one === 'string' && one.trim() !== '');
  const about = maskAndCut(typeof first === 'string' ? first : typeof input === 'string' ? input : '', aboutMax);
  return { name: toStorable(String(name ?? 'unknown')).slice(0, 120), ...(about === '' ? {} : { about }) };
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
    const plan = [of['plan'], of['spec'], of['explanation']].find(
      (one) => typeof one === 'string' && one.trim() !== '',
    );
    if (typeof plan === 'string') facts.plan = maskAndCut(plan.trim(), planMax);
    const steps = todosIn(of['plan'] ?? of['steps']);
    if (steps !== undefined && typeof plan !== 'string') facts.todos = steps;
  }
  if (/edit|create|write|patch|delete|move/i.test(name) && !/^mcp__|todo/i.test(name)) {
    const paths = [of['file_path'], of['path'], of['notebook_path']].filter(
      (one): one is string => typeof one === 'string' && one !== '',
    );
    const patch = [of['patch'], of['input'], typeof input === 'string' ? input : undefined].find(
      (one) => typeof one === 'string',
    );
    if (typeof patch === 'string') {
      for (const [, path = ''] of patch.matchAll(/^\*\*\* (?:Update|Add|Delete) File: (.+)$/gm))
        paths.push(path.trim());
    }
    if (paths.length > 0) facts.files = [...new Set(paths)].map((path) => maskAndCut(path, itemMax));
  }
  return facts;
}

const decision =
  /(?:\bdecision\s*:|\b(?:we|i|you|they)(?:'ve| have)?\s+(?:decided|chose|agreed|settled)\b|\bdecided (?:to|on|that|against)\b|\bwe(?:'ll| will) (?:use|keep|go with)\b|\blet's (?:use|go with|keep)\b)/i;

/** What a message says of the work: what was asked, what was decided, how it ended. */
export function factsOfText(role: string, text: string): Facts {
  if (text === '') return {};
  const facts: FactsDraft = {};
  const sentences = text.split(/(?<=[.!?])\s+|\n+/);
  const decisions = sentences
    .map((one) => one.replace(/^[\s*#>\-\d.)]+/, '').trim())
    .filter((one) => one.length >= 8 && one.length <= itemMax && decision.test(one));
  if (decisions.length > 0) facts.decisions = decisions.slice(0, 20);
  if (role === 'user') facts.prompts = [cut(text)];
  if (role === 'assistant') {
    facts.outcome = cut(text);
    const [, plan] = /(?:^|\n)#{0,4}\s*\**(?:the |my )?plan\**\s*:?\**\s*\n([\s\S]+)/i.exec(text) ?? [];
    if (plan !== undefined)
      facts.plan =
        plan
          .split(/\n(?=#)/)[0]
          ?.trim()
          .slice(0, planMax) ?? '';
  }
  return facts;
}

/** To-dos as tools have them: a list of objects, or lines such as `1. [in_progress] …` and `- [x] …`. */
export function todosIn(value: unknown): readonly Todo[] | undefined {
  if (typeof value === 'string') {
    const todos = [...value.matchAll(/^\s*(?:[-*]|\d+[.)])?\s*\[([^\]\n]{0,20})\]\s*(.+)$/gm)].map(
      ([, state = '', text = '']) => ({
        text: maskAndCut(text.trim(), itemMax),
        isDone: isDone(state),
      }),
    );
    return todos.length > 0 ? todos.slice(0, 100) : undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const todos = value.flatMap((one): Todo[] => {
    const of = objectOf(one);
    const text = [of?.['content'], of?.['text'], of?.['title'], of?.['step'], of?.['description']].find(
      (each) => typeof each === 'string',
    );
    return typeof text === 'string' && text.trim() !== ''
      ? [{ text: maskAndCut(text.trim(), itemMax), isDone: isDone(String(of?.['status'] ?? of?.['state'] ?? '')) }]
      : [];
  });
  // An empty list says that nothing is left.
  return value.length > 0 && todos.length === 0 ? undefined : todos.slice(0, 100);
}

const isDone = (state: string) => /^(x|done|completed?|cancell?ed)$/i.test(state.trim());

export type FactsDraft = { -readonly [Name in keyof Facts]: Facts[Name] };

const most = { prompts: 12, decisions: 40, files: 200 } as const;

/** Adds what came later: of plan, to-dos, title and outcome the last counts, of the others each once, the latest. */
export function join(facts: FactsDraft, later: Facts): void {
  for (const name of ['plan', 'todos', 'outcome', 'title'] as const) {
    if (later[name] !== undefined) Object.assign(facts, { [name]: later[name] });
  }
  for (const name of ['prompts', 'decisions', 'files'] as const) {
    if (later[name] === undefined) continue;
    const all = [...(facts[name] ?? []).filter((one) => !later[name]?.includes(one)), ...later[name]];
    // What was asked first tells what it is all about.
    facts[name] =
      name === 'prompts' && all.length > most[name]
        ? [...all.slice(0, 1), ...all.slice(1 - most[name])]
        : all.slice(-most[name]);
  }
}

const cut = (text: string) => maskAndCut(text.replaceAll(/\s+/g, ' ').trim(), itemMax);

function resultText(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content
    .map((one) => objectOf(one)?.['text'])
    .filter((one) => typeof one === 'string')
    .join('\n');
}

/** What is nested too deep to be printed is no line. */
function print(value: unknown): string {
  try {
    return JSON.stringify(value) ?? '';
  } catch {
    return '?';
  }
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    return objectOf(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
