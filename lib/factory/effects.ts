import { sha256 } from '../base/hash.ts';
import { Problem } from '../base/problem.ts';
import { cutText } from '../base/text.ts';
import type { Context } from '../contexts/context.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { type Note, noteId, noteIn, textOf } from './events.ts';
import type { PendingEvent } from './inbox.sql.ts';
import { projectOf, sessionContext, summaryContext } from './project.ts';
import { printSummary } from './summary.ts';
import { type Facts, type FactsDraft, factsOfText, factsOfTool, join, type Message, objectOf } from './transcript.ts';

/** A session as it stands before an event is worked. */
export interface SessionState {
  readonly session: string;
  readonly project: string;
  readonly part: number;
  readonly facts: Facts;
}

/** The contexts that an event may change, as they stand; a problem in the place of what is not there. */
export type Heads = ReadonlyMap<string, Context | Problem>;

export interface Effects {
  readonly operations: readonly PutOperation[];
  readonly part: number;
  readonly facts: Facts;
}

/** What of an event is kept: all of it, only what was asked to be, or nothing. */
export type Capture = 'all' | 'asked' | 'nothing';

interface SessionContent {
  readonly [member: string]: unknown;
  readonly messages: readonly Omit<Message, 'facts'>[];
}

/** The contexts that have to be looked at before an event can be worked. */
export function wantedHeads({ session, project, part }: SessionState): string[] {
  return [...new Set([project, sessionContext(session), sessionContext(session, part), summaryContext(session)])];
}

/** What is to be remembered of the prompt of an event. */
export function noteOf({ event, payload }: Pick<PendingEvent, 'event' | 'payload'>): Note | undefined {
  const prompt = event === 'UserPromptSubmit' ? textOf(payload.event, 'prompt') : undefined;
  return prompt === undefined ? undefined : noteIn(prompt);
}

// The transcript has its summary made anew where it may be the last thing that is heard of the session.
const summarized = ['Stop', 'PreCompact', 'SessionEnd'];
const tellingEvents = ['SessionStart', ...summarized];

/**
 * What an event amounts to: versions of contexts, each on condition that nobody has written it since the heads were read.
 *
 * @param bounds.partBytes how large a session's context grows before another one goes on.
 */
export function planEvent(
  event: PendingEvent,
  state: SessionState,
  heads: Heads,
  bounds: { readonly partBytes: number; readonly capture: Capture },
): Effects {
  const { session, project } = state;
  const note = noteOf(event);
  const isCaptured = bounds.capture === 'all';
  const root = heads.get(sessionContext(session));
  const part = isThere(root) ? state.part : 1;
  const facts = recall(state.facts, [root, heads.get(summaryContext(session))]);
  if (isCaptured) collect(facts, event);

  const operations: PutOperation[] = [];
  const wantsSession =
    isCaptured && (event.payload.messages.some(isSaid) || tellingEvents.includes(event.event) || !isThere(root));
  if (wantsSession || note !== undefined) {
    if (!isThere(heads.get(project))) operations.push(putProject(project, event));
  }
  const written = wantsSession
    ? putSession(event, { ...state, part }, heads, { ...bounds, title: facts.title })
    : { operations: [], part };
  operations.push(...written.operations);
  if (note !== undefined) operations.push(putNote(project, note));
  if (isCaptured && summarized.includes(event.event)) {
    const endedAt = event.event === 'SessionEnd' ? new Date(event.receivedMs).toISOString() : null;
    const text = printSummary(facts, { project: nameOf(heads.get(project)) ?? projectNameOf(event), endedAt });
    if (text !== null) operations.push(putSummary(session, text, facts.title));
  }
  return { operations, part: written.part, facts };
}

/** What is known of a session, unless it or its summary was deleted since: of that nothing comes back. */
function recall(facts: Facts, heads: readonly (Context | Problem | undefined)[]): FactsDraft {
  const forgotten = heads
    .filter(isGone)
    .map((head) => versionOf(head))
    .join(' ');
  return forgotten === '' || facts.forgotten === forgotten ? { ...facts } : { forgotten };
}

