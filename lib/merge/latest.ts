import type { Source } from './document.ts';

/** The source updated last: by server time, then by the higher version, then by the later place in the list. */
export function latest(sources: readonly [Source, ...Source[]]): Source {
  return sources.reduce((best, source) => (compareAge(source, best) >= 0 ? source : best));
}

/** Below 0 where `left` is older than `right`; 0 where only their place in the list can tell. */
export function compareAge(left: Source, right: Source): number {
  if (left.updatedMs !== right.updatedMs) return left.updatedMs < right.updatedMs ? -1 : 1;
  return left.version - right.version;
}
