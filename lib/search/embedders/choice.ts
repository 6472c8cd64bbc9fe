interface Model {
  readonly dimensions: number;
  readonly usd: number;
}

// Dimensions as a model has them when none are asked for, and the providers' list prices for a million tokens at the end of
// 2025; `search.usdPerMillionTokens` overrides them.
export const models: Readonly<Record<ProviderName, Readonly<Record<string, Model>>>> = {
  openai: {
    'text-embedding-3-small': { dimensions: 1536, usd: 0.02 },
    'text-embedding-3-large': { dimensions: 3072, usd: 0.13 },
    'text-embedding-ada-002': { dimensions: 1536, usd: 0.1 },
  },
  voyage: {
    'voyage-3.5': { dimensions: 1024, usd: 0.06 },
    'voyage-3.5-lite': { dimensions: 1024, usd: 0.02 },
    'voyage-3-large': { dimensions: 1024, usd: 0.18 },
    'voyage-code-3': { dimensions: 1024, usd: 0.18 },
  },
  cohere: {
    'embed-v4.0': { dimensions: 1536, usd: 0.12 },
    'embed-english-v3.0': { dimensions: 1024, usd: 0.1 },
    'embed-multilingual-v3.0': { dimensions: 1024, usd: 0.1 },
    'embed-english-light-v3.0': { dimensions: 384, usd: 0.1 },
    'embed-multilingual-light-v3.0': { dimensions: 384, usd: 0.1 },
  },
  bedrock: {
    'amazon.titan-embed-text-v2:0': { dimensions: 1024, usd: 0.02 },
    'amazon.titan-embed-text-v1': { dimensions: 1536, usd: 0.1 },
    'cohere.embed-english-v3': { dimensions: 1024, usd: 0.1 },
    'cohere.embed-multilingual-v3': { dimensions: 1024, usd: 0.1 },
    'cohere.embed-v4:0': { dimensions: 1536, usd: 0.12 },
  },
};

export const providerNames = ['openai', 'voyage', 'cohere', 'bedrock'] as const;
export type ProviderName = (typeof providerNames)[number];

/** A provider's model, and the dimensions that it is asked for; null leaves them to the model. */
export interface Choice {
  readonly provider: ProviderName;
  readonly model: string;
  readonly dimensions: number | null;
}

const dimensionsMin = 16;
// What pgvector stores: https://github.com/pgvector/pgvector#vector-type
const dimensionsMax = 16_000;

/**
 * Reads `provider:model[:dimensions]`; a model's own name may hold colons.
 *
 * @throws Error in one sentence for what is none.
 */
export function readChoice(text: string): Choice {
  const [name = '', ...rest] = text.split(':');
  const provider = providerNames.find((one) => one === name);
  if (provider === undefined)
    throw new Error(`${text} is no embedder; it is static, or one of ${providerNames.join(', ')} with :model.`);
  const last = Number(rest.at(-1));
  const dimensions = rest.length > 1 && Number.isInteger(last) && last >= dimensionsMin ? last : null;
  const model = (dimensions === null ? rest : rest.slice(0, -1)).join(':');
  if (model === '') throw new Error(`${text} names no model; write ${provider}:${Object.keys(models[provider])[0]}.`);
  if (dimensions === null && models[provider][model] === undefined)
    throw new Error(`How many dimensions ${text} has is not known here; write ${text}:1024, or what it is.`);
  if ((dimensions ?? 0) > dimensionsMax) throw new Error(`${text} has more than ${dimensionsMax} dimensions.`);
  return { provider, model, dimensions };
}

/** The embedders in use, the current one first; `static` is built in. */
export type EmbedderChoices = readonly ('static' | Choice)[];

/**
 * Reads `LAMINA_EMBEDDER`: an embedder, behind it, with commas between, those whose vectors are still to be searched.
 *
 * @throws Error in one sentence for what is none.
 */
export function readEmbedders(text: string | undefined): EmbedderChoices | undefined {
  return text?.split(',').map((one) => (one.trim() === 'static' ? 'static' : readChoice(one.trim())));
}

/** The models of a provider that are among them. @throws Error as {@link readEmbedders}. */
export const modelsOf = (text: string | undefined, provider: ProviderName): string[] =>
  (readEmbedders(text) ?? []).flatMap((one) => (one !== 'static' && one.provider === provider ? one.model : []));
