import type { Readable, Writable } from 'node:stream';
import { type JSONRPCMessage, type RequestId, serializeMessage, type Transport } from '@modelcontextprotocol/server';
import { decodeUtf8 } from '../http/body.ts';
import { readMessage } from './message.ts';

// Longest message that is taken; as much as the HTTP door takes by default.
const lineBytesMax = 16_777_216;

// No call takes longer; what is unanswered by then will stay so.
const answeringMs = 120_000;

/** One end of a conversation over two streams, a line of JSON a message. */
export interface LineTransport extends Transport {
  /** Settles when the input has ended and all it asked for is answered. */
  readonly finished: Promise<void>;
}

/** Unlike that of the SDK it reads messages as {@link readMessage} does, and answers what it was asked before the end. */
export function createLineTransport(input: Readable, output: Writable): LineTransport {
  const open = new Set<RequestId>();
  let hasEnded = false;
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });

  function close(id?: RequestId) {
    if (id !== undefined) open.delete(id);
    if (hasEnded && open.size === 0) finish();
  }

  function receive(line: Uint8Array): void {
    const text = decodeUtf8(line).trim();
    if (text === '') return;
    const message = readMessage(text) as JSONRPCMessage;
    if ('method' in message) {
      // Listening has no answer but its end.
      if ('id' in message && message.method !== 'subscriptions/listen') open.add(message.id);
      if (message.method === 'notifications/cancelled') close(message.params?.['requestId'] as RequestId);
    }
    transport.onmessage?.(message);
  }

  async function read(): Promise<void> {
    for await (const line of splitLines(input)) {
      try {
        receive(line);
      } catch (error) {
        const told = { code: -32700, message: `Parse error: ${(error as Error).message}` };
        await write({ jsonrpc: '2.0', id: null, error: told } as unknown as JSONRPCMessage);
      }
    }
  }

  const write = (message: JSONRPCMessage) =>
    new Promise<void>((resolve, reject) => {
      output.write(serializeMessage(message), (error) => (error ? reject(error) : resolve()));
    });

  const transport: LineTransport = {
    finished,
    async start() {
      output.on('error', (error) => transport.onerror?.(error));
      void read()
        .catch((error) => transport.onerror?.(error))
        .finally(() => {
          hasEnded = true;
          close();
          setTimeout(finish, answeringMs).unref();
        });
    },
    async send(message) {
      await write(message).finally(() => close('method' in message ? undefined : message.id));
    },
    async close() {
      transport.onclose?.();
    },
  };
  return transport;
}

async function* splitLines(input: AsyncIterable<Buffer>): AsyncIterable<Uint8Array> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...pieces, chunk.subarray(start, end)]);
      pieces = [];
      bytes = 0;
      start = end + 1;
    }
    bytes += chunk.length - start;
    if (bytes > lineBytesMax) throw new Error(`A message has more than ${lineBytesMax} bytes.`);
    pieces.push(chunk.subarray(start));
  }
}
