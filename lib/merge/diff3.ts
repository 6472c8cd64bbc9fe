import { createWork, type Edit, edits, type Span, type Token, type Work } from './align.ts';

/** A stretch of a three-way comparison, as ranges into base, ours and theirs. */
export interface Chunk {
  /** Who changed the stretch; `both` is the same stretch changed on both sides. */
  readonly changed: 'none' | 'ours' | 'theirs' | 'both';
  readonly base: Span;
  readonly ours: Span;
  readonly theirs: Span;
}

/** What a three-way comparison aligns. */
export interface Sequences {
  readonly base: readonly Token[];
  readonly ours: readonly Token[];
  readonly theirs: readonly Token[];
}

/**
 * Cuts three sequences into stretches (diff3: Khanna, Kunal, Pierce, "A Formal Investigation of Diff3", 2007). Edits
 * that overlap or touch in the base belong to one stretch, as in git.
 */
export function diff3({ base, ours, theirs }: Sequences, work: Work = createWork()): Chunk[] {
  // Half of what is left for each side, so that neither is seen coarser for being the second.
  const [forOurs, forTheirs] = [createWork(work.steps / 2), createWork(work.steps / 2)];
  const left = edits(base, ours, forOurs);
  const right = edits(base, theirs, forTheirs);
  work.steps = forOurs.steps + forTheirs.steps;
  const chunks: Chunk[] = [];
  let baseAt = 0;
  let oursAt = 0;
  let theirsAt = 0;
  let l = 0;
  let r = 0;
  const take = (changed: Chunk['changed'], lengths: { base: number; ours: number; theirs: number }) => {
    if (lengths.base + lengths.ours + lengths.theirs === 0) return;
    chunks.push({
      changed,
      base: { from: baseAt, to: baseAt + lengths.base },
      ours: { from: oursAt, to: oursAt + lengths.ours },
      theirs: { from: theirsAt, to: theirsAt + lengths.theirs },
    });
    baseAt += lengths.base;
    oursAt += lengths.ours;
    theirsAt += lengths.theirs;
  };
  while (l < left.length || r < right.length) {
    const from = Math.min(
      left[l]?.base.from ?? Number.POSITIVE_INFINITY,
      right[r]?.base.from ?? Number.POSITIVE_INFINITY,
    );
    take('none', { base: from - baseAt, ours: from - baseAt, theirs: from - baseAt });
    let to = from;
    const firstLeft = l;
    const firstRight = r;
    for (let grew = true; grew; ) {
      grew = false;
      for (let edit = left[l]; edit && edit.base.from <= to; edit = left[l]) {
        to = Math.max(to, edit.base.to);
        l++;
        grew = true;
      }
      for (let edit = right[r]; edit && edit.base.from <= to; edit = right[r]) {
        to = Math.max(to, edit.base.to);
        r++;
        grew = true;
      }
    }
    const changed = l === firstLeft ? 'theirs' : r === firstRight ? 'ours' : 'both';
    const length = to - from;
    const grown = (own: readonly Edit[]) =>
      own.reduce((sum, { base: was, side }) => sum + (side.to - side.from) - (was.to - was.from), length);
    take(changed, {
      base: length,
      ours: grown(left.slice(firstLeft, l)),
      theirs: grown(right.slice(firstRight, r)),
    });
  }
  const rest = base.length - baseAt;
  take('none', { base: rest, ours: rest, theirs: rest });
  return chunks;
}
