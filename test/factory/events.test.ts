import { beforeAll, describe, expect, test } from 'vitest';
import { openStore, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { fixture, line, openSession, packOf, read, settle, work } from './session.ts';

describe.each(engines)('hook events on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const list = async (query = '') => (await store.send('GET', `/v1/events${query}`)).json.items;

  test('each of the captured and the documented ones is taken and worked', async () => {
    const lines = [...(await fixture('hook-stdin.jsonl')), ...(await fixture('hook-stdin-documented.jsonl'))];
    const seen = new Set<string>();
    for (const raw of lines) {
      const { hook_event_name: name } = JSON.parse(raw);
      seen.add(name);
      const { status, json, headers } = await store.send('POST', '/v1/events/factory', {
        raw,
        headers: { 'content-type': 'application/json' },
      });
      expect([name, status, json.hookSpecificOutput?.hookEventName]).toEqual([name, 200, name]);
      expect(headers.get('transcript-offset')).toBe('0');
      expect(Object.keys(json)).toEqual(['hookSpecificOutput']);
      if (!['SessionStart', 'UserPromptSubmit'].includes(name)) expect(packOf({ json } as never)).toBe('');
    }
    expect(seen.size).toBe(9);
    expect(await work(store)).toMatchObject({ events: lines.length, failed: 0, nextMs: null });
    const session = 'factory:session:5e550000-0000-4000-8000-000000000002';
    const root = (await read(store, session)).json;
    expect(root).toMatchObject({ kind: 'session', actor: { kind: 'factory' } });
    expect(root.content).toMatchObject({ cwd: '/home/dev/project', end: { reason: 'prompt_input_exit' } });
    const ancestors = (await store.send('GET', `/v1/contexts/${session}/ancestors`)).json.items;
    expect(ancestors.map((one: { kind: string }) => one.kind)).toEqual(['project']);
    const project = (await read(store, root.parentId)).json;
    expect(project).toMatchObject({ kind: 'project', content: { name: 'project', cwd: '/home/dev/project' } });
    const notes = (await store.send('GET', `/v1/contexts?parentId=${root.parentId}&kind=note&include=content`)).json
      .items;
    expect(notes.map((one: { content: string }) => one.content)).toEqual(['deploys run from the release branch']);
    // All that was asked in it was to remember something.
    expect((await read(store, `${session}:summary`)).status).toBe(404);
    const entities = (await store.send('GET', '/v1/contexts?kind=memory.entity&include=content')).json.items;
    expect(entities[0].content).toEqual({
      name: 'checkout',
      entityType: 'service',
      observations: ['owned by the payments team'],
    });
    expect((await list('?status=done')).length).toBe(lines.length);
  });

  test('the lines of the synthetic session become messages, in short', async () => {
    const session = openSession(store);
    const lines = await fixture('session-synthetic.jsonl');
    const bytes = lines.reduce((sum, one) => sum + Buffer.byteLength(one) + 1, 0);
    const { headers } = await session.event('Stop', { transcript: { offset: 0, lines } });
    expect(headers.get('transcript-offset')).toBe(String(bytes));
    expect(await session.messages()).toEqual([
      { id: 'm1', role: 'user', at: '2026-11-22T09:30:00.000Z', text: 'we chose zebrafish as the codename' },
      {
        id: 'm2',
        role: 'assistant',
        at: '2026-11-22T09:30:01.000Z',
        text: 'Noted: zebrafish.',
        tools: [{ name: 'Execute', about: 'ls' }],
      },
      {
        id: 'm3',
        role: 'user',
        at: '2026-11-22T09:30:02.000Z',
        text: '',
        tools: [{ name: 'result', about: 'zebrafish.txt' }],
      },
    ]);
    const { text } = await store.send('GET', `/v1/contexts/${session.summary}/content`);
    expect(text).toContain('## Decisions\n\n- we chose zebrafish as the codename');
    expect(text).toContain('# Synthetic');
    expect((await read(store, session.summary)).json).toMatchObject({ kind: 'summary', parentId: session.root });
  });

  test('what hooks have said is no message', async () => {
    const session = openSession(store);
    const lines = (await fixture('session.jsonl')).map((one) => JSON.parse(one));
    const content = [{ type: 'text', text: 'INJECTED as a text' }];
    const loud = lines
      .slice(1)
      .map((one) => ({ ...one, id: `${one.id}-loud`, message: { ...one.message, visibility: 'both', content } }));
    await session.event('SessionEnd', { transcript: { offset: 0, lines: [...lines, ...loud] } });
    expect(await session.messages()).toEqual([]);
    expect((await read(store, session.root)).text).not.toContain('INJECTED');
  });

  test('a pack tells what is remembered of the project, with its source', async () => {
    const session = openSession(store);
    await session.event('UserPromptSubmit', { prompt: 'remember: the staging database is called heron' });
    await settle(store);
    const other = openSession(store);
    const start = await other.event('SessionStart', { source: 'startup' });
    expect(packOf(start)).toMatch(
      /^<lamina-context>\n[\s\S]*heron \[factory:note:[0-9a-f]+:[0-9a-f]+@1\][\s\S]*<\/lamina-context>$/,
    );
    const prompt = await other.event('UserPromptSubmit', { prompt: 'what is the staging database called?' });
    expect(packOf(prompt)).toContain('heron');
  });

  test('line by line: only whole ones are taken', async () => {
    const session = openSession(store);
    const [first, second] = [line('a', 'user', 'one'), line('b', 'assistant', 'two')];
    const half = second.slice(0, 40);
    const sent = await session.stream('Stop', first + half, 0);
    expect(sent.headers.get('transcript-offset')).toBe(String(first.length));
    expect((await session.messages()).map(({ id }) => id)).toEqual(['a']);
    await session.stream('Stop', second, first.length);
    expect((await session.messages()).map(({ id }) => id)).toEqual(['a', 'b']);
  });
});
