import { Problem } from '../base/problem.ts';
import type { Conflict } from './conflict.ts';
import type { Document, Source } from './document.ts';
import { intersection } from './intersection.ts';
import { compareAge, latest } from './latest.ts';
import { threeWay } from './three-way.ts';
import { union } from './union.ts';

export const strategies = ['latest', 'union', 'intersection', 'three-way'] as const;
export type Strategy = (typeof strategies)[number];

export const preferences = ['fail', 'ours', 'theirs', 'latest'] as const;
export type Preference = (typeof preferences)[number];

export interface Merged {
  readonly document: Document;
  readonly conflicts: readonly Conflict[];
}

/**
 * Merges 2–16 sources by a strategy. Pure and deterministic; merging a document with itself gives that document, byte
 * for byte.
 *
 * @param request.base what both sides grew from; `three-way` needs it, the others leave it aside.
 * @throws Problem `unprocessable` where the strategy cannot be applied, `merge_conflict` where changes collide and
 *   `prefer` is `fail`.
 */
export function merge(request: {
  readonly strategy: Strategy;
  readonly sources: readonly Source[];
  readonly base?: Document | undefined;
  readonly prefer: Preference;
}): Merged {
  const { strategy, sources, base, prefer } = request;
  const [first, second, ...others] = sources;
  if (first === undefined || second === undefined) {
    throw new Problem('unprocessable', 'A merge takes two sources or more.');
  }
  switch (strategy) {
    case 'latest':
      return { document: latest([first, second, ...others]), conflicts: [] };
    case 'union':
      return union([first, second, ...others]);
    case 'intersection':
      return { document: intersection([first, second, ...others]), conflicts: [] };
    case 'three-way': {
      if (others.length > 0)
        throw new Problem('unprocessable', 'A three-way merge takes two sources: ours and theirs.');
      if (base === undefined) throw new Problem('unprocessable', 'A three-way merge needs a base.');
      const newer = compareAge(first, second) > 0 ? 'ours' : 'theirs';
      return threeWay(base, first, second, prefer === 'latest' ? newer : prefer);
    }
  }
}
