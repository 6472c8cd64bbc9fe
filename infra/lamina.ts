import { loadSettings } from '../lib/config/load.ts';
import { raiseAlarms } from './alarms.ts';
import { createApi } from './api.ts';
import { createData } from './data.ts';
import { runMigration } from './migration.ts';
import { createQueues } from './queues.ts';
import { createSchedules } from './schedules.ts';
import { createEnvironment } from './secrets.ts';
import type { Stage } from './stage.ts';
import { createWorkers } from './workers.ts';

/** Everything a stage consists of, in the order in which it is made. */
export async function deployLamina() {
  const { env } = process;
  const stage: Stage = {
    isProduction: $app.stage === 'production',
    settings: await loadSettings('config/context.yaml'),
    domain: env['LAMINA_DOMAIN'],
    embedder: env['LAMINA_EMBEDDER'] || undefined,
    isProvisioned: env['LAMINA_ENGINES'] === 'provisioned',
    neonOrganisation: env['NEON_ORG_ID'],
  };
  const secrets = createEnvironment(createData(stage));
  const queues = createQueues();
  const { made: migrate, defaultSlot } = runMigration(stage, secrets);
  const running = { secrets, queues, defaultSlot, embedder: stage.embedder };
  const { made: api, url } = createApi(stage, running);
  const { index, sync } = createWorkers(stage, running);
  const schedule = createSchedules(stage, running);
  raiseAlarms(stage, { functions: [migrate, api, index, sync, schedule], api, queues });
  return { url };
}
