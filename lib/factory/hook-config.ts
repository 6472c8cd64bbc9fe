import { dropItem, type JsonNode, memberOf, putItem, readJsonText } from './json-edit.ts';
import { shellWord } from './shell-word.ts';

/** The events of a session that tell something worth a delay, and the tools after which one is told. */
export const hookedEvents: readonly { readonly event: string; readonly matcher?: string }[] = [
  { event: 'SessionStart' },
  { event: 'UserPromptSubmit' },
  { event: 'PostToolUse', matcher: 'mcp__.*' },
  { event: 'PreCompact' },
  { event: 'Stop' },
  { event: 'SubagentStop' },
  { event: 'SessionEnd' },
];

/** Seconds an agent gives the hook, which gives itself two. */
export const hookTimeoutSeconds = 5;

/** A file of an agent's configuration; `text` is undefined where there is none. */
export type ConfigText = string | undefined;

// A command is ours by the script it runs, wherever the repository was when it was written.
const script = String.raw`lamina[\\/]hooks[\\/]lamina-hook\.sh`;
const quoted = String.raw`(?:[^']|'\\'')*`;
const plain = '[A-Za-z0-9_@%+=:,./-]*';
const wordWith = (part: string) => `(?:'${quoted}${part}'|${plain}${part})`;
const ownScript = new RegExp(script);
const ownCommand = new RegExp(
  `sh ${wordWith(script)}(?: (?:droid|claude)(?: ${wordWith('/connections/[a-z0-9-]+')})?)?`,
);

/** Whether a command is nothing but a call of our hook. */
export const isOwnCommand = (command: string) => ownCommand.exec(command)?.[0] === command;

const commandOf = (hook: unknown) => String((hook as { command?: unknown } | null)?.command ?? '');
const isOwn = (hook: unknown) => ownScript.test(commandOf(hook));

/** The command of the hook for a shell, whatever characters its paths have. */
export const hookCommand = (path: string, to: { agent: string; connection: string }) =>
  `sh ${shellWord(path)} ${to.agent} ${shellWord(to.connection)}`;

/**
 * The file with exactly one hook of ours for each event, and everything else untouched: also what somebody has put around
 * our command or beside it.
 *
 * @param to.wrapper the member that holds the events; undefined where the file is keyed by event itself.
 * @throws Error in a sentence where the file has another shape.
 */
export function putHooks(text: ConfigText, to: { wrapper?: 'hooks' | undefined; command: string }): string {
  const { wrapper, command } = to;
  let made = text ?? '{}\n';
  if (wrapper !== undefined) made = withObject(made, wrapper);
  for (const { event, matcher } of hookedEvents) {
    const groups = groupsOf(made, wrapper, event);
    const [old, ...more] = groups?.elements?.flatMap(hookNodesOf).filter(({ value }) => isOwn(value)) ?? [];
    if (old !== undefined && more.length === 0) {
      const known = commandOf(old.value);
      const renewed = ownCommand.test(known) ? known.replace(ownCommand, () => command) : command;
      if (renewed !== known) made = putItem(made, old, { key: 'command', value: renewed });
      continue;
    }
    made = dropEvent(made, wrapper, event);
    const hook = { type: 'command', command, timeout: hookTimeoutSeconds };
    const group = { ...(matcher === undefined ? {} : { matcher }), hooks: [hook] };
    const others = groupsOf(made, wrapper, event);
    made =
      others === undefined
        ? putItem(made, eventsOf(made, wrapper) as JsonNode, { key: event, value: [group] })
        : putItem(made, others, { value: group });
  }
  return made;
}

/** The file without our hooks, and without what then holds nothing. */
export function dropHooks(text: string, from: { wrapper?: 'hooks' }): string {
  let made = text;
  const events = eventsOf(made, from.wrapper)?.members ?? [];
  for (const { key } of events) made = dropEvent(made, from.wrapper, key);
  return made === text ? text : pruned(made, from.wrapper);
}

function dropEvent(text: string, wrapper: 'hooks' | undefined, event: string): string {
  let made = text;
  for (;;) {
    const groups = groupsOf(made, wrapper, event);
    const index = groups?.elements?.findIndex((one) => hooksOf(one).some(isOwn)) ?? -1;
    const group = groups?.elements?.[index];
    const hooks = memberOf(group, 'hooks');
    if (groups === undefined || group === undefined || hooks === undefined) return made;
    const foreign = hooksOf(group).filter((hook) => !isOwn(hook));
    if (foreign.length > 0) made = dropItem(made, hooks, hooksOf(group).findIndex(isOwn));
    else if ((groups.elements?.length ?? 0) > 1) made = dropItem(made, groups, index);
    else made = dropMember(made, eventsOf(made, wrapper) as JsonNode, event);
  }
}

/** An MCP server of an agent's configuration. */
export interface ServerEntry {
  readonly type: 'http';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly oauth?: false;
}

/**
 * The file with our MCP server, and every other untouched, as is what somebody has added to ours.
 *
 * @param to.knownUrls addresses by which a server named `lamina` is known to be ours.
 * @throws Error in a sentence where another server has the name, or the file another shape.
 */
