import { sha256 } from '../base/hash.ts';
import { factoryPrefix } from './project.ts';

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
  const asked = behind(/^(?:please\s{1,9})?remember\s{0,9}:/i, text);
  if (asked !== undefined) return asked === '' ? undefined : { text: asked, isPersonal: false };
  const [marks] = /^#{1,2}(?!#)/.exec(text) ?? [];
  if (marks === undefined) return undefined;
  const line = text.slice(marks.length).trim();
  const noted = behind(/^note\b\s{0,9}:?/i, line) ?? line;
  const isNote = /[\p{L}\p{N}]/u.test(noted) && (noted !== line || !line.includes('\n'));
  return isNote ? { text: noted, isPersonal: marks === '##' } : undefined;
}

function behind(pattern: RegExp, text: string): string | undefined {
  const [start] = pattern.exec(text) ?? [];
  return start === undefined ? undefined : text.slice(start.length).trim();
}

/** Before every note that is for no project alone; outside of the prefix of what belongs to one. */
export const personalPrefix = 'factory-note:';

/** The context of a note, the same words once a project. */
export function noteId(project: string, { text, isPersonal }: Note): string {
  const words = sha256(text.trim().replaceAll(/\s+/g, ' ').toLowerCase()).slice(0, 32);
  return isPersonal ? `${personalPrefix}${words}` : `${factoryPrefix}note:${project.split(':').at(-1)}:${words}`;
}
