import weaviate from 'weaviate-client';
import type { WeaviateAddress } from '../../lib/search/engines/weaviate.ts';
import { startWeaviate, type WeaviateServer } from '../servers/weaviate.ts';

/** A Weaviate to be tested against: what stands in for one, or the one that `LAMINA_TEST_WEAVIATE` names, emptied. */
export interface TestWeaviate {
  readonly address: WeaviateAddress;
  /** Undefined for a real one. */
  readonly standIn: WeaviateServer | undefined;
  /** Lets go of all collections. */
  empty(): Promise<void>;
  stop(): Promise<void>;
}

export async function openWeaviate(): Promise<TestWeaviate> {
  const { LAMINA_TEST_WEAVIATE: url, LAMINA_TEST_WEAVIATE_GRPC: grpcUrl } = process.env;
  if (url === undefined || grpcUrl === undefined) {
    const standIn = await startWeaviate();
    const { apiKey } = standIn;
    const address = { url: standIn.url, grpcUrl: standIn.grpcUrl, apiKey };
    return { address, standIn, empty: async () => standIn.empty(), stop: () => standIn.stop() };
  }
  async function empty() {
    const [http, grpc] = [new URL(url as string), new URL(grpcUrl as string)];
    const client = await weaviate.connectToCustom({
      httpHost: http.hostname,
      httpPort: Number(http.port),
      httpSecure: false,
      grpcHost: grpc.hostname,
      grpcPort: Number(grpc.port),
      grpcSecure: false,
    });
    await client.collections.deleteAll();
    await client.close();
  }
  await empty();
  return { address: { url, grpcUrl }, standIn: undefined, empty, async stop() {} };
}