function collect(facts: FactsDraft, { event, payload }: PendingEvent): void {
  const prompt = event === 'UserPromptSubmit' ? textOf(payload.event, 'prompt') : undefined;
  if (prompt !== undefined) join(facts, factsOfText('user', prompt));
  if (event === 'PostToolUse')
    join(facts, factsOfTool(textOf(payload.event, 'tool_name') ?? '', payload.event['tool_input']));
  for (const message of payload.messages) if (message.facts) join(facts, message.facts);
}

const isSaid = ({ text, tools }: Message) => text !== '' || (tools?.length ?? 0) > 0;
const isThere = (head: Context | Problem | undefined): head is Context =>
  head !== undefined && !(head instanceof Problem);
const isGone = (head: Context | Problem | undefined) => head instanceof Problem && head.code === 'gone';

/** The version that a write builds on; 0 where there was none, or it was erased. */
function versionOf(head: Context | Problem | undefined): number {
  if (isThere(head)) return head.version;
  return isGone(head) ? Number((head as Problem).facts['version'] ?? 0) : 0;
}

/** What others have said of a context stays. */
const metadataOf = (head: Context | Problem | undefined) =>
  isThere(head) ? (JSON.parse(head.metadata) as Record<string, unknown>) : {};

function nameOf(head: Context | Problem | undefined): string | undefined {
  const { title } = metadataOf(head);
  return typeof title === 'string' ? title : undefined;
}

const projectNameOf = ({ payload }: PendingEvent) => projectIn(payload.event).name;

const projectIn = (event: Readonly<Record<string, unknown>>) =>
  projectOf({ gitRemote: textOf(event, 'git_remote', 'gitRemote'), cwd: textOf(event, 'cwd') ?? '' });

const json = (value: unknown) => ({ bytes: Buffer.from(JSON.stringify(value)), contentType: 'application/json' });
const markdown = (text: string) => ({ bytes: Buffer.from(text), contentType: 'text/markdown' });

function putProject(id: string, { payload }: PendingEvent): PutOperation {
  const { id: _, name, ...place } = projectIn(payload.event);
  return {
    op: 'put',
    id,
    ifAbsent: true,
    kind: 'project',
    content: json({ name, ...place }),
    metadata: JSON.stringify({ title: cutText(name, 200) }),
  };
}

function putNote(project: string, note: Note): PutOperation {
  return {
    op: 'put',
    id: noteId(project, note),
    kind: 'note',
    parentId: note.isPersonal ? null : project,
    content: { bytes: Buffer.from(note.text), contentType: 'text/plain' },
  };
}

function putSummary(session: string, text: string, title: string | undefined): PutOperation {
  return {
    op: 'put',
    id: summaryContext(session),
    kind: 'summary',
    parentId: sessionContext(session),
    content: markdown(text),
    metadata: JSON.stringify({ title: cutText(`Summary: ${title ?? session}`, 200) }),
  };
}