export function putServer(text: ConfigText, to: { entry: ServerEntry; knownUrls: readonly string[] }): string {
  let made = withObject(text ?? '{}\n', 'mcpServers');
  const servers = memberOf(readJsonText(made), 'mcpServers') as JsonNode;
  const old = serverIn(made);
  if (old === undefined) return putItem(made, servers, { key: 'lamina', value: to.entry });
  if (!isOurs(old.value, [to.entry.url, ...to.knownUrls])) {
    throw new Error('has another MCP server named lamina: remove it first, or give it another name');
  }
  for (const [key, value] of Object.entries(to.entry)) {
    const server = serverIn(made) as JsonNode;
    const known = memberOf(server, key)?.value;
    const wanted = key === 'headers' ? { ...(known as object), ...(value as object) } : value;
    if (JSON.stringify(known) !== JSON.stringify(wanted)) made = putItem(made, server, { key, value: wanted });
  }
  return made;
}

/** The file without our MCP server. */
export function dropServer(text: string, knownUrls: readonly string[]): string {
  const servers = memberOf(objectOf(text), 'mcpServers');
  if (servers === undefined || !isOurs(serverIn(text)?.value, knownUrls)) return text;
  return pruned(dropMember(text, servers, 'lamina'), 'mcpServers');
}

/** Whether there is an MCP server named `lamina`, of whomever. */
export const hasServer = (text: string) => serverIn(text) !== undefined;

const serverIn = (text: string) => memberOf(memberOf(objectOf(text), 'mcpServers'), 'lamina');

const isOurs = (entry: unknown, urls: readonly string[]) => {
  const { url } = (entry ?? {}) as { url?: unknown };
  return typeof url === 'string' && urls.includes(url);
};

// The names that are ours to write; a server's and an event's of others are not shown.
const shownNames: ReadonlySet<string> = new Set([
  ...['hooks', 'matcher', 'type', 'command', 'timeout', ...hookedEvents.map(({ event }) => event)],
  ...['mcpServers', 'lamina', 'url', 'headers', 'Authorization', 'oauth'],
]);

/**
 * A file as it may be shown: what others have there, which may hold secrets of theirs, is left out, names and numbers
 * included.
 *
 * @param show what is shown for a value; undefined for one that is not ours.
 */
export function maskConfig(text: ConfigText, show: (value: unknown) => unknown): string {
  if (text === undefined) return '';
  const pieces: string[] = [];
  let at = 0;
  const put = (start: number, end: number, shown: string) => {
    pieces.push(text.slice(at, start), shown);
    at = end;
  };
  const visit = (node: JsonNode) => {
    for (const { key, start, keyEnd, node: child } of node.members ?? []) {
      if (!shownNames.has(key)) put(start, keyEnd, '"…"');
      visit(child);
    }
    for (const child of node.elements ?? []) visit(child);
    if (node.members !== undefined || node.elements !== undefined) return;
    put(node.start, node.end, JSON.stringify(show(node.value)) ?? '"…"');
  };
  visit(readJsonText(text));
  return pieces.join('') + text.slice(at);
}

function objectOf(text: string): JsonNode {
  const root = readJsonText(text);
  if (root.members === undefined) throw new Error('is JSON, but no object');
  return root;
}

function withObject(text: string, key: string): string {
  const root = objectOf(text);
  const inner = memberOf(root, key);
  if (inner === undefined) return putItem(text, root, { key, value: {} });
  if (inner.members === undefined) throw new Error(`has "${key}", but it is no object`);
  return text;
}

function eventsOf(text: string, wrapper: 'hooks' | undefined): JsonNode | undefined {
  const root = objectOf(text);
  if (wrapper === undefined) return root;
  const events = memberOf(root, wrapper);
  if (events !== undefined && events.members === undefined) throw new Error(`has "${wrapper}", but it is no object`);
  return events;
}

function groupsOf(text: string, wrapper: 'hooks' | undefined, event: string): JsonNode | undefined {
  const groups = memberOf(eventsOf(text, wrapper), event);
  const isHooked = hookedEvents.some((one) => one.event === event);
  if (groups !== undefined && groups.elements === undefined && isHooked)
    throw new Error(`has "${event}", but it is no list`);
  return groups;
}

const hookNodesOf = (group: JsonNode): readonly JsonNode[] => memberOf(group, 'hooks')?.elements ?? [];
const hooksOf = (group: JsonNode): readonly unknown[] => hookNodesOf(group).map(({ value }) => value);

function dropMember(text: string, from: JsonNode, key: string): string {
  return dropItem(text, from, from.members?.findLastIndex((member) => member.key === key) ?? -1);
}

/** Without the container that was emptied. */
function pruned(text: string, container: string | undefined): string {
  const isEmpty = container !== undefined && memberOf(objectOf(text), container)?.members?.length === 0;
  return isEmpty ? dropMember(text, objectOf(text), container) : text;
}
