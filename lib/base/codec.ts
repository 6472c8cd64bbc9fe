import type { ZlibOptions, ZstdOptions } from 'node:zlib';

type Codec<Options> = (
  input: string | Uint8Array,
  options: Options,
  done: (error: Error | null, output: Buffer) => void,
) => void;

/**
 * One of Node's codecs as a promise, off the main thread. The `promisify` that Node has for it would bring a module along that
 * takes 7 ms of each start.
 */
export function awaitable<Options extends ZlibOptions | ZstdOptions>(codec: Codec<Options>) {
  return (input: string | Uint8Array, options?: Options): Promise<Buffer<ArrayBuffer>> =>
    new Promise((resolve, reject) => {
      codec(input, options ?? ({} as Options), (error, output) => {
        if (error) reject(error);
        else resolve(output as Buffer<ArrayBuffer>);
      });
    });
}
