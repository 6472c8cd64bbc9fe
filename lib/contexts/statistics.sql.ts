import { type Database, runOne } from '../postgres/database.ts';
import { sql, toStatement } from '../postgres/sql.ts';
import type { RequestContext } from './request.ts';
import { jsonColumn, spaceRow } from './rows.ts';

/** How much a space holds, as the views `space_statistics` and `version_statistics` have it. */
export interface SpaceStatistics {
  readonly contexts: number;
  readonly expired: number;
  readonly tombstones: number;
  readonly contentBytes: number;
  readonly largestBytes: number;
  readonly versions: number;
  readonly pinned: number;
  readonly versionBytes: number;
  readonly seq: number;
}

/** What the search index of a space holds. */
export interface IndexStatistics {
  readonly chunks: number;
  /** Writes that it has not seen yet. */
  readonly pending: number;
  /** Of how many chunks each embedder has made the vectors. */
  readonly vectors: Readonly<Record<string, number>>;
}

/** How a peer of a space does, as the view `sync_statistics` has it. */
export interface PeerStatistics {
  readonly peer: string;
  /** Ticks of ours that its runs have not seen. */
  readonly lag: number;
  /** Of its last hundred runs. */
  readonly runs: number;
  readonly failed: number;
  readonly halted: number;
  readonly lost: number;
  /** What a run took, in milliseconds; null before the first. */
  readonly runMsP50: number | null;
  readonly runMsP95: number | null;
  /** When the last one did its work, in milliseconds since 1970. */
  readonly synchronisedMs: number | null;
  readonly conflicts: number;
  readonly items: number;
  readonly due: number;
}

/** @param engine what holds the vectors of chunks: `pgvector`, or the name of another. */
export async function readSpaceStatistics(
  database: Database,
  request: RequestContext,
  engine: string,
): Promise<SpaceStatistics & { readonly index: IndexStatistics; readonly sync: readonly PeerStatistics[] }> {
  const rows = await runOne(
    database.in(request),
    toStatement(sql`select s.clock, to_jsonb(s)::text as space, (
        select to_jsonb(v) from version_statistics v where v.space_id = s.space_id)::text as versions,
        search_statistics(${engine})::text as index, (
        select jsonb_agg(jsonb_build_object('peer', p.peer, 'lag', p.lag, 'runs', p.runs, 'failed', p.failed, 'halted', p.halted,
          'lost', p.lost, 'runMsP50', p.run_ms_p50, 'runMsP95', p.run_ms_p95, 'synchronisedMs', to_ms(p.synchronised_at),
          'conflicts', p.conflicts, 'items', p.items, 'due', p.due) order by p.peer)
        from sync_statistics p where p.space_id = s.space_id)::text as sync
      from space_statistics s where s.space_id = ${request.space}`),
    request,
  );
  const row = spaceRow(rows, request);
  const space = jsonColumn<Record<string, number>>(row, 'space') ?? {};
  const versions = jsonColumn<Record<string, number>>(row, 'versions') ?? {};
  return {
    contexts: space['contexts'] ?? 0,
    expired: space['expired'] ?? 0,
    tombstones: space['tombstones'] ?? 0,
    contentBytes: space['content_bytes'] ?? 0,
    largestBytes: space['largest_bytes'] ?? 0,
    versions: versions['versions'] ?? 0,
    pinned: versions['pinned'] ?? 0,
    versionBytes: versions['version_bytes'] ?? 0,
    index: jsonColumn<IndexStatistics>(row, 'index') ?? { chunks: 0, pending: 0, vectors: {} },
    sync: jsonColumn<PeerStatistics[]>(row, 'sync') ?? [],
    seq: Number(row['clock']),
  };
}
