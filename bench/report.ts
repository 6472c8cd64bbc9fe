import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { home } from '../functions/runtime.ts';

/** A line of a benchmark: what was measured, and each figure by its column. */
export type Line = Readonly<Record<string, string | number>>;

/** What one benchmark found. */
export interface Report {
  readonly name: string;
  /** What is compared with what, in a sentence. */
  readonly about: string;
  readonly lines: readonly Line[];
  /** Targets of the design, and whether this run met them. */
  readonly targets: readonly { readonly what: string; readonly isMet: boolean }[];
}

export function printReport({ name, about, lines, targets }: Report): void {
  console.log(`\n${name}: ${about}\n`);
  const columns = [...new Set(lines.flatMap(Object.keys))];
  const cells = [columns, ...lines.map((line) => columns.map((column) => show(line[column])))];
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => (row[at] ?? '').length)));
  cells.forEach((row, index) => {
    const isNumber = (at: number) => lines.every((line) => typeof line[columns[at] ?? ''] !== 'string');
    const padded = row.map((cell, at) =>
      isNumber(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0),
    );
    console.log(`  ${padded.join('  ')}`.trimEnd());
    if (index === 0) console.log(`  ${widths.map((width) => '-'.repeat(width)).join('  ')}`);
  });
  for (const { what, isMet } of targets) console.log(`  ${isMet ? 'met   ' : 'MISSED'} ${what}`);
}

/** Keeps the figures as JSON, with the machine they belong to. */
export async function keepReport(report: Report): Promise<void> {
  const folder = join(home, 'bench', 'results');
  await mkdir(folder, { recursive: true });
  const machine = {
    node: process.versions.node,
    platform: process.platform,
    cores: cpus().length,
    cpu: cpus()[0]?.model,
  };
  const kept = { ...report, machine, at: new Date().toISOString() };
  await writeFile(join(folder, `${report.name}.json`), `${JSON.stringify(kept, null, 2)}\n`);
}

function show(value: string | number | undefined): string {
  if (typeof value !== 'number') return value ?? '';
  if (Number.isInteger(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** The value below which `share` (0–1) of the samples lie. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? Number.NaN;
}

export const median = (samples: readonly number[]) => quantile(samples, 0.5);

/** Milliseconds that `work` took. */
export async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