/** The session's context and, where that is full, the ones that go on. */
function putSession(
  event: PendingEvent,
  state: SessionState,
  heads: Heads,
  bounds: { readonly partBytes: number; readonly title: string | undefined },
): { operations: PutOperation[]; part: number } {
  const { session, project } = state;
  const operations: PutOperation[] = [];
  const put = (part: number, content: SessionContent, version: number | undefined) => {
    const id = sessionContext(session, part);
    operations.push({
      op: 'put',
      id,
      kind: 'session',
      parentId: part === 1 ? project : sessionContext(session),
      content: json(content),
      metadata: JSON.stringify({
        ...metadataOf(version === undefined ? undefined : heads.get(id)),
        title: cutText(`${bounds.title ?? 'Session'}${part === 1 ? '' : `, part ${part}`}`, 200),
        sessionId: session,
      }),
      ifVersion: version,
    });
  };
  const root = heads.get(sessionContext(session));
  const told = tell(contentOf(root) ?? { messages: [] }, event, session);
  let { part } = state;
  const head = heads.get(sessionContext(session, part));
  let isNew = false;
  let content: SessionContent = part === 1 ? told : (contentOf(head) ?? { messages: [] });
  // What the session itself tells changes beside what is said.
  if (part > 1 && JSON.stringify(told) !== JSON.stringify(contentOf(root))) put(1, told, versionOf(root));
  const known = new Set(content.messages.map(({ id }) => id));
  let bytes = Buffer.byteLength(JSON.stringify(content));
  let isChanged = part === 1;
  for (const { facts: _, ...message } of event.payload.messages.filter(isSaid)) {
    if (known.has(message.id)) continue;
    const size = Buffer.byteLength(JSON.stringify(message)) + 1;
    if (bytes + size > bounds.partBytes && content.messages.length > 0) {
      if (isChanged) put(part, inOrder(content), isNew ? undefined : versionOf(head));
      part++;
      // Whatever stands there, it is none that these messages go on from.
      isNew = true;
      content = { session, part, messages: [] };
      bytes = Buffer.byteLength(JSON.stringify(content));
    }
    content = { ...content, messages: [...content.messages, message] };
    known.add(message.id);
    bytes += size;
    isChanged = true;
  }
  if (isChanged) put(part, inOrder(content), isNew ? undefined : versionOf(head));
  return { operations, part };
}

/** By the time they were said, where all tell it; pieces of a transcript may come in any order. */
function inOrder(content: SessionContent): SessionContent {
  if (!content.messages.every(({ at }) => at !== undefined)) return content;
  return {
    ...content,
    messages: content.messages.toSorted((left, right) => Date.parse(left.at ?? '') - Date.parse(right.at ?? '')),
  };
}

/** What events say of the session beside what is said in it. */
function tell(content: SessionContent, { event, payload, receivedMs }: PendingEvent, session: string): SessionContent {
  const { messages, ...rest } = content;
  const sent = payload.event;
  const at = new Date(receivedMs).toISOString();
  const started = {
    session,
    ...rest,
    cwd: rest['cwd'] ?? textOf(sent, 'cwd') ?? null,
    startedAt: rest['startedAt'] ?? at,
  };
  const { hook_event_name, session_id, transcript_path, cwd, permission_mode, ...own } = sent;
  if (event === 'SessionStart') {
    const { CLAUDE_ENV_FILE, DROID_ENV_FILE, git_remote, host, ...more } = own;
    return { ...started, start: { ...scalars(more), permission_mode: permission_mode ?? null }, messages };
  }
  if (event === 'SessionEnd') return { ...started, endedAt: at, end: scalars(own), messages };
  return { ...started, messages };
}

const scalars = (of: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(
    Object.entries(of).filter(([, value]) => typeof value !== 'object' && String(value).length <= 200),
  );

/** What an earlier event has written; undefined for what somebody else has put there. */
function contentOf(head: Context | Problem | undefined): SessionContent | undefined {
  if (!isThere(head) || head.content === undefined) return undefined;
  try {
    const value = objectOf(
      JSON.parse(Buffer.from(head.content.buffer, head.content.byteOffset, head.content.length).toString()),
    );
    const messages = value?.['messages'];
    if (!Array.isArray(messages) || !messages.every((one) => typeof objectOf(one)?.['id'] === 'string'))
      return undefined;
    return value as unknown as SessionContent;
  } catch {
    return undefined;
  }
}

/** By id the SHA-256 of what operations write. */
export function hashesOf(operations: readonly PutOperation[]): Record<string, string> {
  return Object.fromEntries(operations.flatMap(({ id, content }) => (content ? [[id, sha256(content.bytes)]] : [])));
}
