import { createTurns } from '../base/turns.ts';
import type { Connectors, OpenOptions, PeerDefinition, PeerSession } from './peer.ts';

/** Connections to peers, kept open for a while after they were used, since opening one may start a process. */
export interface Sessions {
  /**
   * Runs work with a connection to the peer; work on one peer is done one after another. A failure closes it, and so does the
   * signal, whatever is being asked.
   */
  using<Done>(
    name: string,
    of: { readonly definition: PeerDefinition; readonly signal: AbortSignal },
    work: (session: PeerSession) => Promise<Done>,
  ): Promise<Done>;
  close(): Promise<void>;
}

/** @param deps.idleMs how long a connection stays open when nobody uses it; 0 closes it at once. */
export function createSessions(deps: {
  connectors: Connectors;
  options: Omit<OpenOptions, 'signal'>;
  idleMs: number;
}): Sessions {
  const { connectors, options, idleMs } = deps;
  const open = new Map<
    string,
    { readonly key: string; readonly session: PeerSession; readonly timer: NodeJS.Timeout | undefined }
  >();
  const turns = createTurns();

  async function forget(name: string): Promise<void> {
    const known = open.get(name);
    open.delete(name);
    clearTimeout(known?.timer);
    // What does not close well is closed all the same.
    await known?.session.close().catch(() => {});
  }

  function keep(name: string, key: string, session: PeerSession): Promise<void> | undefined {
    if (idleMs === 0) return session.close().catch(() => {});
    const timer = setTimeout(() => void turns.take(name, () => forget(name)), idleMs).unref();
    open.set(name, { key, session, timer });
    return undefined;
  }

  return {
    using(name, { definition, signal }, work) {
      return turns.take(name, async () => {
        signal.throwIfAborted();
        const key = JSON.stringify(definition);
        const known = open.get(name);
        if (known !== undefined && known.key !== key) await forget(name);
        signal.throwIfAborted();
        const session =
          open.get(name)?.session ?? (await connectors[definition.type].open(definition, { ...options, signal }));
        clearTimeout(open.get(name)?.timer);
        open.delete(name);
        const end = () => void session.close().catch(() => {});
        signal.addEventListener('abort', end);
        try {
          const done = await work(session);
          signal.throwIfAborted();
          signal.removeEventListener('abort', end);
          await keep(name, key, session);
          return done;
        } catch (error) {
          await session.close().catch(() => {});
          throw error;
        } finally {
          signal.removeEventListener('abort', end);
        }
      });
    },
    async close() {
      await turns.settled();
      await Promise.all([...open.keys()].map(forget));
    },
  };
}
