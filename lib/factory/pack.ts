import { cutText } from '../base/text.ts';
import { escapeMarkers, packClose, packHead, packOpen, stripInjected } from './injected.ts';

/** Something that a pack may hold: what a context says, and which one. */
export interface Candidate {
  readonly id: string;
  readonly version: number;
  readonly kind: string;
  readonly text: string;
}

/** A candidate that was chosen, as far as there was room for it. */
export interface Passage extends Candidate {
  readonly section: Section;
}

export type Section = 'Instructions' | 'Notes' | 'Relevant' | 'Earlier sessions';

/** What a pack is chosen from, each list the best first. */
export interface Candidates {
  readonly instructions: readonly Candidate[];
  readonly notes: readonly Candidate[];
  /** What the search has found. */
  readonly found: readonly Candidate[];
  readonly summaries: readonly Candidate[];
}

// About four characters are a token: https://platform.openai.com/tokenizer says so of English.
const charactersPerToken = 4;
/** The order of the sections, and which share of the budget each may take; what one leaves is for those behind it. */
const sections: readonly { readonly name: Section; readonly share: number; readonly of: keyof Candidates }[] = [
  { name: 'Instructions', share: 0.35, of: 'instructions' },
  { name: 'Notes', share: 0.35, of: 'notes' },
  { name: 'Relevant', share: 0.6, of: 'found' },
  { name: 'Earlier sessions', share: 1, of: 'summaries' },
];
// A piece that would be cut to less than this says nothing.
const pieceMin = 80;
// No piece takes more than this share of the budget.
const pieceShare = 0.3;

/**
 * Chooses what fits into a budget, section by section, no context and no text twice.
 *
 * @param tokens the budget, about four characters each, everything around the pieces included.
 */
export function choosePassages(candidates: Candidates, tokens: number): Passage[] {
  const budget = tokens * charactersPerToken - packOpen.length - packClose.length - packHead.length - 4;
  const pieceMax = Math.max(Math.floor(budget * pieceShare), pieceMin);
  const pieces: Passage[] = [];
  const seen = new Set<string>();
  let left = budget;
  for (const { name, share, of } of sections) {
    let room = Math.min(left, Math.floor(budget * share));
    let isOpened = false;
    for (const candidate of candidates[of]) {
      const whole = toLine(candidate.text);
      const words = whole.toLowerCase().slice(0, 400);
      if (whole === '' || seen.has(candidate.id) || seen.has(words)) continue;
      const around = sourceOf(candidate).length + 4 + (isOpened ? 0 : name.length + 5);
      const text = cutPiece(whole, Math.min(room - around, pieceMax));
      if (text === undefined) continue;
      const cost = text.length + around;
      seen.add(candidate.id).add(words);
      pieces.push({ ...candidate, text, section: name });
      room -= cost;
      left -= cost;
      isOpened = true;
    }
  }
  return pieces;
}

/** The pack as it is given to the agent; null where there is nothing in it. */
export function printPack(pieces: readonly Passage[]): string | null {
  if (pieces.length === 0) return null;
  const lines = [packOpen, packHead];
  for (const { name } of sections) {
    const own = pieces.filter(({ section }) => section === name);
    if (own.length === 0) continue;
    lines.push('', `## ${name}`, ...own.map((piece) => `- ${piece.text} ${sourceOf(piece)}`));
  }
  return [...lines, packClose].join('\n');
}

export const tokensOf = (text: string) => Math.ceil(text.length / charactersPerToken);

const sourceOf = ({ id, version }: Candidate) => `[${id}@${version}]`;

function cutPiece(text: string, max: number): string | undefined {
  if (text.length <= max) return text;
  if (max < pieceMin) return undefined;
  const cut = cutText(text, max - 2);
  const space = cut.lastIndexOf(' ');
  return `${space > max / 2 ? cut.slice(0, space) : cut} …`;
}

/** One line of Markdown that ends no marker of ours and opens none of others. */
function toLine(text: string): string {
  const plain = stripInjected(text)
    .replaceAll(/^#{1,6}\s+/gm, '')
    .replaceAll(/\s+/g, ' ');
  return escapeMarkers(plain).trim();
}
