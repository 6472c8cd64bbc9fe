import { invalid } from '../base/problem.ts';
import { maskValue, toStorable } from './masking.ts';
import { noteContext, type Project, projectOf, sessionKey } from './project.ts';

/** The nine events of Droid's hooks; any other name is taken as well, and only kept. */
export const hookEvents = [
  'SessionStart',
  'SessionEnd',
  'UserPromptSubmit',
  'PreToolUse',
  'PostToolUse',
  'Notification',
  'Stop',
  'SubagentStop',
  'PreCompact',
] as const;

/** A hook event, as far as anything is made of it. */
export interface HookEvent {
  readonly name: string;
  /** As it stands in ids. */
  readonly session: string;
  readonly sessionId: string;
  readonly project: Project;
  /** Where the transcript stands: host and path. */
  readonly source: string;
  /** All of it, credentials masked, long texts cut. */
  readonly masked: Readonly<Record<string, unknown>>;
  /** What the pack is made for. Masked as well, since embedders of others may read it. */
  readonly prompt: string | undefined;
}

// Longer texts are kept up to here, which is more than any prompt that people write.
const textMax = 32_768;

/**
 * Reads an event as Droid writes it: two members are needed, all others are kept whatever they are.
 *
 * @throws Problem `invalid_request` for what is no event, `unprocessable` where it is nested too deep.
 */
export function readEvent(value: unknown): HookEvent {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('', 'is no event: a JSON object');
  const { transcript: _, ...event } = value as Record<string, unknown>;
  const name = textOf(event, 'hook_event_name', 'hookEventName');
  const sessionId = textOf(event, 'session_id', 'sessionId');
  if (name === undefined) throw invalid('/hook_event_name', 'is required, a text');
  if (sessionId === undefined) throw invalid('/session_id', 'is required, a text');
  const gitRemote = textOf(event, 'git_remote', 'gitRemote');
  const masked = maskValue(event, textMax) as Record<string, unknown>;
  return {
    name: toStorable(name).slice(0, 64),
    session: sessionKey(sessionId),
    sessionId: toStorable(sessionId).slice(0, 200),
    project: projectOf({ gitRemote, cwd: textOf(masked, 'cwd') ?? '' }),
    source: `${textOf(event, 'host', 'hostname') ?? ''}\n${textOf(event, 'transcript_path', 'transcriptPath') ?? ''}`,
    masked,
    prompt: name === 'UserPromptSubmit' ? textOf(masked, 'prompt') : undefined,
  };
}

/** The first of these members that is a text with something in it. */
export function textOf(of: Readonly<Record<string, unknown>>, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = of[name];
    if (typeof value === 'string' && value.trim() !== '') return value;
  }
  return undefined;
}

/** What a prompt asks to be remembered. */
export interface Note {
  readonly text: string;
  /** Whether it is for every project. */
  readonly isPersonal: boolean;
}

/**
 * The note in a prompt: `remember: …`, `#note …` or a single line behind `#`; two of them make it a personal one, as
 * Factory's guide to memories has it.
 */
export function noteIn(prompt: string): Note | undefined {
  const text = prompt.trim();
  const [, asked] = /^(?:please\s+)?remember\s*:\s*([\s\S]+)$/i.exec(text) ?? [];
  if (asked !== undefined) return { text: asked.trim(), isPersonal: false };
  const [, marks, noted] =
    /^(#{1,2})\s*note\b\s*:?\s*([\s\S]+)$/i.exec(text) ?? /^(#{1,2})(?!#)\s*([^\n]+)$/.exec(text) ?? [];
  if (noted === undefined || !/[\p{L}\p{N}]/u.test(noted)) return undefined;
  return { text: noted.trim(), isPersonal: marks === '##' };
}

export const noteId = (project: string, { text, isPersonal }: Note) => noteContext(isPersonal ? null : project, text);
