import type { Report } from '../report.ts';
import { benchHits } from './hits.ts';
import { benchPolicies } from './policies.ts';
import { benchShared } from './shared.ts';
import { benchStore } from './store.ts';

/** The cache beside the libraries that a TypeScript program would take instead. */
export async function* benchCache(): AsyncGenerator<Report> {
  yield* benchHits();
  yield* benchPolicies();
  yield* benchShared();
  yield* benchStore();
}
