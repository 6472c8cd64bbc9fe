import { invalid } from '../base/problem.ts';
import { cutText } from '../base/text.ts';
import { stripInjected } from './injected.ts';
import { maskValue, nameText } from './masking.ts';
import { type Project, placeMax, projectOf, sessionKey } from './project.ts';

/** A hook event, as far as anything is made of it. */
export interface HookEvent {
  readonly name: string;
  /** As it stands in ids. */
  readonly session: string;
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
  const session = sessionKey(sessionId);
  const gitRemote = textOf(event, 'git_remote', 'gitRemote');
  const cwd = textOf(event, 'cwd');
  const project = projectOf({ gitRemote, cwd, session });
  const masked = maskValue({ ...event, ...(cwd && { cwd: cutText(cwd, placeMax) }) }, textMax) as Record<
    string,
    unknown
  >;
  return {
    name: nameText(name, 64),
    session,
    project,
    source: `${textOf(event, 'host', 'hostname') ?? ''}\n${textOf(event, 'transcript_path', 'transcriptPath') ?? ''}`,
    masked,
    prompt: promptOf({ event: name, payload: { event: masked } }),
  };
}

/** What was asked, without what was put into it from outside; undefined for what is no prompt. */
export function promptOf(of: {
  readonly event: string;
  readonly payload: { readonly event: Readonly<Record<string, unknown>> };
}): string | undefined {
  const prompt = of.event === 'UserPromptSubmit' ? textOf(of.payload.event, 'prompt') : undefined;
  return prompt === undefined ? undefined : stripInjected(prompt).trim() || undefined;
}

/** The first of these members that is a text with something in it. */
export function textOf(of: Readonly<Record<string, unknown>>, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = of[name];
    if (typeof value === 'string' && value.trim() !== '') return value;
  }
  return undefined;
}
