import { zstdCompress, zstdDecompressSync } from 'node:zlib';
import { awaitable } from '../base/codec.ts';

const compress = awaitable(zstdCompress);
// Begins what this format writes; anything else is none of ours, or of another release.
const plainMark = 'c2\n';
const packedMark = 'c2z';
// The largest contents and metadata of one answer, with room for what JSON adds.
const plainBytesMax = 33_554_432;

/**
 * Makes text ready for layers 2 and 3: compressed from `compressBytes` on, null where it is above `layer2Bytes` then.
 */
export function createPacking(deps: { compressBytes: number; layer2Bytes: number }) {
  const { compressBytes, layer2Bytes } = deps;
  return async (plain: string): Promise<string | null> => {
    const bytes = Buffer.byteLength(plain);
    // What no compression can bring below the limit is not worth trying.
    if (bytes > Math.min(16 * layer2Bytes, plainBytesMax)) return null;
    const body = bytes < compressBytes ? plainMark + plain : packedMark + (await compress(plain)).toString('base64');
    return Buffer.byteLength(body) > layer2Bytes ? null : body;
  };
}

/** @throws Error for what {@link createPacking} has not made. */
export function unpack(text: string): string {
  if (text.startsWith(plainMark)) return text.slice(plainMark.length);
  if (!text.startsWith(packedMark)) throw new Error('an entry of another format');
  const packed = Buffer.from(text.slice(packedMark.length), 'base64');
  return zstdDecompressSync(packed, { maxOutputLength: plainBytesMax }).toString();
}
