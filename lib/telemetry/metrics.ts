import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import Registry from 'prom-client/lib/registry.js';
import { hookEvents } from '../base/hook-events.ts';
import type { EngineCall, Telemetry } from './telemetry.ts';

/** How one engine was seen from here since the instance began. */
export interface EngineFigures {
  readonly calls: number;
  /** Calls without an answer. */
  readonly failures: number;
  readonly averageMs: number;
}

/** What the caches count, as metrics show it: values by kind, and of layer 1 what it holds. */
export interface CacheFigures {
  readonly kinds: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly layer1: {
    readonly entries: number;
    readonly bytes: number;
    readonly evictions: number;
  };
  readonly layer2: { readonly calls: number; readonly failures: number };
  readonly breaker: string;
  readonly origin: string;
}

/** Counts what it hears, and prints it as OpenMetrics. */
export interface Metrics extends Telemetry {
  /** The media type of what `print` gives. */
  readonly contentType: string;
  print(cache: CacheFigures): Promise<string>;
  engines(): Readonly<Record<string, EngineFigures>>;
}

// Seconds; from an embedded engine to a database that is being woken.
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

// A label takes no value that a caller can make up.
const hookNames: readonly string[] = hookEvents;

export function createMetrics(): Metrics {
  const registry = new Registry();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
  const registers = [registry];
  const seconds = new Histogram({
    name: 'lamina_engine_seconds',
    help: 'What calls of each engine took, by how they ended',
    labelNames: ['engine', 'outcome'] as const,
    buckets,
    registers,
  });
  const bytes = new Counter({
    name: 'lamina_engine_bytes',
    help: 'Bytes of payload exchanged with each engine, as far as they are known',
    labelNames: ['engine', 'direction'] as const,
    registers,
  });
  const tokens = new Counter({
    name: 'lamina_embedder_tokens',
    help: 'Tokens that the embedder charges for',
    registers,
  });
  const dollars = new Counter({
    name: 'lamina_embedder_usd',
    help: 'What those tokens cost by list price, in US dollars',
    registers,
  });
  const values = new Counter({
    name: 'lamina_cache_values',
    help: 'Values read through the caches, by kind and by what became of them',
    labelNames: ['kind', 'counted'] as const,
    registers,
  });
  const loading = new Counter({
    name: 'lamina_cache_load_seconds',
    help: 'What loading values of each kind took together',
    labelNames: ['kind'] as const,
    registers,
  });
  const layer1 = new Gauge({
    name: 'lamina_cache_layer1',
    help: 'What layer 1 holds: entries and bytes',
    labelNames: ['measure'] as const,
    registers,
  });
  const evicted = new Counter({
    name: 'lamina_cache_layer1_evictions',
    help: 'Entries that layer 1 evicted',
    registers,
  });
  const layer2 = new Counter({
    name: 'lamina_cache_layer2_calls',
    help: 'Calls of layer 2, and those without an answer',
    labelNames: ['outcome'] as const,
    registers,
  });
  const away = new Gauge({
    name: 'lamina_engine_away',
    help: '1 where an engine counts as away for cached reads',
    labelNames: ['engine'] as const,
    registers,
  });
  const runs = new Histogram({
    name: 'lamina_sync_run_seconds',
    help: 'What runs of synchronisation took, by type of peer and how they ended',
    labelNames: ['type', 'outcome'] as const,
    buckets,
    registers,
  });
  const lags = new Histogram({
    name: 'lamina_sync_lag_seconds',
    help: 'How long the oldest change that a run brought on had waited since it was committed here',
    labelNames: ['type'] as const,
    buckets: [...buckets, 60, 600, 3600, 86_400],
    registers,
  });
  const stages = new Histogram({
    name: 'lamina_hook_event_seconds',
    help: "What Droid's hook events took, by stage, event and how it ended",
    labelNames: ['stage', 'event', 'outcome'] as const,
    buckets,
    registers,
  });
  const sums = new Map<string, { calls: number; failures: number; ms: number }>();

  return {
    contentType: registry.contentType,

    engineCall({ engine, durationMs, sentBytes, receivedBytes, outcome, ...charged }: EngineCall) {
      seconds.observe({ engine, outcome }, durationMs / 1000);
      bytes.inc({ engine, direction: 'sent' }, sentBytes);
      bytes.inc({ engine, direction: 'received' }, receivedBytes);
      tokens.inc(charged.tokens ?? 0);
      dollars.inc(charged.usd ?? 0);
      const sum = sums.get(engine) ?? { calls: 0, failures: 0, ms: 0 };
      sum.calls++;
      sum.ms += durationMs;
      if (outcome === 'unavailable') sum.failures++;
      sums.set(engine, sum);
    },
    cacheRead() {},
    syncRun({ type, outcome, durationMs, lagMs }) {
      runs.observe({ type, outcome }, durationMs / 1000);
      if (lagMs !== undefined) lags.observe({ type }, lagMs / 1000);
    },
    hookEvent({ stage, event, outcome, durationMs }) {
      stages.observe({ stage, event: hookNames.includes(event) ? event : 'other', outcome }, durationMs / 1000);
    },
    log() {},

    // The caches count for themselves, since a hit must not cost a look at a label; here their counts are only shown.
    print(cache) {
      for (const counter of [values, loading, evicted, layer2]) counter.reset();
      for (const [kind, { originMs = 0, ...counts }] of Object.entries(cache.kinds)) {
        loading.inc({ kind }, originMs / 1000);
        for (const [counted, count] of Object.entries(counts)) values.inc({ kind, counted }, count);
      }
      const { entries, bytes: held, evictions } = cache.layer1;
      layer1.set({ measure: 'entries' }, entries);
      layer1.set({ measure: 'bytes' }, held);
      evicted.inc(evictions);
      layer2.inc({ outcome: 'all' }, cache.layer2.calls);
      layer2.inc({ outcome: 'unavailable' }, cache.layer2.failures);
      away.set({ engine: 'redis' }, cache.breaker === 'open' ? 1 : 0);
      away.set({ engine: 'postgres' }, cache.origin === 'open' ? 1 : 0);
      return registry.metrics();
    },

    engines: () =>
      Object.fromEntries(
        [...sums].map(([engine, { calls, failures, ms }]) => [engine, { calls, failures, averageMs: ms / calls }]),
      ),
  };
}

/** Tells each of several listeners. */
export function tellAll(...listeners: readonly Telemetry[]): Telemetry {
  return {
    engineCall(call) {
      for (const one of listeners) one.engineCall(call);
    },
    cacheRead(kind, read) {
      for (const one of listeners) one.cacheRead(kind, read);
    },
    syncRun(run) {
      for (const one of listeners) one.syncRun(run);
    },
    hookEvent(stage) {
      for (const one of listeners) one.hookEvent(stage);
    },
    log(event) {
      for (const one of listeners) one.log(event);
    },
  };
}
