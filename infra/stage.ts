import type { Settings } from '../lib/config/settings.ts';

/** What tells stages apart. */
export interface Stage {
  readonly isProduction: boolean;
  readonly settings: Settings;
  /** A name of one's own; without it CloudFront's. */
  readonly domain: string | undefined;
  /** As `npm start` takes it; without it the built-in one. */
  readonly embedder: string | undefined;
  /** Whether PostgreSQL and Redis are made with the stage, at Neon's and Upstash's; else secrets name them. */
  readonly isProvisioned: boolean;
  readonly neonOrganisation: string | undefined;
}
