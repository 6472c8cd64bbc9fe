import { invalid, Problem } from '../base/problem.ts';
import type { ContextHead } from './context.ts';
import type { Outcome, UsedBy } from './write.sql.ts';

/** What a refusal needs to be told to a caller. */
export interface Refusal {
  readonly id: string;
  readonly outcome: Outcome;
  readonly head?: ContextHead | null | undefined;
  readonly children?: readonly string[] | undefined;
  readonly upload?: string | undefined;
  readonly usedBy?: UsedBy | null | undefined;
}

export const contextNotFound = (id: string) => new Problem('context_not_found', `There is no context ${id}.`, { id });

export const versionNotFound = (id: string) =>
  new Problem('version_not_found', `Context ${id} has no such version; it never was or retention has taken it.`, {
    id,
  });

export const gone = (context: ContextHead) =>
  new Problem('gone', `Context ${context.id} was deleted or has expired; its old versions can be read by number.`, {
    id: context.id,
    version: context.version,
  });

export const uploadUnknown = (upload: string | undefined) =>
  new Problem('not_found', 'There is no such upload; it never was, was given up, has expired or is used up.', {
    upload,
  });

export const uploadUsed = (upload: string, usedBy: UsedBy) =>
  new Problem('not_found', `Upload ${upload} was used up by version ${usedBy.version} of context ${usedBy.id}.`, {
    upload,
    usedBy,
  });

export const uploadChanged = () =>
  new Problem('unprocessable', 'A part of the upload was replaced while it was looked at; send the write again.');

/** The facts of a 412: which version the head has now. */
export function versionConflict(id: string, head: ContextHead | null | undefined, facts: object = {}): Problem {
  const currentVersion = head === null || head === undefined || head.state === 'erased' ? 0 : head.version;
  const found = currentVersion === 0 ? 'does not exist' : `is at version ${currentVersion}`;
  const currentHash = head?.hash ? `sha256:${head.hash}` : null;
  return new Problem('version_conflict', `Context ${id} ${found}.`, { id, currentVersion, currentHash, ...facts });
}

/** The problem a refused operation amounts to. */
export function toProblem(refusal: Refusal): Problem {
  const { id, outcome, head, children, upload, usedBy } = refusal;
  switch (outcome) {
    case 'exists':
      return new Problem('already_exists', `Context ${id} exists already, at version ${head?.version}.`, {
        id,
        currentVersion: head?.version,
        currentHash: head?.hash ? `sha256:${head.hash}` : null,
      });
    case 'stale':
      return versionConflict(id, head);
    case 'content_required':
      return invalid('/content', `is required, since there is no context ${id} whose content could be kept`);
    case 'upload_unknown':
    case 'upload_used':
      return upload !== undefined && usedBy ? uploadUsed(upload, usedBy) : uploadUnknown(upload);
    case 'upload_changed':
      return uploadChanged();
    case 'not_found':
      return contextNotFound(id);
    case 'gone':
      return head ? gone(head) : contextNotFound(id);
    case 'version_not_found':
      return versionNotFound(id);
    case 'tombstone_source':
      return new Problem('unprocessable', `That version of ${id} is a tombstone; there is nothing to restore.`, { id });
    case 'parent_not_found':
      return new Problem('parent_not_found', `The parent named for ${id} does not exist.`, { id });
    case 'parent_cycle':
      return new Problem('parent_cycle', `That parent would make ${id} its own ancestor.`, { id });
    case 'tree_too_deep':
      return new Problem('unprocessable', `With that parent the tree of ${id} would be too deep.`, { id });
    case 'has_children':
      return new Problem('has_children', `Context ${id} has children; say children=delete or children=orphan.`, {
        id,
        children,
      });
    case 'cascade_too_large':
      return new Problem('unprocessable', `Too many contexts lie below ${id} for one step.`, { id });
    default:
      return new Problem('internal', 'The write ended in a way nobody foresaw.');
  }
}

/** @param advice what else whoever sent it may do. */
export function contextTooLarge(sizeBytes: number, limitBytes: number, advice?: string): Problem {
  const detail = `The content has ${sizeBytes} bytes; the limit is ${limitBytes}.`;
  return new Problem('context_too_large', advice === undefined ? detail : `${detail} ${advice}`, {
    sizeBytes,
    limitBytes,
  });
}
