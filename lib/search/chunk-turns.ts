import { cutText } from '../base/text.ts';
import type { Piece } from './chunk.ts';
import { chunkJson } from './chunk-json.ts';
import { chunkText, headingMax } from './chunk-text.ts';
import type { Node } from './json-nodes.ts';

const turnsMin = 3;
const speakersMax = 12;

/**
 * The turns of a conversation: `Speaker: what was said`, a turn a line or more, the same few speakers again and again;
 * undefined for what is none.
 */
export function textTurns(text: string): Piece[] | undefined {
  const starts: number[] = [];
  const counts = new Map<string, number>();
  let lines = 0;
  for (const { 0: line, index } of text.matchAll(/[^\n]*\n?/g)) {
    if (line.trim() === '') continue;
    lines++;
    const [, speaker] = /^(\p{L}[\p{L}\p{N} ._'-]{0,40}):\s/u.exec(line) ?? [];
    if (speaker === undefined) continue;
    starts.push(index);
    counts.set(speaker, (counts.get(speaker) ?? 0) + 1);
  }
  // The lines of a configuration have colons, too, but hardly ever the same words before them.
  const isConversation =
    starts.length >= turnsMin &&
    starts.length * 2 >= lines &&
    counts.size <= Math.min(speakersMax, starts.length / 1.5);
  if (!isConversation) return undefined;
  const [first = 0] = starts;
  const bounds = text.slice(0, first).trim() === '' ? starts : [0, ...starts];
  return bounds.flatMap((from, at) =>
    chunkText(text.slice(from, bounds[at + 1])).map(({ start, end, ...piece }) => ({
      ...piece,
      start: start + from,
      end: end + from,
    })),
  );
}

/** Likewise a list of messages as the APIs of models have it: `[{role | speaker | name, content | text}]`, or `{messages: […]}`. */
export function jsonTurns(text: string, root: Node): Piece[] | undefined {
  const list = root.kind === 'array' ? root : root.children?.find(({ key }) => key === 'messages' || key === 'turns');
  if (list?.kind !== 'array' || (list.children?.length ?? 0) < turnsMin) return undefined;
  const pieces: Piece[] = [];
  for (const message of list.children ?? []) {
    const speaker = memberOf(message, ['role', 'speaker', 'name', 'author']);
    const said = memberOf(message, ['content', 'text', 'message']);
    if (speaker?.kind !== 'string' || said === undefined) return undefined;
    const { start, end } = message;
    const name = cutText(stringAt(text, speaker), headingMax);
    const turns =
      said.kind === 'string'
        ? chunkText(`${name}: ${stringAt(text, said)}`)
        : chunkJson(text, { ...said, key: null, from: said.start }).map(({ text: own }) => ({
            text: `${name}: ${own}`,
          }));
    pieces.push(...turns.map((turn) => ({ text: turn.text, path: '', start, end })));
  }
  return pieces;
}

const stringAt = (text: string, { start, end }: Node) => JSON.parse(text.slice(start, end)) as string;

const memberOf = (node: Node, names: readonly string[]): Node | undefined =>
  node.children?.find(({ key }) => typeof key === 'string' && names.includes(key));
