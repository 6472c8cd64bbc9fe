import { AwsClient } from 'aws4fetch';
import * as z from 'zod';
import { cutText } from '../../base/text.ts';
import { type Choice, models, type ProviderName } from './choice.ts';
import type { Provider } from './remote.ts';

/** Where the providers are, and who asks them. Of each only what is configured is there. */
export interface ProviderAccess {
  readonly openai?: { readonly key: string; readonly baseUrl?: string | undefined } | undefined;
  readonly voyage?: { readonly key: string; readonly baseUrl?: string | undefined } | undefined;
  readonly cohere?: { readonly key: string; readonly baseUrl?: string | undefined } | undefined;
  readonly bedrock?:
    | {
        readonly accessKeyId: string;
        readonly secretAccessKey: string;
        readonly sessionToken?: string | undefined;
        readonly region: string;
        readonly baseUrl?: string | undefined;
      }
    | undefined;
}

/**
 * @param usdPerMillionTokens what its tokens cost, where that is not the list price.
 * @throws Error in one sentence where the provider's key is missing.
 */
export function createProvider(choice: Choice, access: ProviderAccess, usdPerMillionTokens: number | null): Provider {
  const known = models[choice.provider][choice.model];
  const dimensions = choice.dimensions ?? known?.dimensions ?? 0;
  const common = {
    id: `${choice.provider}:${choice.model}:${dimensions}`,
    dimensions,
    usdPerMillionTokens: usdPerMillionTokens ?? known?.usd ?? null,
  };
  if (choice.provider === 'bedrock')
    return {
      ...common,
      ...bedrock(
        choice,
        need(access.bedrock, 'AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY', choice),
        dimensions,
      ),
    };
  if (choice.provider === 'openai')
    return { ...common, ...openai(choice, need(access.openai, 'OPENAI_API_KEY', choice)) };
  if (choice.provider === 'voyage')
    return { ...common, ...voyage(choice, need(access.voyage, 'VOYAGE_API_KEY', choice)) };
  return { ...common, ...cohere(choice, need(access.cohere, 'COHERE_API_KEY', choice)) };
}

function need<Access>(access: Access | undefined, names: string, { provider, model }: Choice): Access {
  if (access === undefined) throw new Error(`The embedder ${provider}:${model} needs ${names}.`);
  return access;
}

type Kept = Omit<Provider, 'id' | 'dimensions' | 'usdPerMillionTokens'>;

/** A token is a byte at least, and a UTF-16 unit three bytes at most. */
const cutTokens = (tokens: number) => (text: string) =>
  Buffer.byteLength(text) <= tokens ? text : cutText(text, Math.floor(tokens / 3));

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

const indexed = z.object({
  data: z.array(z.object({ index: z.int(), embedding: z.unknown() })),
  usage: z.object({ total_tokens: z.int().min(0) }).optional(),
});

function readIndexed(answer: unknown) {
  const { data, usage } = indexed.parse(answer);
  const vectors = new Array<unknown>(data.length);
  for (const { index, embedding } of data) vectors[index] = embedding;
  return { vectors, tokens: usage?.total_tokens ?? 0 };
}

/** https://platform.openai.com/docs/api-reference/embeddings: 2,048 texts of 8,191 tokens; what is longer is refused. */
function openai({ model, dimensions }: Choice, { key, baseUrl = 'https://api.openai.com/v1' }: Access<'openai'>): Kept {
  return {
    url: `${baseUrl}/embeddings`,
    headers: bearer(key),
    textsMax: 128,
    callsMax: 4,
    cut: cutTokens(8191),
    toBody: (input) => ({ model, input, encoding_format: 'base64', ...(dimensions === null ? {} : { dimensions }) }),
    readAnswer: readIndexed,
  };
}

