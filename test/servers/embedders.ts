import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createStaticEmbedder } from '../../lib/search/embedders/static.ts';
import { readText } from './body.ts';

/** One request as it came. */
export interface Call {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  // biome-ignore lint/suspicious/noExplicitAny: each provider has its own
  readonly body: any;
}

/** What the endpoint does instead of answering. */
export type Failure =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  | 'hang'
  | 'drop'
  | undefined;

/** The embedding APIs of the providers in their documented forms, on loopback, strict about what they are asked. */
export interface EmbedderEndpoint {
  readonly url: string;
  readonly calls: Call[];
  /** What becomes of the next requests, one after another; then they are answered. */
  fail(...failures: readonly Failure[]): void;
  /** What becomes of all requests from now on. */
  failAlways(failure: Failure): void;
  stop(): Promise<void>;
}

export const keys = {
  openai: 'sk-test-openai',
  voyage: 'pa-test-voyage',
  cohere: 'co-test-cohere',
  aws: 'aws-test-secret',
};

const built = createStaticEmbedder();

/** The built-in vectors, repeated to the length that is asked for, so that likeness means what it does there. */
async function embed(text: string, dimensions: number): Promise<number[]> {
  const [vector] = await built.embed([text], { purpose: 'document' });
  if (text.includes('BROKEN')) return [1, 2, 3];
  return Array.from({ length: dimensions }, (_, at) => vector?.[at % 100] ?? (at === 0 ? 1e-3 : 0));
}

const tokensOf = (texts: readonly string[]) => texts.reduce((sum, text) => sum + Math.ceil(text.length / 4), 0);
const toBase64 = (vector: readonly number[]) => Buffer.from(Float32Array.from(vector).buffer).toString('base64');

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function require(isGood: unknown, message: string, status = 400): asserts isGood {
  if (!isGood) throw new Refusal(status, message);
}

function requireTexts(texts: unknown, max: number, lengthMax: number): asserts texts is string[] {
  require(Array.isArray(texts) && texts.length > 0 && texts.length <= max, `1 to ${max} texts`);
  for (const text of texts) {
    require(typeof text === 'string' && text !== '', 'a text');
    require(text.length <= lengthMax, 'maximum context length');
    require(!text.includes('FORBIDDEN'), 'flagged');
  }
}

function requireMembers(body: object, known: readonly string[]): void {
  for (const key of Object.keys(body)) require(known.includes(key), `unknown member ${key}`);
}

