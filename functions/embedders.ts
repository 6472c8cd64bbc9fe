import type { Settings } from '../lib/config/settings.ts';
import type { Embedder } from '../lib/search/embedder.ts';
import type { EmbedderChoices } from '../lib/search/embedders/choice.ts';
import type { ProviderAccess } from '../lib/search/embedders/providers.ts';
import { createStaticEmbedder } from '../lib/search/embedders/static.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';

/** Who may ask the providers, by the variables that their own clients read. */
export function readProviderAccess(text: (name: string) => string | undefined): ProviderAccess {
  const urlOf = (name: string) => text(name)?.replace(/\/+$/, '');
  const keyed = (key: string | undefined, baseUrl: string | undefined) =>
    key === undefined ? undefined : { key, baseUrl };
  const region = text('AWS_REGION') ?? text('AWS_DEFAULT_REGION');
  const [accessKeyId, secretAccessKey] = [text('AWS_ACCESS_KEY_ID'), text('AWS_SECRET_ACCESS_KEY')];
  return {
    openai: keyed(text('OPENAI_API_KEY'), urlOf('OPENAI_BASE_URL')),
    voyage: keyed(text('VOYAGE_API_KEY'), urlOf('VOYAGE_API_BASE')),
    cohere: keyed(text('COHERE_API_KEY') ?? text('CO_API_KEY'), urlOf('CO_API_URL')),
    bedrock:
      region && accessKeyId && secretAccessKey
        ? {
            region,
            accessKeyId,
            secretAccessKey,
            sessionToken: text('AWS_SESSION_TOKEN'),
            baseUrl: urlOf('AWS_ENDPOINT_URL_BEDROCK_RUNTIME'),
          }
        : undefined,
  };
}

/**
 * The built-in one is always among them: what it made before another was chosen is searched until that has taken over.
 *
 * @throws Error in one sentence where a provider's key is missing.
 */
export async function openEmbedders(
  choices: EmbedderChoices,
  access: ProviderAccess,
  { settings, telemetry }: { settings: Settings; telemetry: Telemetry },
): Promise<readonly [Embedder, ...Embedder[]]> {
  const builtIn = createStaticEmbedder();
  const named = await Promise.all(
    choices.map(async (choice) => {
      if (choice === 'static') return builtIn;
      // Only who asks one loads what it is asked with.
      const { createProvider } = await import('../lib/search/embedders/providers.ts');
      const { createRemoteEmbedder } = await import('../lib/search/embedders/remote.ts');
      const provider = createProvider(choice, access, settings.search.usdPerMillionTokens);
      return createRemoteEmbedder({ provider, telemetry });
    }),
  );
  const [first = builtIn, ...others] = new Map([...named, builtIn].map((one) => [one.id, one])).values();
  return [first, ...others];
}
