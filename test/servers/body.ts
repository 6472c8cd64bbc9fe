import type { IncomingMessage } from 'node:http';

/**
 * The body of a request to one of the endpoints.
 *
 * @throws RangeError in Upstash's words where it has more than `bytesMax`.
 */
export async function readText(request: IncomingMessage, bytesMax: number): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new RangeError('ERR max request size exceeded');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}
