import { zstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { awaitable } from '../base/codec.ts';
import { sha256 } from '../base/hash.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { Slice } from './read.sql.ts';

/** Contents are stored in parts of at most this, before encoding. */
export const partBytes = 4 * 1024 * 1024;

/** Content ready to be sent to PostgreSQL. */
export interface EncodedContent {
  readonly hash: string;
  readonly sizeBytes: number;
  readonly encoding: 'raw' | 'zstd';
  /** Base64 of each part. */
  readonly parts: readonly string[];
}

const compress = awaitable(zstdCompress);

/** Compresses where it saves a tenth or more; below 1 KiB it never pays for itself. */
export async function encodeContent(bytes: Uint8Array): Promise<EncodedContent> {
  const plain: Uint8Array[] = [];
  for (let start = 0; start === 0 || start < bytes.length; start += partBytes) {
    plain.push(bytes.subarray(start, start + partBytes));
  }
  const packed = bytes.length < 1024 ? plain : await Promise.all(plain.map(pack));
  const isSmaller = packed.reduce((sum, part) => sum + part.length, 0) < bytes.length * 0.9;
  return {
    hash: sha256(bytes),
    sizeBytes: bytes.length,
    encoding: isSmaller ? 'zstd' : 'raw',
    parts: (isSmaller ? packed : plain).map((part) => Buffer.from(part).toString('base64')),
  };
}

/** The bytes of parts as `content_parts` gives them: `[encoding, base64]` each, in order. */
export function decodeContent(parts: readonly (readonly [string, string])[]): Uint8Array {
  const decoded = parts.map(([encoding, base64]) => {
    const bytes = Buffer.from(base64, 'base64');
    return encoding === 'zstd' ? zstdDecompressSync(bytes) : bytes;
  });
  return decoded.length === 1 ? (decoded[0] as Buffer) : Buffer.concat(decoded);
}

// On the way to us a byte is many: as base64, in JSON, as text, as bytes again. So a part comes in pieces.
const sliceBytes = 1024 * 1024;

/**
 * The bytes of a part.
 *
 * @param read fetches a piece as `readContentSlice` does.
 */
export async function joinSlices(
  read: (at: { readonly start: number; readonly bytesMax: number }) => Promise<Slice>,
): Promise<Uint8Array> {
  let stored: Buffer | undefined;
  for (let start = 0; ; ) {
    const { encoding, storedBytes, base64 } = await read({ start, bytesMax: sliceBytes });
    stored ??= Buffer.allocUnsafe(storedBytes);
    start += stored.write(base64, start, 'base64');
    if (start < storedBytes) continue;
    // Into one buffer that holds any part, instead of many that are then put together.
    return encoding === 'zstd' ? zstdDecompressSync(stored, { chunkSize: partBytes }) : stored;
  }
}

// Small parts are done before a thread could be asked.
function pack(part: Uint8Array): MaybePromise<Uint8Array> {
  return part.length < 65_536 ? zstdCompressSync(part) : compress(part);
}
