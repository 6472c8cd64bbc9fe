import { batchRoutes } from './batch.ts';
import { cacheRoutes } from './cache.ts';
import { changeRoutes } from './changes.ts';
import { conflictRoutes } from './conflicts.ts';
import { contextRoutes } from './contexts.ts';
import { eventRoutes } from './events.ts';
import { keyRoutes } from './keys.ts';
import { memoryRoutes } from './memory.ts';
import { mergeRoutes } from './merge.ts';
import { operationRoutes } from './operations.ts';
import { peerRoutes } from './peers.ts';
import type { Route } from './route.ts';
import { searchRoutes } from './search.ts';
import { treeRoutes } from './trees.ts';
import { uploadRoutes } from './uploads.ts';
import { versionRoutes } from './versions.ts';

// Each of these reads or writes with its request before it answers, and so confirms who sent it.
const confirming = [
  contextRoutes,
  uploadRoutes,
  treeRoutes,
  versionRoutes,
  batchRoutes,
  changeRoutes,
  mergeRoutes,
  memoryRoutes,
  searchRoutes,
  eventRoutes,
].flat();

/** Every route there is, in the order the documents show them. */
export const routes: readonly Route[] = [
  ...confirming.map((route) => ({ ...route, isConfirming: true })),
  ...cacheRoutes,
  ...peerRoutes,
  ...conflictRoutes,
  ...keyRoutes,
  ...operationRoutes,
];
