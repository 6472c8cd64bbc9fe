import type { Principal } from '../access/credentials.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';
import type { Session } from './tool.ts';

/** What a credential may do over MCP. */
export function toSession(manager: UnifiedContextManager, principal: Principal): Session {
  const { space, slot, keyId, unconfirmed, id } = principal;
  const request = { space, slot, keyId, unconfirmed, actor: { kind: 'mcp' as const, id }, seq: 0, noCache: false };
  return { manager, request, scopes: principal.scopes };
}
