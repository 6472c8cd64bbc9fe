import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Kind } from '../cache/kind.ts';
import type { Context, ContextHead } from './context.ts';

/** A head as the caches keep it: tombstones are values too, and null is an id without a context. */
export type CachedHead = Context | null;

// Begins what this format writes; anything else is none of ours, or of another release.
const plainMark = 'h1\n';
const packedMark = 'h1z';

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

    encode(head) {
      const { content, ...rest } = head ?? { content: undefined };
      const text =
        content === undefined ? '' : Buffer.from(content.buffer, content.byteOffset, content.length).toString();
      const has = content !== undefined;
      const plain = `${JSON.stringify({ head: head === null ? null : rest, hasContent: has })}\n${text}`;
      const body =
        plain.length < limits.compressBytes
          ? plainMark + plain
          : packedMark + zstdCompressSync(plain).toString('base64');
      return body.length > limits.layer2Bytes ? null : body;
    },

    decode(text) {
      const plain = text.startsWith(plainMark)
        ? text.slice(plainMark.length)
        : text.startsWith(packedMark)
          ? zstdDecompressSync(Buffer.from(text.slice(packedMark.length), 'base64')).toString()
          : undefined;
      if (plain === undefined) throw new Error('an entry of another format');
      const end = plain.indexOf('\n');
      const { head, hasContent } = JSON.parse(plain.slice(0, end)) as { head: ContextHead | null; hasContent: boolean };
      if (head === null || !hasContent) return head;
      return { ...head, content: Buffer.from(plain.slice(end + 1)) };
    },

    bytesOf: (head) => 600 + (head?.content?.length ?? 0) + (head?.metadata.length ?? 0),

    // Expiry makes a head a tombstone, which whoever reads it sees from its own time; a tombstone may be forgotten.
    expiresMs: (head) => (head?.state === 'deleted' ? head.updatedMs + limits.tombstoneDays * 86_400_000 : null),
  };
}
