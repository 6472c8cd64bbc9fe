import { connect, type Socket } from 'node:net';

/** What Redis answers: RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/ */
export type Resp = string | number | null | Resp[] | RespError;

export interface RespError {
  readonly error: string;
}

export const isRespError = (value: Resp): value is RespError =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** One connection to a Redis server; commands are answered in the order sent. */
export interface RespClient {
  send(command: readonly string[]): Promise<Resp>;
  end(): void;
}

export async function connectResp(port: number): Promise<RespClient> {
  const socket: Socket = connect(port, '127.0.0.1');
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.setNoDelay(true);
  const waiting: { resolve: (value: Resp) => void; reject: (error: Error) => void }[] = [];
  let buffered: Buffer = Buffer.alloc(0);
  socket.on('data', (piece) => {
    buffered = buffered.length === 0 ? (piece as Buffer) : Buffer.concat([buffered, piece as Buffer]);
    for (let at = 0; ; ) {
      const read = readValue(buffered, at);
      if (read === undefined) {
        buffered = buffered.subarray(at);
        return;
      }
      at = read.end;
      waiting.shift()?.resolve(read.value);
      if (at === buffered.length) {
        buffered = Buffer.alloc(0);
        return;
      }
    }
  });
  const fail = () => {
    for (const { reject } of waiting.splice(0)) reject(new Error('the connection to Redis was lost'));
  };
  socket.on('error', fail);
  socket.on('close', fail);
  return {
    send(command) {
      return new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(new Error('the connection to Redis is gone'));
        waiting.push({ resolve, reject });
        const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('');
        socket.write(`*${command.length}\r\n${parts}`);
      });
    },
    end: () => socket.destroy(),
  };
}

function readValue(bytes: Buffer, at: number): { value: Resp; end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const line = bytes.toString('utf8', at + 1, lineEnd);
  const next = lineEnd + 2;
  switch (String.fromCharCode(bytes[at] ?? 0)) {
    case '+':
      return { value: line, end: next };
    case '-':
      return { value: { error: line }, end: next };
    case ':':
      return { value: Number(line), end: next };
    case '$': {
      const length = Number(line);
      if (length < 0) return { value: null, end: next };
      if (bytes.length < next + length + 2) return undefined;
      return { value: bytes.toString('utf8', next, next + length), end: next + length + 2 };
    }
    case '*': {
      const count = Number(line);
      if (count < 0) return { value: null, end: next };
      const items: Resp[] = [];
      let end = next;
      for (let index = 0; index < count; index++) {
        const item = readValue(bytes, end);
        if (item === undefined) return undefined;
        items.push(item.value);
        end = item.end;
      }
      return { value: items, end };
    }
    default:
      throw new Error(`Redis answered what is no RESP2: ${line}`);
  }
}
