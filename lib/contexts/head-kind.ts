import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Kind } from '../cache/kind.ts';
import type { Context, ContextHead } from './context.ts';

/** A head as the caches keep it: tombstones are values too, and null is an id without a context. */
export type CachedHead = Context | null;

// Begins what this format writes; anything else is none of ours, or of another release.
const plainMark = 'h1\n';
const packedMark = 'h1z';
const states: readonly string[] = ['live', 'deleted'] satisfies ContextHead['state'][];
// The largest content and metadata that are inline, with room for what JSON adds.
const plainBytesMax = 16_777_216;

/**
 * Heads in the caches: a line of JSON, then the content as it stands, packed where that pays.
 *
 * @param limits.tombstoneDays after this long cleanup may forget a tombstone, which is no change that anybody is told of.
 * @param limits.compressBytes from this size on a value is compressed for layer 2.
 * @param limits.layer2Bytes larger values, as they travel, are left out of layer 2.
 */
export function createHeadKind(limits: {
  readonly ttlMs: number;
  readonly tombstoneDays: number;
  readonly compressBytes: number;
  readonly layer2Bytes: number;
}): Kind<CachedHead> {
  return {
    name: 'head',
    ttlMs: limits.ttlMs,

    encode(head, id) {
      const { content, ...rest } = head ?? { content: undefined };
      const text =
        content === undefined ? '' : Buffer.from(content.buffer, content.byteOffset, content.length).toString();
      const has = content !== undefined;
      const plain = `${JSON.stringify({ id, head: head === null ? null : rest, hasContent: has })}\n${text}`;
      const bytes = Buffer.byteLength(plain);
      // What no compression can bring below the limit is not worth trying.
      if (bytes > 16 * limits.layer2Bytes) return null;
      const body =
        bytes < limits.compressBytes ? plainMark + plain : packedMark + zstdCompressSync(plain).toString('base64');
      return Buffer.byteLength(body) > limits.layer2Bytes ? null : body;
    },

    decode(text, id) {
      const plain = text.startsWith(plainMark)
        ? text.slice(plainMark.length)
        : text.startsWith(packedMark)
          ? zstdDecompressSync(Buffer.from(text.slice(packedMark.length), 'base64'), {
              maxOutputLength: plainBytesMax,
            }).toString()
          : undefined;
      if (plain === undefined) throw new Error('an entry of another format');
      const end = plain.indexOf('\n');
      const line = JSON.parse(plain.slice(0, end)) as { id: string; head: ContextHead | null; hasContent: boolean };
      const { head, hasContent } = line;
      if (line.id !== id) throw new Error('an entry of something else');
      if (head === null) return null;
      const content = hasContent ? Buffer.from(plain.slice(end + 1)) : undefined;
      const isWhole = content === undefined || content.length === head.sizeBytes;
      const isHead = head.id === id && typeof head.metadata === 'string' && states.includes(head.state);
      if (!isHead || !isWhole) throw new Error('a damaged entry');
      return content === undefined ? head : { ...head, content };
    },

    bytesOf: (head) => 600 + (head?.content?.length ?? 0) + (head?.metadata.length ?? 0),

    // Expiry makes a head a tombstone, which whoever reads it sees from its own time; a tombstone may be forgotten.
    expiresMs: (head) => (head?.state === 'deleted' ? head.updatedMs + limits.tombstoneDays * 86_400_000 : null),
  };
}
