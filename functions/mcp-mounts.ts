import { lazily } from '../lib/base/lazily.ts';
import type { Mount } from '../lib/http/mount.ts';
import type { Telemetry } from '../lib/telemetry/telemetry.ts';
import type { UnifiedContextManager } from '../lib/unified-context-manager.ts';
import manifest from '../package.json' with { type: 'json' };

/** The version of this release, as clients are told it. */
export const release = manifest.version;

/** MCP behind the HTTP server. Its SDK is loaded by the first request, and not at all where there is none. */
export function mcpMounts(deps: {
  manager: UnifiedContextManager;
  telemetry: Telemetry;
  publicUrl: string | undefined;
  isLocal: boolean;
  /** The address it listens on. */
  host?: string;
}): readonly Mount[] {
  const endpoint = lazily(async () => {
    const { createMcpEndpoint } = await import('../lib/mcp/endpoint.ts');
    return createMcpEndpoint({ ...deps, version: release });
  });
  const metadata = async (request: Request) => (await endpoint()).metadata(request);
  return [
    { path: '/mcp', fetch: async (request, leftMs) => (await endpoint()).fetch(request, leftMs) },
    { path: '/.well-known/oauth-protected-resource/mcp', fetch: metadata },
    { path: '/.well-known/oauth-protected-resource', fetch: metadata },
  ];
}
