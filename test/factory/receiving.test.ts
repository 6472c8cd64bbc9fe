import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type SendOptions, type TestStore } from '../support/client.ts';
import { engines } from '../support/engines.ts';
import { line, openSession, packOf, read, settle, work } from './session.ts';

const post = (store: TestStore, options: SendOptions, query = '') =>
  store.send('POST', `/v1/events/factory${query}`, options);

describe.each(engines)('receiving hook events on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine);
  });
  const count = async (session: string) =>
    (await store.send('GET', '/v1/events?limit=200')).json.items.filter(
      ({ sessionId }: { sessionId: string }) => sessionId === session,
    ).length;

  test('the same event twice is applied once, unless another came between', async () => {
    const session = openSession(store);
    const ask = () => session.event('UserPromptSubmit', { prompt: 'and now?' });
    await ask();
    await ask();
    expect(await count(session.id)).toBe(1);
    await session.event('Stop');
    await ask();
    expect(await count(session.id)).toBe(3);
  });

  test('side by side it is applied once as well', async () => {
    const session = openSession(store);
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => session.event('Notification', { message: 'idle' })),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(await count(session.id)).toBe(1);
  });

  test('an Idempotency-Key decides by itself', async () => {
    const session = openSession(store);
    const key = (value: string) => ({ headers: { 'idempotency-key': `${session.id}-${value}` } });
    const first = await session.event('Stop', { transcript: { offset: 0, lines: ['{}'] } }, key('a'));
    const again = await session.event('Stop', { transcript: { offset: 0, lines: ['{}'] } }, key('a'));
    expect([again.status, again.headers.get('transcript-offset')]).toEqual([
      200,
      first.headers.get('transcript-offset'),
    ]);
    expect(await count(session.id)).toBe(1);
    await session.event('Stop', { transcript: { offset: 0, lines: ['{}'] } }, key('b'));
    expect(await count(session.id)).toBe(2);
    const other = await session.event('Stop', { more: 1 }, key('a'));
    expect([other.status, other.json.code]).toEqual([409, 'idempotency_mismatch']);
  });

  test('pieces of a transcript may overlap, come twice, and in any order', async () => {
    const session = openSession(store);
    const lines = ['a', 'b', 'c', 'd'].map((id, at) =>
      line(id, 'user', `text ${id}`, { timestamp: `2026-11-22T09:30:0${at}.000Z` }),
    );
    const offsets = lines.map((_, at) => lines.slice(0, at).join('').length);
    const send = async (from: number, to: number) => {
      const { headers } = await session.stream('Stop', lines.slice(from, to).join(''), offsets[from] ?? 0, {
        from,
        to,
      });
      return Number(headers.get('transcript-offset'));
    };
    expect(await send(0, 2)).toBe(offsets[2]);
    expect(await send(1, 3)).toBe(offsets[3]);
    expect(await send(0, 1)).toBe(offsets[3]);
    const late = openSession(store);
    const sendLate = (from: number, to: number) =>
      late.stream('Stop', lines.slice(from, to).join(''), offsets[from] ?? 0, { from, to });
    // What lies before a gap is asked for again; what lies behind it is taken all the same.
    expect((await sendLate(2, 4)).headers.get('transcript-offset')).toBe('0');
    expect((await sendLate(0, 1)).headers.get('transcript-offset')).toBe(String(offsets[1]));
    expect((await sendLate(1, 3)).headers.get('transcript-offset')).toBe(String(lines.join('').length));
    expect((await session.messages()).map(({ id }) => id)).toEqual(['a', 'b', 'c']);
    expect((await late.messages()).map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd']);
  });

  test('a session that was forked has the messages of both, each once, also from another file', async () => {
    const first = openSession(store);
    const fork = openSession(store);
    const lines = line('x', 'user', 'shared') + line('y', 'assistant', 'also shared');
    await first.stream('Stop', lines, 0);
    await fork.stream('Stop', lines + line('z', 'user', 'only here'), 0);
    await fork.stream('Stop', lines, 0, { transcript_path: '/elsewhere/copy.jsonl' });
    expect((await first.messages()).map(({ id }) => id)).toEqual(['x', 'y']);
    expect((await fork.messages()).map(({ id }) => id)).toEqual(['x', 'y', 'z']);
  });

  test('a line without an end is waited for, unless it is too long to be one', async () => {
    const session = openSession(store);
    const short = await session.stream('Stop', '{"type":"message"', 7);
    expect(short.headers.get('transcript-offset')).toBe('0');
    const long = openSession(store);
    const image = 'x'.repeat(1_048_576);
    expect((await long.stream('Stop', image, 0)).headers.get('transcript-offset')).toBe(String(image.length));
    const rest = `xxx"}\n${line('after', 'user', 'it goes on')}`;
    await long.stream('Stop', rest, image.length);
    expect((await long.messages()).map(({ id }) => id)).toEqual(['after']);
  });

  test('injected blocks and packs are no part of what was said', async () => {
    const session = openSession(store);
    const text =
      'before <system-reminder>secret <system-reminder>plan</system-reminder> INJECTED</system-reminder> after\n<lamina-context>\nINJECTED\n</lamina-context>';
    const result = { type: 'tool_result', content: [{ type: 'text', text: `ls ${text}` }] };
    const lines = [
      line('i1', 'user', text),
      line('i2', 'user', '<system-reminder> is a tag that I wonder about'),
      line('i3', 'user', '', { message: { role: 'user', content: [result] } }),
    ];
    await session.stream('UserPromptSubmit', lines.join(''), 0, {
      prompt: `INJECTED? ${text}`.replace('INJECTED? ', ''),
    });
    await session.event('Stop');
    const messages = await session.messages();
    expect(messages.map((one) => one.text)).toEqual([
      'before  after',
      '<system-reminder> is a tag that I wonder about',
      '',
    ]);
    expect(messages[2]?.tools).toEqual([{ name: 'result', about: 'ls before  after' }]);
    const summary = await store.send('GET', `/v1/contexts/${session.summary}/content`);
    expect(summary.text).toContain('before after');
    expect(summary.text).not.toContain('INJECTED');
  });

  test('a long session goes on in children of its context', async () => {
    const small = await openStore(engine, { settings: { factory: { sessionBytes: 4096 } } });
    const session = openSession(small);
    const lines = Array.from({ length: 12 }, (_, at) => line(`p${at}`, 'user', `${at} ${'word '.repeat(200)}`));
    await session.stream('Stop', lines.slice(0, 5).join(''), 0);
    await work(small);
    await session.stream('Stop', lines.slice(5).join(''), lines.slice(0, 5).join('').length);
    expect((await session.messages()).map(({ id }) => id)).toEqual(lines.map((_, at) => `p${at}`));
    // From another file, all of it once more.
    await session.stream('Stop', lines.join(''), 0, { transcript_path: '/elsewhere/copy.jsonl' });
    expect(await session.messages()).toHaveLength(lines.length);
    const second = (await read(small, `${session.root}:2`)).json;
    expect(second).toMatchObject({ kind: 'session', parentId: session.root });
    const { items } = (await small.send('GET', '/v1/contexts?kind=session')).json;
    for (const { sizeBytes } of items) expect(sizeBytes).toBeLessThan(5000);
  });

  test('credentials are masked before anything is stored', async () => {
    const session = openSession(store);
    const secrets = {
      github: `ghp_${'a1B2'.repeat(9)}`,
      aws: 'AKIAIOSFODNN7EXAMPLE',
      key: `sk-ant-api03-${'x9'.repeat(30)}`,
      jwt: `eyJ${'hbGciOi'.repeat(3)}.eyJ${'zdWIiOi'.repeat(4)}.${'sig'.repeat(9)}`,
      url: 'hunter2hunter2',
      assigned: 'correct-horse-battery',
      pem: 'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC',
      lamina: `lam_default_key1_${'z0'.repeat(12)}`,
    };
    const said = `${secrets.github} ${secrets.aws} ${secrets.key} ${secrets.jwt} postgres://me:${secrets.url}@db.example/x
DB_PASSWORD="${secrets.assigned}"
-----BEGIN RSA PRIVATE KEY-----\n${secrets.pem}\n-----END RSA PRIVATE KEY-----`;
    await session.event('UserPromptSubmit', { prompt: `remember: ${said}`, apiKey: secrets.lamina });
    await session.event('PostToolUse', {
      tool_name: 'mcp__memory__create_entities',
      tool_input: { entities: [{ name: `masked ${session.id}`, entityType: 't', observations: [said] }] },
    });
    await session.stream('Stop', line('s1', 'user', said) + line('s2', 'assistant', `we decided on ${secrets.key}`), 0);
    // As it waits in the inbox, and as it ends up.
    const stored = async () => {
      const tables = ['inbox', 'factory_session'].map((table) => ({
        text: `select coalesce(string_agg(t::text, ' '), '') as all from ${table} t`,
        params: [],
      }));
      const rows = await store.database.in(store.ref).run(tables);
      const { items } = (await store.send('GET', '/v1/contexts?include=content&limit=200')).json;
      return `${rows.map(([row]) => row?.['all']).join(' ')} ${JSON.stringify(items)}`;
    };
    const before = await stored();
    expect(before).toContain('[masked:github]');
    await work(store);
    const after = await stored();
    expect(after).toContain('[masked:private-key]');
    for (const [name, secret] of Object.entries(secrets)) {
      expect([name, before.includes(secret), after.includes(secret)]).toEqual([name, false, false]);
    }
  });

  test('the remote of a project counts, however it is spelled, and never with its credentials', async () => {
    const spellings = [
      'https://user:tok3n-of-mine@github.com/acme/shop.git',
      'git@github.com:acme/shop.git',
      'ssh://git@GitHub.com:22/acme/shop',
    ];
    const parents = new Set<string>();
    for (const [at, gitRemote] of spellings.entries()) {
      const session = openSession(store, { cwd: `/machine-${at}/shop`, gitRemote });
      await session.event('SessionStart', { source: 'startup' });
      await work(store);
      parents.add((await read(store, session.root)).json.parentId);
    }
    expect(parents.size).toBe(1);
    const project = (await read(store, [...parents][0] as string)).json;
    expect(project.content).toEqual({ name: 'shop', gitRemote: 'github.com/acme/shop' });
  });

  test('what a memory server was told is known here, from this store itself not once more', async () => {
    const session = openSession(store);
    const tool = (name: string, tool_input: unknown, more = {}) =>
      session.event('PostToolUse', { tool_name: name, tool_input, ...more });
    const name = `service ${session.id}`;
    await tool('mcp__memory__create_entities', {
      entities: [{ name, entityType: 'service', observations: ['a'] }, 7, {}],
    });
    await tool('mcp__memory__add_observations', { observations: [{ entityName: name, contents: ['b', 'c'] }] });
    await tool('mcp__memory__add_observations', { observations: [{ entityName: `${name} 2`, contents: ['new'] }] });
    await tool('mcp__memory__create_relations', {
      relations: [{ from: name, to: `${name} 2`, relationType: 'calls' }],
    });
    await tool('mcp__memory__delete_observations', { deletions: [{ entityName: name, observations: ['a'] }] });
    await tool('mcp__lamina__create_entities', {
      entities: [{ name: `own ${session.id}`, entityType: 't', observations: [] }],
    });
    await tool('mcp__memory__create_entities', { entities: 'garbage' });
    await tool(
      'mcp__memory__create_entities',
      { entities: [{ name: `failed ${session.id}`, entityType: 't', observations: [] }] },
      { tool_response: { isError: true } },
    );
    expect(await work(store)).toMatchObject({ failed: 0 });
    const request = { ...store.ref, actor: { kind: 'api' as const, id: 'test' }, seq: 0, noCache: true };
    const graph = await store.manager.memory.openNodes(request, [
      name,
      `${name} 2`,
      `own ${session.id}`,
      `failed ${session.id}`,
    ]);
    expect(graph.entities).toEqual([
      { name, entityType: 'service', observations: ['b', 'c'] },
      { name: `${name} 2`, entityType: 'unknown', observations: ['new'] },
    ]);
    expect(graph.relations).toEqual([{ from: name, to: `${name} 2`, relationType: 'calls' }]);
    await tool('mcp__memory__delete_entities', { entityNames: [name] });
    await work(store);
    expect((await store.manager.memory.openNodes(request, [name])).entities).toEqual([]);
  });

  test('the same note is one context, and a personal one is for every project', async () => {
    const [here, there] = [openSession(store), openSession(store, { cwd: '/home/dev/other' })];
    for (const prompt of ['remember: use tabs', 'Remember:  Use tabs', '#note use tabs', '# use tabs'])
      await here.event('UserPromptSubmit', { prompt });
    await here.event('UserPromptSubmit', { prompt: '## I prefer short answers about herons' });
    for (const prompt of ['# Heading\n\nDo this', '###', '#!/bin/sh\necho', 'remember:'])
      await here.event('UserPromptSubmit', { prompt });
    await settle(store);
    const { items } = (await store.send('GET', '/v1/contexts?kind=note&include=content&limit=200')).json;
    const notes = items.map(({ content }: { content: string }) => content);
    expect(notes.filter((one: string) => /use tabs/i.test(one))).toHaveLength(1);
    expect(notes.filter((one: string) => one.includes('Heading') || one.includes('echo'))).toEqual([]);
    expect(packOf(await there.event('UserPromptSubmit', { prompt: 'tell me about herons' }))).toContain(
      'short answers',
    );
    expect(packOf(await there.event('UserPromptSubmit', { prompt: 'do we use tabs?' }))).not.toContain('tabs [');
  });

  test('the switch decides what is kept', async () => {
    const kept = async (capture: string) => {
      const own = await openStore(engine, { settings: { factory: { capture } } });
      const session = openSession(own);
      const transcript = line('k1', 'user', 'said');
      const { headers } = await session.stream('UserPromptSubmit', transcript, 0, { prompt: 'remember: this' });
      expect(headers.get('transcript-offset')).toBe(String(transcript.length));
      await session.event('Stop');
      await work(own);
      const { items } = (await own.send('GET', '/v1/contexts')).json;
      const inbox = (await own.send('GET', '/v1/events')).json.items;
      return [items.map(({ kind }: { kind: string }) => kind).sort(), inbox.length];
    };
    expect(await kept('all')).toEqual([['note', 'project', 'session', 'summary'], 2]);
    expect(await kept('asked')).toEqual([['note', 'project'], 1]);
    expect(await kept('nothing')).toEqual([[], 0]);
  });

  const event = { session_id: 's', hook_event_name: 'Stop' };
  const json = { 'content-type': 'application/json' };
  const ndjson = { 'content-type': 'application/x-ndjson' };
  const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
  const garbage: [name: string, status: number, options: SendOptions, query?: string][] = [
    ['nothing', 400, { raw: '', headers: json }],
    ['no JSON', 400, { raw: 'hello', headers: json }],
    ['half of it', 400, { raw: '{"session_id":', headers: json }],
    ['an array', 400, { body: [event] }],
    ['a number', 400, { body: 7 }],
    ['null', 400, { raw: 'null', headers: json }],
    ['no session', 400, { body: { hook_event_name: 'Stop' } }],
    ['no name', 400, { body: { session_id: 's' } }],
    ['a session that is a number', 400, { body: { ...event, session_id: 7 } }],
    ['an empty session', 400, { body: { ...event, session_id: ' ' } }],
    ['bytes that are nothing', 400, { raw: new Uint8Array([0xff, 0xfe]), headers: json }],
    [
      'a byte that is no UTF-8 in a text',
      200,
      {
        raw: Buffer.concat([
          Buffer.from('{"session_id":"s","hook_event_name":"Notification","message":"'),
          Buffer.from([0xff]),
          Buffer.from('"}'),
        ]),
        headers: json,
      },
    ],
    ['form data', 415, { raw: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
    ['deep in the event', 422, { raw: `{"session_id":"s","hook_event_name":"Stop","x":${deep(5000)}}`, headers: json }],
    [
      'deeper than the stack',
      422,
      { raw: `{"session_id":"s","hook_event_name":"Stop","x":${deep(200_000)}}`, headers: json },
    ],
    [
      'deep in the transcript',
      200,
      { raw: `{"session_id":"s","hook_event_name":"Stop","transcript":{"lines":[${deep(100_000)}]}}`, headers: json },
    ],
    ['an offset that is none', 400, { raw: `${JSON.stringify(event)}\n`, headers: ndjson }, '?offset=-1'],
    ['an unknown parameter', 400, { body: event }, '?unknown=1'],
    ['too much', 413, { raw: `${JSON.stringify(event)}\n${'x'.repeat(4_194_304)}`, headers: ndjson }],
    [
      'U+0000 and half characters',
      200,
      {
        raw: '{"session_id":"s\\u0000\\ud800","hook_event_name":"Stop\\u0000","\\ud800":"\\u0000\\udfff","prompt":"\\u0000"}',
        headers: json,
      },
    ],
    [
      'half a character where a name is cut',
      200,
      { body: { session_id: `${'a'.repeat(199)}😀`, hook_event_name: `${'a'.repeat(63)}😀` } },
    ],
    [
      'very many members',
      200,
      { body: { ...event, ...Object.fromEntries(Array.from({ length: 100_000 }, (_, at) => [`m${at}`, at])) } },
    ],
    ['members twice', 200, { raw: '{"session_id":"s","session_id":"s","hook_event_name":"Stop"}', headers: json }],
    ['an event nobody knows', 200, { body: { ...event, hook_event_name: 'BrandNew' } }],
    ['a session that fits no id', 200, { body: { ...event, session_id: `../${'ü'.repeat(5000)}:summary` } }],
    [
      'members of odd types',
      200,
      {
        body: {
          ...event,
          cwd: 7,
          transcript_path: {},
          prompt: [],
          tool_input: 'x',
          tool_name: null,
          git_remote: {},
          source: 3,
        },
      },
    ],
    ['a prompt that is no text', 200, { body: { ...event, hook_event_name: 'UserPromptSubmit', prompt: { a: 1 } } }],
    [
      'a prompt of quotes',
      200,
      { body: { ...event, hook_event_name: 'UserPromptSubmit', prompt: '"" -" --- \' \\ %' } },
    ],
    ['a transcript that is none', 200, { body: { ...event, transcript: 'x' } }],
    [
      'lines of all kinds',
      200,
      {
        body: {
          ...event,
          transcript: {
            offset: -3.5,
            lines: [
              null,
              1,
              'x',
              {},
              [],
              { type: 'message' },
              { type: 'message', message: { content: 7 } },
              {
                type: 'message',
                id: 7,
                message: {
                  role: 9,
                  content: [null, { type: 'text' }, { type: 'tool_use' }, { type: 'tool_result', content: [1] }],
                },
              },
              { type: 'todo_state', todos: 'x' },
            ],
          },
        },
      },
    ],
    [
      'bytes that are no lines',
      200,
      {
        raw: Buffer.concat([Buffer.from(`${JSON.stringify(event)}\n`), Buffer.from([0, 255, 10, 0, 10, 10])]),
        headers: ndjson,
      },
    ],
    [
      'a memory call of nonsense',
      200,
      {
        body: {
          ...event,
          hook_event_name: 'PostToolUse',
          tool_name: 'mcp__x__delete_entities',
          tool_input: { entityNames: [1, null, {}] },
        },
      },
    ],
  ];
  test.each(garbage)('garbage: %s is answered %i', async (_name, status, options, query = '') => {
    const reply = await post(store, options, query);
    expect([reply.status, reply.text.slice(0, 200)]).toEqual([status, expect.any(String)]);
    expect(await work(store)).toMatchObject({ failed: 0, dead: 0 });
  });

  const odd = { toString: 1, valueOf: 1 };
  const use = (name: unknown, input: unknown = {}) => ({
    role: 'assistant',
    content: [{ type: 'tool_use', name, input }],
  });
  const oddLines: [name: string, message: unknown, id?: string][] = [
    ['a name that is no text', use(odd)],
    ['a to-do whose state is no text', use('TodoWrite', { todos: [{ content: 'x', status: odd }] })],
    ['half a character where a plan is cut', { role: 'assistant', content: `Plan:\n${'a'.repeat(3999)}😀 more` }],
    ['half a character where a name is cut', use(`${'a'.repeat(119)}😀`)],
    ['half a character where a role is cut', { role: `${'a'.repeat(19)}😀`, content: 'x' }],
    ['half a character where an id is cut', { role: 'user', content: 'x' }, `${'a'.repeat(199)}😀`],
  ];
  test.each(oddLines)('a line with %s keeps no other from being taken', async (_name, message, id = 'odd') => {
    const session = openSession(store);
    const lines = [JSON.stringify({ type: 'message', id, message }), line('good', 'user', 'the next one').trim()];
    const { status } = await session.event('Stop', { transcript: { offset: 0, lines } });
    expect(status).toBe(200);
    expect((await session.messages()).map((one) => one.text)).toContain('the next one');
  });

  test('a line with a name that is nested without end is told apart, and the others are taken', async () => {
    const session = openSession(store);
    const name = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const nested = `{"type":"message","id":"n","message":{"role":"assistant","content":[{"type":"tool_use","name":${name}}]}}\n`;
    expect((await session.stream('Stop', nested + line('good', 'user', 'the next one'), 0)).status).toBe(200);
    expect((await session.messages()).map((one) => one.text)).toContain('the next one');
  });

  test('what an event tells of its session is bounded, however much it holds', async () => {
    const session = openSession(store, { cwd: `/home/${'d'.repeat(30_000)}` });
    const members = Object.fromEntries(Array.from({ length: 19_000 }, (_, at) => [`m${at}`, at]));
    await session.event('SessionStart', { source: 'startup', ...members });
    const tools = Array.from({ length: 5000 }, () => ({ type: 'tool_use', name: 'Read', input: { path: '/a' } }));
    await session.stream('Stop', line('t', 'user', '', { message: { role: 'assistant', content: tools } }), 0);
    await work(store);
    const { content, parentId } = (await read(store, session.root)).json;
    expect(Object.keys(content.start).length).toBeLessThanOrEqual(33);
    expect(content.cwd.length).toBeLessThanOrEqual(2048);
    expect(content.messages[0].tools).toHaveLength(100);
    expect((await read(store, parentId)).json.sizeBytes).toBeLessThan(3000);
  });

  test('a transcript that was begun anew is taken from where it ends', async () => {
    const session = openSession(store);
    const [old, anew] = [line('r1', 'user', 'one') + line('r2', 'user', 'two'), line('r3', 'user', 'anew')];
    expect((await session.stream('Stop', old, 0)).headers.get('transcript-offset')).toBe(String(old.length));
    expect((await session.stream('Stop', anew, 0, { n: 1 })).headers.get('transcript-offset')).toBe(
      String(anew.length),
    );
    const next = line('r4', 'user', 'next');
    await session.stream('Stop', next, anew.length, { n: 2 });
    expect((await session.messages()).map(({ id }) => id)).toEqual(['r1', 'r2', 'r3', 'r4']);
  });

  test('of pieces that come late, what was said last counts', async () => {
    const session = openSession(store);
    const at = (minute: number) => ({ timestamp: `2026-11-22T09:${minute}:00.000Z` });
    const [early, late] = [
      line('o1', 'assistant', 'Plan:\n\nthe old way', at(10)),
      line('o2', 'assistant', 'Plan:\n\nthe new way', at(50)),
    ];
    await session.stream('Stop', late, early.length);
    await session.stream('Stop', early, 0);
    await work(store);
    const { text } = await store.send('GET', `/v1/contexts/${session.summary}/content`);
    expect(text).toContain('## Plan\n\nthe new way');
    expect(text).not.toContain('the old way');
  });

  test('it needs the scope of a synchronisation', async () => {
    const key = await store.send('POST', '/v1/keys', { body: { name: newId(), scopes: ['write'] } });
    const answer = await post(store, { body: event, token: key.json.token });
    expect([answer.status, answer.json.code]).toEqual([403, 'forbidden']);
    expect((await post(store, { body: event, token: '' })).status).toBe(401);
  });
});