export async function startEmbedders(): Promise<EmbedderEndpoint> {
  const calls: Call[] = [];
  const failures: Failure[] = [];
  let always: Failure;
  const server = createServer(async (request, response) => {
    const text = await readText(request, 4_000_000);
    const path = request.url ?? '';
    calls.push({ path, headers: request.headers, body: JSON.parse(text) });
    const failure = failures.shift() ?? always;
    if (failure === 'hang') return;
    if (failure === 'drop') {
      request.socket.destroy();
      return;
    }
    const send = (status: number, body: string, headers: Record<string, string> = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
    if (failure !== undefined) {
      send(failure.status, failure.body ?? '{"message":"no"}', failure.headers);
      return;
    }
    try {
      const { body, headers } = await answer(request, path, text);
      send(200, JSON.stringify(body), headers);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      send(error.status, JSON.stringify({ message: error.message, echo: text }));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    fail: (...next) => void failures.push(...next),
    failAlways(failure) {
      always = failure;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  request: IncomingMessage,
  path: string,
  text: string,
): Promise<{ body: unknown; headers?: Record<string, string> }> {
  const body = JSON.parse(text);
  const isFrom = (key: string) => request.headers.authorization === `Bearer ${key}`;
  if (path === '/openai/embeddings') {
    require(isFrom(keys.openai), 'no key', 401);
    requireMembers(body, ['model', 'input', 'encoding_format', 'dimensions']);
    requireTexts(body.input, 2048, 8191);
    return {
      body: {
        object: 'list',
        model: body.model,
        ...(await toIndexed(body.input, body.dimensions ?? 1536, body.encoding_format)),
      },
    };
  }
  if (path === '/voyage/embeddings') {
    require(isFrom(keys.voyage), 'no key', 401);
    requireMembers(body, ['model', 'input', 'input_type', 'truncation', 'output_dimension', 'encoding_format']);
    require(['document', 'query'].includes(body.input_type), 'input_type');
    requireTexts(body.input, 1000, body.truncation ? 1e9 : 32_000);
    return {
      body: {
        object: 'list',
        model: body.model,
        ...(await toIndexed(body.input, body.output_dimension ?? 1024, body.encoding_format)),
      },
    };
  }
  if (path === '/cohere/v2/embed') {
    require(isFrom(keys.cohere), 'no key', 401);
    requireMembers(body, ['model', 'texts', 'input_type', 'embedding_types', 'truncate', 'output_dimension']);
    requireTexts(body.texts, 96, body.truncate === 'END' ? 1e9 : 2000);
    return {
      body: {
        id: '1',
        texts: body.texts,
        ...(await toFloats(body, 1536)),
        meta: { billed_units: { input_tokens: tokensOf(body.texts) } },
      },
    };
  }
  const [, model] = /^\/bedrock\/model\/([^/]+)\/invoke$/.exec(path) ?? [];
  require(model !== undefined, 'no such path', 404);
  requireSignature(request, path, text);
  if (decodeURIComponent(model).includes('cohere.')) {
    requireMembers(body, ['texts', 'input_type', 'embedding_types', 'truncate', 'output_dimension']);
    requireTexts(body.texts, 96, 2048);
    const headers = { 'x-amzn-bedrock-input-token-count': String(tokensOf(body.texts)) };
    return {
      body: { id: '1', texts: body.texts, response_type: 'embeddings_by_type', ...(await toFloats(body, 1024)) },
      headers,
    };
  }
  requireMembers(body, ['inputText', 'dimensions', 'normalize']);
  requireTexts([body.inputText], 1, 8192);
  const embedding = await embed(body.inputText, body.dimensions ?? 1024);
  return {
    body: { embedding, inputTextTokenCount: tokensOf([body.inputText]), embeddingsByType: { float: embedding } },
  };
}

/** In another order than they were asked for, since each tells its place. */
async function toIndexed(input: string[], dimensions: number, format: string | undefined) {
  const data = await Promise.all(
    input.map(async (text, index) => {
      const vector = await embed(text, dimensions);
      return { object: 'embedding', index, embedding: format === 'base64' ? toBase64(vector) : vector };
    }),
  );
  const tokens = tokensOf(input);
  return { data: data.reverse(), usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

async function toFloats(
  body: {
    texts: string[];
    input_type: string;
    embedding_types: string[];
    output_dimension?: number;
  },
  own: number,
) {
  require(['search_document', 'search_query'].includes(body.input_type), 'input_type');
  require(body.embedding_types?.[0] === 'float', 'embedding_types');
  const float = await Promise.all(body.texts.map((text) => embed(text, body.output_dimension ?? own)));
  return { embeddings: { float } };
}

/** AWS Signature Version 4, as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html has it. */
function requireSignature(request: IncomingMessage, path: string, text: string): void {
  const { authorization = '', 'x-amz-date': date = '' } = request.headers as Record<string, string>;
  const [, scope = '', signed = '', signature = ''] =
    /^AWS4-HMAC-SHA256 Credential=AKTEST\/([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      authorization,
    ) ?? [];
  const [day = '', region = '', service = ''] = scope.split('/');
  require(region === 'eu-central-1' && service === 'bedrock' && date.startsWith(day), 'scope', 403);
  const hash = (value: string) => createHash('sha256').update(value).digest('hex');
  const sign = (key: string | Buffer, value: string) => createHmac('sha256', key).update(value).digest();
  const headers = signed.split(';').map((name) => `${name}:${String(request.headers[name]).trim()}\n`);
  // Each part of the path is encoded once more than it travels.
  const canonicalPath = path.split('/').map(encodeURIComponent).join('/');
  const canonical = ['POST', canonicalPath, '', headers.join(''), signed, hash(text)].join('\n');
  const key = [region, service, 'aws4_request'].reduce<Buffer>(sign, sign(`AWS4${keys.aws}`, day));
  const expected = sign(key, ['AWS4-HMAC-SHA256', date, scope, hash(canonical)].join('\n')).toString('hex');
  require(signed.includes('host') && signature === expected, 'signature', 403);
}
