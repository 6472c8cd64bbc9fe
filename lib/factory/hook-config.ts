import { dropItem, type JsonNode, memberOf, putItem, readJsonText } from './json-edit.ts';

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

const ownCommand = /lamina[\\/]hooks[\\/]lamina-hook\.sh/;

/** Whether a command runs our hook. */
export const isOwnCommand = (command: string) => ownCommand.test(command);

/** Whether a hook is ours, wherever the repository was when it was written. */
const isOwn = (hook: unknown) => isOwnCommand(String((hook as { command?: unknown } | null)?.command ?? ''));

/** The command of the hook for a shell, whatever characters its path has. */
export const hookCommand = (path: string, agent: string) => `sh '${path.replaceAll("'", "'\\''")}' ${agent}`;

/**
 * The file with exactly our hooks under each event, and everything else untouched.
 *
 * @param to.wrapper the member that holds the events; undefined where the file is keyed by event itself.
 * @throws Error in a sentence where the file has another shape.
 */
export function putHooks(text: ConfigText, to: { wrapper?: 'hooks' | undefined; command: string }): string {
  const { wrapper, command } = to;
  let made = text ?? '{}\n';
  if (wrapper !== undefined) made = withObject(made, wrapper);
  for (const { event, matcher } of hookedEvents) {
    const hook = { type: 'command', command, timeout: hookTimeoutSeconds };
    const group = { ...(matcher === undefined ? {} : { matcher }), hooks: [hook] };
    const own = groupsOf(made, wrapper, event)?.elements?.filter((one) => hooksOf(one).some(isOwn)) ?? [];
    if (own.length === 1 && JSON.stringify(own[0]?.value) === JSON.stringify(group)) continue;
    made = dropEvent(made, wrapper, event);
    const groups = groupsOf(made, wrapper, event);
    made =
      groups === undefined
        ? putItem(made, eventsOf(made, wrapper) as JsonNode, { key: event, value: [group] })
        : putItem(made, groups, { value: group });
  }
  return made;
}

/** The file without our hooks, and without what then holds nothing; undefined where nothing is left of it. */
export function dropHooks(text: ConfigText, from: { wrapper?: 'hooks' }): ConfigText {
  if (text === undefined) return undefined;
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
 * The file with our MCP server, and every other untouched.
 *
 * @param to.knownUrls addresses by which a server named `lamina` is known to be ours.
 * @throws Error in a sentence where another server has the name, or the file another shape.
 */
export function putServer(text: ConfigText, to: { entry: ServerEntry; knownUrls: readonly string[] }): string {
  const made = withObject(text ?? '{}\n', 'mcpServers');
  const servers = memberOf(readJsonText(made), 'mcpServers') as JsonNode;
  const old = memberOf(servers, 'lamina')?.value;
  if (JSON.stringify(old) === JSON.stringify(to.entry)) return made;
  if (old !== undefined && !isOurs(old, [to.entry.url, ...to.knownUrls])) {
    throw new Error('has another MCP server named lamina: remove it first, or give it another name');
  }
  return putItem(made, servers, { key: 'lamina', value: to.entry });
}

/** The file without our MCP server; undefined where nothing is left of it. */
export function dropServer(text: ConfigText, knownUrls: readonly string[]): ConfigText {
  if (text === undefined) return undefined;
  const servers = memberOf(objectOf(text), 'mcpServers');
  const old = memberOf(servers, 'lamina')?.value;
  if (servers === undefined || old === undefined || !isOurs(old, knownUrls)) return text;
  return pruned(dropMember(text, servers, 'lamina'), 'mcpServers');
}

const isOurs = (entry: unknown, urls: readonly string[]) => {
  const { url } = (entry ?? {}) as { url?: unknown };
  return typeof url === 'string' && urls.includes(url);
};

/**
 * A file as it may be shown: what others have there, which may hold secrets of theirs, and our token are left out.
 *
 * @param told.own the strings that are shown.
 */
export function maskConfig(text: ConfigText, told: { own: (value: string) => string | undefined }): string {
  if (text === undefined) return '';
  const spans: { start: number; end: number; shown: string }[] = [];
  const visit = (node: JsonNode) => {
    for (const { node: child } of node.members ?? []) visit(child);
    for (const child of node.elements ?? []) visit(child);
    if (typeof node.value !== 'string') return;
    spans.push({ start: node.start, end: node.end, shown: JSON.stringify(told.own(node.value) ?? '…') });
  };
  visit(readJsonText(text));
  let shown = '';
  let at = 0;
  for (const { start, end, shown: value } of spans) {
    shown += text.slice(at, start) + value;
    at = end;
  }
  return shown + text.slice(at);
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

function hooksOf(group: JsonNode): readonly unknown[] {
  return memberOf(group, 'hooks')?.elements?.map(({ value }) => value) ?? [];
}

function dropMember(text: string, from: JsonNode, key: string): string {
  return dropItem(text, from, from.members?.findLastIndex((member) => member.key === key) ?? -1);
}

/** Without the container that was emptied, and without a file that has nothing else. */
function pruned(text: string, container: string | undefined): ConfigText {
  let made = text;
  if (container !== undefined && memberOf(objectOf(made), container)?.members?.length === 0) {
    made = dropMember(made, objectOf(made), container);
  }
  return objectOf(made).members?.length === 0 ? undefined : made;
}
