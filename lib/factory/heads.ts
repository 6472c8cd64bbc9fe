import { Problem } from '../base/problem.ts';
import type { Context } from '../contexts/context.ts';
import type { Contexts } from '../contexts/contexts.ts';
import type { RequestContext } from '../contexts/request.ts';

/** What is left of a context that was deleted or has expired. */
export interface Tombstone {
  readonly goneVersion: number;
  /** Milliseconds since 1970. */
  readonly goneMs: number;
}

/** A context as it stands; undefined where there is none, or it was erased. */
export type Head = Context | Tombstone | undefined;
export type Heads = ReadonlyMap<string, Head>;

export const isThere = (head: Head): head is Context => head !== undefined && 'version' in head;
export const isGone = (head: Head): head is Tombstone => head !== undefined && 'goneVersion' in head;

/** The version that a write builds on; 0 where nothing was ever there. */
export const versionOf = (head: Head): number => (isThere(head) ? head.version : (head?.goneVersion ?? 0));

/** Reads contexts as they stand: one request, and one more where some are gone. */
export async function readHeads(contexts: Contexts, request: RequestContext, ids: readonly string[]): Promise<Heads> {
  const { value } = await contexts.readMany(request, ids);
  const heads = new Map<string, Head>();
  const gone: { id: string; version: number }[] = [];
  for (const [index, id] of ids.entries()) {
    const head = value[index];
    if (!(head instanceof Problem)) heads.set(id, head);
    else if (head.code === 'gone') gone.push({ id, version: Number(head.facts['version']) });
  }
  if (gone.length === 0) return heads;
  const { value: versions, nowMs } = await contexts.readExact(request, gone);
  for (const [index, { id, version }] of gone.entries()) {
    const last = versions[index];
    const goneMs = (last?.state === 'live' ? last.expiresMs : last?.updatedMs) ?? nowMs;
    heads.set(id, { goneVersion: version, goneMs });
  }
  return heads;
}
