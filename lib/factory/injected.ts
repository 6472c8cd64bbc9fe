/** What a pack stands between, and begins with. */
export const packOpen = '<lamina-context>';
export const packClose = '</lamina-context>';
export const packHead =
  'What Lamina remembers of this project. Sources are in brackets: context_get has the whole of each.';

const marker = /<[\s\u200b]{0,8}(\/?)[\s\u200b]{0,8}(system-reminder|lamina-context)(?:\s[^<>]{0,200})?>/gi;
type Name = 'system-reminder' | 'lamina-context';

/**
 * A text without what was put into the conversation from outside: system reminders, and the packs of this store, which would
 * otherwise come back as what was said. They may lie in one another. A marker alone is what somebody says of markers, but a pack
 * of ours that does not end was cut.
 */
export function stripInjected(text: string): string {
  if (!text.includes('<')) return text;
  const blocks: { start: number; end: number }[] = [];
  const opened: { name: Name; start: number }[] = [];
  const count = { 'system-reminder': 0, 'lamina-context': 0 };
  const take = (start: number, end: number) => {
    while ((blocks.at(-1)?.start ?? -1) >= start) blocks.pop();
    blocks.push({ start, end });
  };
  for (const { 0: tag, 1: slash, 2: written = '', index } of text.matchAll(marker)) {
    const name = written.toLowerCase() as Name;
    if (slash !== '/') {
      opened.push({ name, start: index });
      count[name]++;
      continue;
    }
    while (count[name] > 0) {
      const last = opened.pop() as { name: Name; start: number };
      count[last.name]--;
      if (last.name !== name) continue;
      take(last.start, index + tag.length);
      break;
    }
  }
  const cut = opened.find(({ start }) => text.startsWith(`${packOpen}\n${packHead.slice(0, 22)}`, start));
  if (cut !== undefined) take(cut.start, text.length);
  let rest = '';
  let at = 0;
  for (const { start, end } of blocks) {
    rest += text.slice(at, start);
    at = Math.max(at, end);
  }
  return rest + text.slice(at);
}

/** The text in which no marker can begin or end a block, however it is spelled. */
export function escapeMarkers(text: string): string {
  // Characters that nobody sees say nothing in a pack, and could hide a marker.
  return text
    .replaceAll(/[\u00ad\u200b\u2060\ufeff]/g, '')
    .replaceAll(/<(?=[^a-z<>]{0,16}(?:lamina-context|system-reminder))/gi, '‹');
}
