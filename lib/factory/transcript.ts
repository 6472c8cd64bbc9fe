import { sha256 } from '../base/hash.ts';
import { type Facts, type FactsDraft, factsOfText, factsOfTool, firstText, join, objectOf, todosIn } from './facts.ts';
import { stripInjected } from './injected.ts';
import { maskAndCut, nameText } from './masking.ts';

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

/** What a line of a transcript amounts to; `passed` over where it says nothing, `unknown` where nothing can be made of it. */
export type Line = { readonly message: Message } | 'passed' | 'unknown';

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
const idMax = 200;
const roleMax = 20;
const toolMax = 120;
// Of a message that has more of them the rest tells nothing new.
const toolsMax = 100;
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
  const messages: Message[] = [];
  let unknown = 0;
  for (const text of texts) {
    const line = readLine(text);
    if (line === 'unknown') unknown++;
    else if (line !== 'passed') messages.push(line.message);
  }
  return { messages, unknown };
}

/** Reads one line, credentials masked. Whatever hooks have said stands in lines of its own, and is passed over. */
export function readLine(text: string): Line {
  if (text.trim() === '') return 'passed';
  try {
    return readValue(objectOf(JSON.parse(text)), text);
  } catch {
    // Whatever it is: one line never keeps the others from being taken.
    return 'unknown';
  }
}

function readValue(line: Record<string, unknown> | undefined, text: string): Line {
  const type = line?.['type'];
  if (line === undefined || typeof type !== 'string') return 'unknown';
  if (type === 'todo_state') {
    const todos = todosIn(line['todos'] ?? objectOf(line['state'])?.['todos']);
    return todos === undefined ? 'passed' : toLine(line, text, { role: 'system', text: '', facts: { todos } });
  }
  if (type === 'session_start') {
    const title = firstText(line['sessionTitle'], line['title']);
    const facts = { title: maskAndCut(title ?? '', 200) };
    return title === undefined ? 'passed' : toLine(line, `${text} title`, { role: 'system', text: '', facts });
  }
  if (type === 'session_end' || /compact/i.test(type)) return 'passed';
  const said = objectOf(line['message']);
  if (type !== 'message' || said === undefined) return 'unknown';
  // Captured ones have these in the message.
  if ([line, said].some((of) => 'hookEventName' in of || of['visibility'] === 'user_only')) return 'passed';
  const message = readMessage(nameText(firstText(said['role']) ?? 'unknown', roleMax), said['content']);
  return message === undefined ? 'passed' : toLine(line, text, message);
}

/** What is said, and done with tools; undefined where that is nothing. */
function readMessage(role: string, content: unknown): Omit<Message, 'id' | 'at'> | undefined {
  const blocks: readonly unknown[] =
    typeof content === 'string' ? [{ type: 'text', text: content }] : Array.isArray(content) ? content : [];
  const texts: string[] = [];
  const tools: ToolUse[] = [];
  const facts: FactsDraft = {};
  for (const block of blocks) {
    const of = objectOf(block);
    if (of?.['type'] === 'text' && typeof of['text'] === 'string') texts.push(of['text']);
    else if (tools.length === toolsMax) continue;
    else if (of?.['type'] === 'tool_use') {
      const name = firstText(of['name']) ?? 'unknown';
      tools.push(toTool(name, aboutOf(of['input'])));
      join(facts, factsOfTool(name, of['input']));
    } else if (of?.['type'] === 'tool_result') tools.push(toTool('result', resultText(of['content'])));
  }
  const said = maskAndCut(stripInjected(texts.join('\n\n')).trim(), messageMax);
  if (said === '' && tools.length === 0) return undefined;
  join(facts, factsOfText(role, said));
  return { role, text: said, ...(tools.length > 0 ? { tools } : {}), facts };
}

function toLine(line: Record<string, unknown>, text: string, of: Omit<Message, 'id' | 'at'>): Line {
  const { id, timestamp, type } = line;
  const name = typeof id === 'string' && type === 'message' ? nameText(id, idMax) : '';
  const atMs = typeof timestamp === 'string' ? Date.parse(timestamp) : Number.NaN;
  const { facts, ...rest } = of;
  const message = {
    id: name === '' ? `line:${sha256(text).slice(0, 40)}` : name,
    ...(Number.isFinite(atMs) ? { at: new Date(atMs).toISOString() } : {}),
    ...rest,
    ...(facts === undefined || Object.keys(facts).length === 0 ? {} : { facts }),
  };
  return { message };
}

function toTool(name: string, text: string): ToolUse {
  const about = maskAndCut(stripInjected(text).trim(), aboutMax);
  return { name: nameText(name, toolMax), ...(about === '' ? {} : { about }) };
}

const telling = ['command', 'file_path', 'path', 'pattern', 'query', 'url', 'description', 'prompt', 'plan'];

function aboutOf(input: unknown): string {
  const of = objectOf(input) ?? {};
  return firstText(...telling.map((key) => of[key]), input) ?? '';
}

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
