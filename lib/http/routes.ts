import type { Settings } from '../config/settings.ts';
import { contextRoutes } from './contexts.ts';
import { healthRoutes } from './health.ts';
import type { Route, RouteGroup } from './route.ts';

// Each of these reads or writes with its request before it answers, and so confirms who sent it.
const confirming = (routes: readonly Route[]) => routes.map((route) => ({ ...route, isConfirming: true }));

/** Every route there is, in the order the documents show them; what few instances are asked for is loaded when it is. */
export const routes: readonly (Route | RouteGroup)[] = [
  ...confirming(contextRoutes),
  { paths: ['/v1/uploads/*'], load: async () => confirming((await import('./uploads.ts')).uploadRoutes) },
  { paths: ['/v1/contexts/:id/tree'], load: async () => confirming((await import('./trees.ts')).treeRoutes) },
  {
    paths: ['/v1/contexts/:id/versions/*', '/v1/contexts/:id/diff', '/v1/contexts/:id/restore'],
    load: async () => confirming((await import('./versions.ts')).versionRoutes),
  },
  { paths: ['/v1/batch/*'], load: async () => confirming((await import('./batch.ts')).batchRoutes) },
  { paths: ['/v1/changes'], load: async () => confirming((await import('./changes.ts')).changeRoutes) },
  { paths: ['/v1/merge'], load: async () => confirming((await import('./merge.ts')).mergeRoutes) },
  { paths: ['/v1/memory/*'], load: async () => confirming((await import('./memory.ts')).memoryRoutes) },
  { paths: ['/v1/search'], load: async () => confirming((await import('./search.ts')).searchRoutes) },
  { paths: ['/v1/events/*'], load: async () => confirming((await import('./events.ts')).eventRoutes) },
  { paths: ['/v1/cache/*'], load: async () => (await import('./cache.ts')).cacheRoutes },
  { paths: ['/v1/peers/*'], load: async () => (await import('./peers.ts')).peerRoutes },
  { paths: ['/v1/conflicts/*'], load: async () => (await import('./conflicts.ts')).conflictRoutes },
  {
    paths: ['/v1/keys/*', '/v1/spaces/*', '/v1/audit'],
    load: async () => (await import('./keys.ts')).keyRoutes,
  },
  ...healthRoutes,
  {
    paths: ['/v1/stats', '/metrics', '/v1/maintenance/*'],
    load: async () => (await import('./operations.ts')).operationRoutes,
  },
];

const documents: RouteGroup = {
  paths: ['/', '/docs', '/openapi.json'],
  load: async () => (await import('./documents.ts')).documentRoutes,
};

/** The routes of a server, with what people read where the settings have it. */
export const routesOf = ({ features }: Settings) => (features.docs ? [...routes, documents] : routes);
