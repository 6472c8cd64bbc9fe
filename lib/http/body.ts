import { brotliDecompress, gunzip, inflate, type ZlibOptions, zstdDecompress } from 'node:zlib';
import { awaitable } from '../base/codec.ts';
import { isJsonNumber, isJsonObject, type Json, type JsonObject } from '../base/json.ts';
import { parseJsonKeeping, type RawJson } from '../base/json-parse.ts';
import { invalid, Problem } from '../base/problem.ts';
import { contextTooLarge } from '../contexts/outcomes.ts';

const decoders = {
  gzip: awaitable(gunzip),
  'x-gzip': awaitable(gunzip),
  deflate: awaitable(inflate),
  br: awaitable(brotliDecompress),
  zstd: decodeZstd,
} as const;

/**
 * Reads and decodes a body of at most `bytesMax` decoded bytes; nothing beyond the limit is ever held.
 *
 * @param advice what whoever sends more may do instead.
 * @throws Problem `context_too_large`, `unsupported_media_type` for an encoding nobody knows, `invalid_request` for one
 *   that does not decode.
 */
export async function readBody(request: Request, bytesMax: number, advice?: string): Promise<Uint8Array> {
  const tooLarge = (bytes: number) => contextTooLarge(bytes, bytesMax, advice);
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > bytesMax) throw tooLarge(declared);
  const encoded = await collect(request.body, bytesMax, tooLarge);
  const encoding = request.headers.get('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return encoded;
  if (!Object.hasOwn(decoders, encoding)) {
    throw new Problem('unsupported_media_type', `Content-Encoding ${encoding} is not known; use gzip or zstd.`);
  }
  try {
    return await decoders[encoding as keyof typeof decoders](encoded, { maxOutputLength: bytesMax });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(bytesMax + 1);
    throw invalid('', `the body is not ${encoding}`);
  }
}

interface Decoded {
  readonly buffer: Buffer;
  /** `bytesWritten` counts the encoded bytes taken. */
  readonly engine: { readonly bytesWritten: number };
}

/** All frames of a zstd stream, as RFC 8878 has it; Node decodes one and keeps quiet about the rest. */
async function decodeZstd(encoded: Uint8Array, { maxOutputLength = 0 }: ZlibOptions): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for (let at = 0; at < encoded.length || at === 0; ) {
    const options = { maxOutputLength: Math.max(maxOutputLength - bytes, 1), info: true };
    const decode = awaitable(zstdDecompress) as unknown as (from: Uint8Array, how: object) => Promise<Decoded>;
    const { buffer, engine } = await decode(encoded.subarray(at), options);
    if (engine.bytesWritten === 0) throw new Error('not a frame');
    at += engine.bytesWritten;
    bytes += buffer.length;
    pieces.push(buffer);
  }
  if (bytes > maxOutputLength) throw Object.assign(new Error('too large'), { code: 'ERR_BUFFER_TOO_LARGE' });
  return Buffer.concat(pieces);
}

async function collect(
  stream: ReadableStream<Uint8Array> | null,
  bytesMax: number,
  tooLarge: (bytes: number) => Problem,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  if (stream !== null) {
    try {
      for await (const piece of stream) {
        bytes += piece.length;
        if (bytes > bytesMax) throw tooLarge(bytes);
        pieces.push(piece);
      }
    } catch (error) {
      // Whoever sent it has gone away in the middle.
      throw error instanceof Problem ? error : invalid('', 'the body ended before its end');
    }
  }
  return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
}

/**
 * The media type of a request without its parameters, in lower case.
 *
 * @throws Problem `unsupported_media_type` for another charset than UTF-8, or a type that is not among `types` (a type
 *   ending in `/*` stands for all below it).
 */
export function requireType(header: string | null, types: readonly string[]): string {
  const [type = '', ...parameters] = (header ?? '').toLowerCase().split(';');
  for (const parameter of parameters) {
    const [name = '', value = ''] = parameter.split('=').map((part) => part.trim().replaceAll('"', ''));
    if (name === 'charset' && value !== 'utf-8' && value !== 'utf8') {
      throw new Problem('unsupported_media_type', `The charset ${value} is not taken; send UTF-8.`);
    }
  }
  const media = type.trim();
  const isTaken = types.some((one) => (one.endsWith('/*') ? media.startsWith(one.slice(0, -1)) : media === one));
  if (!isTaken || !/^[a-z]+\/[a-z0-9!#$&^_.+-]{1,100}$/.test(media)) {
    throw new Problem('unsupported_media_type', `Content-Type is one of ${types.join(', ')}.`, { types });
  }
  return media;
}

/** @throws Problem `unprocessable` where the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Problem('unprocessable', 'The body is not valid UTF-8.', {
      errors: [{ path: '', message: 'is not valid UTF-8' }],
    });
  }
}

// These members keep the text they were sent as.
const rawKeys = new Set(['content', 'metadata']);

/** Parses a JSON body into ordinary JavaScript in which `content` and `metadata` are {@link RawJson}. */
export function parseBody(bytes: Uint8Array): unknown {
  const { value, raws } = parseJsonKeeping(decodeUtf8(bytes).replace(/^\ufeff/, ''), rawKeys);
  return toPlainKeeping(value, raws);
}

function toPlainKeeping(value: Json, raws: ReadonlyMap<JsonObject, ReadonlyMap<string, RawJson>>): unknown {
  if (Array.isArray(value)) return value.map((element) => toPlainKeeping(element, raws));
  if (isJsonObject(value)) {
    const own = raws.get(value);
    const plain: Record<string, unknown> = Object.create(null);
    for (const [key, member] of value) plain[key] = own?.get(key) ?? toPlainKeeping(member, raws);
    return plain;
  }
  return isJsonNumber(value) ? Number(value.number) : value;
}
