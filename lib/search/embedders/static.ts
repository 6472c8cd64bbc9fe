import { readFile } from 'node:fs/promises';
import { type Run, splitRuns } from '../analysis.ts';
import { type Embedder, toUnit } from '../embedder.ts';

interface Table {
  /** Those of the words of a run. */
  readonly rowsOf: (run: Run) => readonly number[];
  readonly scales: Float32Array;
  readonly values: Int8Array;
  readonly dimensions: number;
}

let table: Promise<Table> | undefined;

/**
 * The embedder that needs nobody: the mean of the vectors of a text's words, from the table beside this file. English
 * only; a text without a known word has no vector. Weighted variants were measured to be worse.
 */
export function createStaticEmbedder(): Embedder {
  return {
    id: 'static:glove-6b-30k:100:1',
    dimensions: 100,
    weight: 0.2,
    isRemote: false,
    batchMax: 1024,
    async embed(texts, { runs }) {
      table ??= readTable();
      const known = await table;
      return texts.map((text, at) => mean(known, runs?.[at] ?? splitRuns(text)));
    },
  };
}

function mean({ rowsOf, scales, values, dimensions }: Table, runs: readonly Run[]): Float32Array | null {
  const sum = new Float64Array(dimensions);
  for (const run of runs) {
    for (const row of rowsOf(run)) {
      const scale = scales[row] as number;
      let at = row * dimensions;
      // Four at a time take half the time.
      for (let index = 0; index < dimensions; index += 4, at += 4) {
        sum[index] = (sum[index] as number) + scale * (values[at] as number);
        sum[index + 1] = (sum[index + 1] as number) + scale * (values[at + 1] as number);
        sum[index + 2] = (sum[index + 2] as number) + scale * (values[at + 2] as number);
        sum[index + 3] = (sum[index + 3] as number) + scale * (values[at + 3] as number);
      }
    }
  }
  return toUnit(new Float32Array(sum));
}

/** Words and dimensions and the bytes of the words; a scale for each row; the rows; the words, in the same order. */
async function readTable(): Promise<Table> {
  const file = await readFile(new URL('words.bin', import.meta.url));
  const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
  const [count = 0, dimensions = 0, wordBytes = 0] = new Uint32Array(buffer, 0, 3);
  const scales = new Float32Array(buffer, 12, count);
  const values = new Int8Array(buffer, 12 + 4 * count, count * dimensions);
  const words = Buffer.from(buffer, buffer.byteLength - wordBytes)
    .toString()
    .split('\n');
  const rows = new Map(words.map((word, row) => [word, row]));
  const known = new WeakMap<Run, readonly number[]>();
  const rowsOf = (run: Run) => {
    const before = known.get(run);
    if (before !== undefined) return before;
    const made = run.words.flatMap(({ text, isIndexOnly }) => (isIndexOnly ? [] : (rows.get(text) ?? [])));
    known.set(run, made);
    return made;
  };
  return { rowsOf, scales, values, dimensions };
}
