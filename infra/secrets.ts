import type { Data } from './data.ts';

/** The variables that are secrets, in one linked object: encrypted in each bundle, in no environment. */
export type SecretEnvironment = sst.Linkable<Record<string, $util.Input<string>>>;

// Without a value these are as if they were not there.
const optional = {
  LAMINA_NEON_ENDPOINT: 'NeonEndpoint',
  WEAVIATE_URL: 'WeaviateUrl',
  WEAVIATE_GRPC_URL: 'WeaviateGrpcUrl',
  WEAVIATE_API_KEY: 'WeaviateApiKey',
  OPENAI_API_KEY: 'OpenaiApiKey',
  VOYAGE_API_KEY: 'VoyageApiKey',
  COHERE_API_KEY: 'CohereApiKey',
};

export function createEnvironment(data: Data): SecretEnvironment {
  const others = Object.entries(optional).map(([variable, name]) => [variable, new sst.Secret(name, '').value]);
  return new sst.Linkable<Record<string, $util.Input<string>>>('Environment', {
    properties: { ...data, LAMINA_TOKEN: new sst.Secret('LaminaToken').value, ...Object.fromEntries(others) },
  });
}
