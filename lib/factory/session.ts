import { cutText } from '../base/text.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { textOf } from './events.ts';
import { objectOf } from './facts.ts';
import { type Head, type Heads, isThere, versionOf } from './heads.ts';
import type { PendingEvent } from './inbox.sql.ts';
import { sessionContext } from './project.ts';
import type { Message } from './transcript.ts';

interface SessionContent {
  readonly [member: string]: unknown;
  readonly messages: readonly SaidMessage[];
}
type SaidMessage = Omit<Message, 'facts'>;

/** A part of a session while it is written. */
interface Part {
  readonly number: number;
  readonly rest: Omit<SessionContent, 'messages'>;
  readonly messages: SaidMessage[];
  /** The version it builds on; undefined for a new one, whatever stands in its place. */
  readonly version: number | undefined;
}

/**
 * The session's context and, where that is full, the ones that go on.
 *
 * @param of.part the part that messages go to, and of.partBytes how large one grows.
 * @param of.parentId what the session lies below when it is made; later it stays where somebody has put it.
 */
export function putSession(
  event: PendingEvent,
  heads: Heads,
  of: {
    readonly session: string;
    readonly parentId: string | null;
    readonly part: number;
    readonly partBytes: number;
    readonly title: string | undefined;
  },
): { operations: PutOperation[]; part: number } {
  const { session, parentId, partBytes } = of;
  const operations: PutOperation[] = [];
  const put = ({ number, rest, messages, version }: Part) => {
    const id = sessionContext(session, number);
    const head = version === undefined ? undefined : heads.get(id);
    const title = cutText(`${of.title ?? 'Session'}${number === 1 ? '' : `, part ${number}`}`, 200);
    const below = parentId === null || number === 1 ? parentId : sessionContext(session);
    operations.push({
      op: 'put',
      id,
      ...(isThere(head) ? {} : { kind: 'session', parentId: below }),
      content: json({ ...rest, messages: inOrder(messages) }),
      metadata: JSON.stringify({ ...metadataOf(head), title, sessionId: session }),
      ifVersion: version,
    });
  };

  const root = heads.get(sessionContext(session));
  const told = tell(contentOf(root) ?? { messages: [] }, event, session);
  const head = heads.get(sessionContext(session, of.part));
  const content = of.part === 1 ? told : contentOf(head);
  const { messages = [], ...rest } = content ?? { session, part: of.part };
  let part: Part = { number: of.part, rest, messages: [...messages], version: versionOf(head) };
  // What the session itself tells changes beside what is said.
  if (part.number > 1 && JSON.stringify(told) !== JSON.stringify(contentOf(root))) {
    const { messages: own, ...more } = told;
    put({ number: 1, rest: more, messages: [...own], version: versionOf(root) });
  }
  const known = new Set(messages.map(({ id }) => id));
  let bytes = Buffer.byteLength(JSON.stringify({ ...rest, messages }));
  let isChanged = part.number === 1;
  for (const { facts: _, ...message } of event.payload.messages.filter(isSaid)) {
    if (known.has(message.id)) continue;
    const size = Buffer.byteLength(JSON.stringify(message)) + 1;
    if (bytes + size > partBytes && part.messages.length > 0) {
      if (isChanged) put(part);
      const number = part.number + 1;
      part = { number, rest: { session, part: number }, messages: [], version: undefined };
      bytes = Buffer.byteLength(JSON.stringify({ ...part.rest, messages: [] }));
    }
    part.messages.push(message);
    known.add(message.id);
    bytes += size;
    isChanged = true;
  }
  if (isChanged) put(part);
  return { operations, part: part.number };
}

export const isSaid = ({ text, tools }: Message) => text !== '' || (tools?.length ?? 0) > 0;

export const json = (value: unknown) => ({
  bytes: Buffer.from(JSON.stringify(value)),
  contentType: 'application/json',
});

/** What others have said of a context stays. */
export const metadataOf = (head: Head) => (isThere(head) ? (JSON.parse(head.metadata) as Record<string, unknown>) : {});

/** By the time they were said, where all tell it; pieces of a transcript may come in any order. */
function inOrder(messages: readonly SaidMessage[]): readonly SaidMessage[] {
  if (!messages.every(({ at }) => at !== undefined)) return messages;
  return messages.toSorted((left, right) => Date.parse(left.at ?? '') - Date.parse(right.at ?? ''));
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
    const mode = typeof permission_mode === 'string' ? permission_mode : null;
    return { ...started, start: { ...scalars(more), ...scalars({ permission_mode: mode }) }, messages };
  }
  if (event === 'SessionEnd') return { ...started, endedAt: at, end: scalars(own), messages };
  return { ...started, messages };
}

// Droid sends three or four.
const scalarsMax = 32;

const scalars = (of: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(
    Object.entries(of)
      .filter(([, value]) => (typeof value !== 'object' || value === null) && String(value).length <= 200)
      .slice(0, scalarsMax),
  );

/** What an earlier event has written; undefined for what somebody else has put there. */
function contentOf(head: Head): SessionContent | undefined {
  if (!isThere(head) || head.content === undefined) return undefined;
  try {
    const { buffer, byteOffset, length } = head.content;
    const value = objectOf(JSON.parse(Buffer.from(buffer, byteOffset, length).toString()));
    const messages = value?.['messages'];
    const isOurs = Array.isArray(messages) && messages.every((one) => typeof objectOf(one)?.['id'] === 'string');
    return isOurs ? (value as unknown as SessionContent) : undefined;
  } catch {
    return undefined;
  }
}
