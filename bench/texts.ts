import { readFile } from 'node:fs/promises';

export const wordsEach = 130;

/** The words of the built-in vectors, in order of frequency. */
export async function readVocabulary(): Promise<string[]> {
  const file = await readFile(new URL('../lib/search/embedders/words.bin', import.meta.url));
  return file
    .subarray(file.length - file.readUInt32LE(8))
    .toString()
    .split('\n');
}

/** Texts whose words are as frequent as in language (Zipf), the same in every run. */
export function createTexts(vocabulary: readonly string[]) {
  const word = (next: () => number) => vocabulary[Math.floor(10 * ((vocabulary.length / 10 + 1) ** next() - 1))] ?? '';
  return {
    text(at: number) {
      let state = (at + 1) * 2_654_435_761;
      const next = () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state / 2 ** 32;
      };
      return Array.from({ length: wordsEach }, () => word(next)).join(' ');
    },
    query: (text: string) =>
      text
        .split(' ')
        .filter((_, at) => at % 26 === 7)
        .join(' '),
  };
}
