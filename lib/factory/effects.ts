import { sha256 } from '../base/hash.ts';
import { cutText } from '../base/text.ts';
import type { PutOperation } from '../contexts/operation.ts';
import { promptOf, textOf } from './events.ts';
import { type Facts, type FactsDraft, factsOfText, factsOfTool, join } from './facts.ts';
import { type Head, type Heads, isGone, isThere, versionOf } from './heads.ts';
import type { PendingEvent } from './inbox.sql.ts';
import { type Note, noteId, noteIn } from './notes.ts';
import { sessionContext, summaryContext } from './project.ts';
import { isSaid, json, metadataOf, putSession } from './session.ts';
import { printSummary } from './summary.ts';

/** A session as it stands before an event is worked. */
export interface SessionState {
  readonly session: string;
  readonly project: string;
  readonly part: number;
  readonly facts: Facts;
}

export interface Effects {
  readonly operations: readonly PutOperation[];
  readonly part: number;
  readonly facts: Facts;
}

/** What of an event is kept: all of it, only what was asked to be, or nothing. */
export type Capture = 'all' | 'asked' | 'nothing';

/** The contexts that have to be looked at before an event can be worked. */
export function wantedHeads(event: PendingEvent, { session, project, part }: SessionState): string[] {
  const note = noteOf(event);
  const notes = note === undefined ? [] : [noteId(project, note)];
  return [
    ...new Set([project, sessionContext(session), sessionContext(session, part), summaryContext(session), ...notes]),
  ];
}

/** What is to be remembered of the prompt of an event. */
export function noteOf(event: Pick<PendingEvent, 'event' | 'payload'>): Note | undefined {
  const prompt = promptOf(event);
  return prompt === undefined ? undefined : noteIn(prompt);
}

// The transcript has its summary made anew where it may be the last thing that is heard of the session.
const summarized = ['Stop', 'PreCompact', 'SessionEnd'];
const tellingEvents = ['SessionStart', ...summarized];

/**
 * What an event amounts to: versions of contexts, each on condition that nobody has written it since the heads were read. What was
 * received before a context was deleted is not brought back to it.
 *
 * @param bounds.partBytes how large a session's context grows before another one goes on.
 * @param bounds.isFree whether new contexts lie below nothing, since where they belong there is no room for them.
 */
export function planEvent(
  event: PendingEvent,
  state: SessionState,
  heads: Heads,
  bounds: { readonly partBytes: number; readonly capture: Capture; readonly isFree: boolean },
): Effects {
  const { session, project } = state;
  const isLate = (head: Head) => isGone(head) && event.receivedMs <= head.goneMs;
  const [root, summary] = [heads.get(sessionContext(session)), heads.get(summaryContext(session))];
  const isCaptured = bounds.capture === 'all' && !isLate(root);
  const facts = recall(state.facts, [root, summary]);
  if (isCaptured && !isLate(summary)) collect(facts, event);

  const note = noteOf(event);
  const isNoted = note !== undefined && !isLate(heads.get(noteId(project, note)));
  const isTold =
    isCaptured && (event.payload.messages.some(isSaid) || tellingEvents.includes(event.event) || !isThere(root));
  const operations: PutOperation[] = [];
  if ((isTold || isNoted) && !isThere(heads.get(project))) operations.push(putProject(project, event));
  let part = isThere(root) ? state.part : 1;
  if (isTold) {
    const parentId = bounds.isFree ? null : project;
    const written = putSession(event, heads, {
      session,
      parentId,
      part,
      partBytes: bounds.partBytes,
      title: facts.title,
    });
    operations.push(...written.operations);
    part = written.part;
  }
  if (isNoted) operations.push(putNote(project, note, heads, bounds.isFree));
  if (isCaptured && !isLate(summary) && summarized.includes(event.event)) {
    const endedAt = event.event === 'SessionEnd' ? new Date(event.receivedMs).toISOString() : null;
    const text = printSummary(facts, { project: nameOf(heads.get(project)) ?? placeOf(project, event).name, endedAt });
    if (text !== null)
      operations.push(putSummary(session, text, { title: facts.title, head: summary, isFree: bounds.isFree }));
  }
  return { operations, part, facts };
}

/** What is known of a session, unless it or its summary was deleted since: of that nothing comes back. */
function recall(facts: Facts, heads: readonly Head[]): FactsDraft {
  const forgotten = heads
    .filter(isGone)
    .map((head) => versionOf(head))
    .join(' ');
  return forgotten === '' || facts.forgotten === forgotten ? { ...facts } : { forgotten };
}

function collect(facts: FactsDraft, event: PendingEvent): void {
  const { payload } = event;
  const receivedAt = new Date(event.receivedMs).toISOString();
  const prompt = promptOf(event);
  if (prompt !== undefined) join(facts, factsOfText('user', prompt), receivedAt);
  if (event.event === 'PostToolUse')
    join(facts, factsOfTool(textOf(payload.event, 'tool_name') ?? '', payload.event['tool_input']), receivedAt);
  for (const message of payload.messages) if (message.facts) join(facts, message.facts, message.at ?? receivedAt);
}

function nameOf(head: Head): string | undefined {
  const { title } = metadataOf(head);
  return typeof title === 'string' ? title : undefined;
}

/** Where the project is, unless the session has moved on to another. */
function placeOf(project: string, { payload }: PendingEvent) {
  return payload.project?.id === project ? payload.project.place : { name: 'unknown' };
}

function putProject(id: string, event: PendingEvent): PutOperation {
  const place = placeOf(id, event);
  const metadata = JSON.stringify({ title: cutText(place.name, 200) });
  return { op: 'put', id, ifAbsent: true, kind: 'project', content: json(place), metadata };
}

function putNote(project: string, note: Note, heads: Heads, isFree: boolean): PutOperation {
  const id = noteId(project, note);
  const parentId = note.isPersonal || isFree ? null : project;
  const content = { bytes: Buffer.from(note.text), contentType: 'text/plain' };
  return { op: 'put', id, content, ...(isThere(heads.get(id)) ? {} : { kind: 'note', parentId }) };
}

function putSummary(
  session: string,
  text: string,
  of: { readonly title: string | undefined; readonly head: Head; readonly isFree: boolean },
): PutOperation {
  const { title = session, head, isFree } = of;
  return {
    op: 'put',
    id: summaryContext(session),
    ...(isThere(head) ? {} : { kind: 'summary', parentId: isFree ? null : sessionContext(session) }),
    content: { bytes: Buffer.from(text), contentType: 'text/markdown' },
    metadata: JSON.stringify({ ...metadataOf(head), title: cutText(`Summary: ${title}`, 200) }),
    ifVersion: versionOf(head),
  };
}

/** By id the SHA-256 of what operations write. */
export function hashesOf(operations: readonly PutOperation[]): Record<string, string> {
  return Object.fromEntries(operations.flatMap(({ id, content }) => (content ? [[id, sha256(content.bytes)]] : [])));
}