/** https://docs.voyageai.com/reference/embeddings-api: 1,000 texts; cuts what is too long. */
function voyage(
  { model, dimensions }: Choice,
  { key, baseUrl = 'https://api.voyageai.com/v1' }: Access<'voyage'>,
): Kept {
  return {
    url: `${baseUrl}/embeddings`,
    headers: bearer(key),
    textsMax: 128,
    callsMax: 4,
    cut: (text) => text,
    toBody: (input, purpose) => ({
      model,
      input,
      input_type: purpose,
      truncation: true,
      encoding_format: 'base64',
      ...(dimensions === null ? {} : { output_dimension: dimensions }),
    }),
    readAnswer: readIndexed,
  };
}

const cohereAnswer = z.object({
  embeddings: z.union([z.object({ float: z.array(z.unknown()) }), z.array(z.unknown())]),
  meta: z.object({ billed_units: z.object({ input_tokens: z.number().optional() }).optional() }).optional(),
});

function readCohere(answer: unknown) {
  const { embeddings, meta } = cohereAnswer.parse(answer);
  const vectors = Array.isArray(embeddings) ? embeddings : embeddings.float;
  return { vectors, tokens: meta?.billed_units?.input_tokens ?? 0 };
}

const cohereType = { document: 'search_document', query: 'search_query' } as const;

/** https://docs.cohere.com/reference/embed: 96 texts; cuts what is too long. */
function cohere({ model, dimensions }: Choice, { key, baseUrl = 'https://api.cohere.com' }: Access<'cohere'>): Kept {
  return {
    url: `${baseUrl}/v2/embed`,
    headers: bearer(key),
    textsMax: 96,
    callsMax: 4,
    cut: (text) => text,
    toBody: (texts, purpose) => ({
      model,
      texts,
      input_type: cohereType[purpose],
      embedding_types: ['float'],
      truncate: 'END',
      ...(dimensions === null ? {} : { output_dimension: dimensions }),
    }),
    readAnswer: readCohere,
  };
}

const titanAnswer = z.object({ embedding: z.unknown(), inputTextTokenCount: z.int().min(0).optional() });

/**
 * https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html: one text of 8,192 tokens a
 * call; https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html: Cohere's, 96 texts of
 * 2,048 characters.
 */
function bedrock({ model, dimensions: asked }: Choice, access: Access<'bedrock'>, dimensions: number): Kept {
  const { region, baseUrl = `https://bedrock-runtime.${region}.amazonaws.com` } = access;
  const client = new AwsClient({
    accessKeyId: access.accessKeyId,
    secretAccessKey: access.secretAccessKey,
    ...(access.sessionToken === undefined ? {} : { sessionToken: access.sessionToken }),
    service: 'bedrock',
    region,
    retries: 0,
  });
  const common = {
    url: `${baseUrl}/model/${encodeURIComponent(model)}/invoke`,
    headers: {},
    sign: (url: string, init: { method: string; headers: Headers; body: string }) => client.sign(url, init),
  };
  // Also by an inference profile, such as eu.cohere.embed-v4:0.
  if (/(^|\.)cohere\./.test(model))
    return {
      ...common,
      textsMax: 96,
      callsMax: 4,
      cut: (text) => cutText(text, 2048),
      toBody: (texts, purpose) => ({
        texts,
        input_type: cohereType[purpose],
        embedding_types: ['float'],
        truncate: 'END',
        ...(asked === null ? {} : { output_dimension: asked }),
      }),
      readAnswer: (answer, headers) => ({
        ...readCohere(answer),
        tokens: Number(headers.get('x-amzn-bedrock-input-token-count') ?? 0),
      }),
    };
  return {
    ...common,
    textsMax: 1,
    callsMax: 8,
    cut: cutTokens(8192),
    // The first version takes nothing but a text.
    toBody: ([inputText]) => (model.endsWith('-v1') ? { inputText } : { inputText, dimensions, normalize: true }),
    readAnswer(answer) {
      const { embedding, inputTextTokenCount } = titanAnswer.parse(answer);
      return { vectors: [embedding], tokens: inputTextTokenCount ?? 0 };
    },
  };
}

type Access<Name extends ProviderName> = NonNullable<ProviderAccess[Name]>;
