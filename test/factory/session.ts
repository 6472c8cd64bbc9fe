import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { home } from '../../functions/runtime.ts';
import type { Reply, SendOptions, TestStore } from '../support/client.ts';

/** The lines of a fixture. */
export async function fixture(name: string): Promise<string[]> {
  const text = await readFile(join(home, 'test', 'factory', 'fixtures', name), 'utf8');
  return text.split('\n').filter((line) => line !== '');
}

let sessions = 0;
export const newSession = () => `5e551000-0000-4000-8000-${String(++sessions).padStart(12, '0')}`;

/** A session of Droid as a store hears of it. */
export interface TestSession {
  readonly id: string;
  readonly root: string;
  readonly summary: string;
  /** Sends an event, and whatever else its members are. */
  event(name: string, more?: Record<string, unknown>, options?: SendOptions): Promise<Reply>;
  /** Sends bytes of the transcript with an event. */
  stream(name: string, transcript: string, offset: number, more?: Record<string, unknown>): Promise<Reply>;
  /** The messages of the session's contexts, parts one after another, once all is worked. */
  messages(): Promise<{ id: string; role: string; text: string; tools?: { name: string; about?: string }[] }[]>;
}

export function openSession(store: TestStore, of: { id?: string; cwd?: string; gitRemote?: string } = {}): TestSession {
  const id = of.id ?? newSession();
  const { cwd = '/home/dev/project', gitRemote } = of;
  const root = `factory:session:${id}`;
  const toEvent = (name: string, more: Record<string, unknown>) => ({
    session_id: id,
    transcript_path: `/home/dev/.factory/sessions/${id}.jsonl`,
    cwd,
    ...(gitRemote === undefined ? {} : { git_remote: gitRemote }),
    permission_mode: 'auto-low',
    hook_event_name: name,
    ...more,
  });
  return {
    id,
    root,
    summary: `${root}:summary`,
    event: (name, more = {}, options = {}) =>
      store.send('POST', '/v1/events/factory', { body: toEvent(name, more), ...options }),
    stream: (name, transcript, offset, more = {}) =>
      store.send('POST', `/v1/events/factory?offset=${offset}`, {
        raw: `${JSON.stringify(toEvent(name, more))}\n${transcript}`,
        headers: { 'content-type': 'application/x-ndjson' },
      }),
    async messages() {
      await work(store);
      const found = [];
      for (let part = 1; ; part++) {
        const { status, json } = await read(store, part === 1 ? root : `${root}:${part}`);
        if (status !== 200) return found;
        found.push(...json.content.messages);
      }
    },
  };
}

/** Works all that is due in the store's space. */
export async function work(store: TestStore) {
  return (await store.manager.work({ only: store.ref, budgetMs: 60_000 }))[store.space];
}

/** Works all that is due, and has the search know of it. */
export async function settle(store: TestStore): Promise<void> {
  await work(store);
  await store.manager.index({ only: store.ref, budgetMs: 60_000 });
}

export const read = (store: TestStore, id: string) =>
  store.send('GET', `/v1/contexts/${encodeURIComponent(id)}`, { headers: { 'cache-control': 'no-cache' } });

export const packOf = (reply: Reply): string => reply.json.hookSpecificOutput?.additionalContext ?? '';

/** A line of a transcript. */
export const line = (id: string, role: string, text: string, more: Record<string, unknown> = {}) =>
  `${JSON.stringify({ type: 'message', id, timestamp: '2026-11-22T09:30:00.000Z', message: { role, content: [{ type: 'text', text }] }, ...more })}\n`;
