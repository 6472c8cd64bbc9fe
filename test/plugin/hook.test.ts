import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { freePort } from '../servers/postgres.ts';
import { answerAsLamina, hookPath, runHook, type Stub, shells, startStub, type Told } from './hook-runs.ts';

const run = promisify(execFile);
const token = 'lam_test_owner_0123456789';
const session = '5e550000-0000-4000-8000-000000000001';
// The hook takes two at most; the machine may be busy.
const boundMs = 3000;

let folder: string;
let stub: Stub;
let environment: Record<string, string>;
let transcript: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lamina-hook-'));
  for (const name of ['home', 'tmp']) await mkdir(join(folder, name));
  stub = await startStub();
  transcript = join(folder, 'session.jsonl');
  environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(folder, 'home'),
    TMPDIR: join(folder, 'tmp'),
    LAMINA_URL: stub.origin,
    LAMINA_TOKEN: token,
  };
});
afterEach(async () => {
  stub.close();
  await rm(folder, { recursive: true, force: true });
});

const state = () => join(folder, 'home', '.local', 'state', 'lamina');
const eventOf = (name: string, more: Record<string, unknown> = {}) => ({
  session_id: session,
  transcript_path: transcript,
  cwd: folder,
  permission_mode: 'off',
  hook_event_name: name,
  ...more,
});
const silence = { code: 0, stdout: '', stderr: '' };

/** What the hook has left running, by an environment that nobody else has. */
async function leftRunning(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of existsSync('/proc/self/environ') ? await readdir('/proc') : []) {
    if (!/^\d+$/.test(pid)) continue;
    const text = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (text.includes(`TMPDIR=${folder}`)) found.push(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => pid));
  }
  return found;
}

// It gives up after two seconds, however busy the machine is: then a test has nothing to look at, and is tried again.
const patience = { retry: 2 };

describe.each(shells)('the hook in $name', patience, (shell) => {
  const hook = (event: unknown, more: { isOpen?: boolean; script?: string } = {}) =>
    runHook({ shell, event, environment, ...more });

  test('tells the event and what the transcript has got since, and prints the answer', async () => {
    const whole = '{"type":"session_start"}\n{"type":"message","id":"ä"}\n';
    const wholeBytes = Buffer.byteLength(whole);
    await writeFile(transcript, `${whole}{"half`);
    const event = eventOf('SessionStart', { source: 'startup' });
    const first = await hook(event);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(first.stdout)).toEqual({
      hookSpecificOutput: { hookEventName: 'SessionStart', additionalContext: 'retries are 5' },
    });
    expect(first.ms).toBeLessThan(boundMs);
    const [told] = stub.told;
    expect(told?.url).toBe('/v1/events/factory?offset=0');
    expect(told?.headers).toMatchObject({
      authorization: `Bearer ${token}`,
      'content-type': 'application/x-ndjson',
      'user-agent': 'lamina-hook (droid)',
    });
    expect(told?.event).toBe(JSON.stringify(event));
    expect(told?.transcript).toBe(await readFile(transcript, 'utf8'));

    await appendFile(transcript, '":1}\n');
    expect(await hook(eventOf('Stop', { stop_hook_active: false }))).toMatchObject(silence);
    expect(stub.told[1]).toMatchObject({
      url: `/v1/events/factory?offset=${wholeBytes}`,
      transcript: '{"half":1}\n',
    });
    expect(await hook(eventOf('SessionEnd', { reason: 'other' }))).toMatchObject(silence);
    expect(stub.told[2]).toMatchObject({ url: `/v1/events/factory?offset=${wholeBytes + 11}`, transcript: '' });

    // A transcript that begins anew, such as after /clear, is sent from its beginning.
    await writeFile(transcript, '{"new":1}\n');
    await hook(eventOf('Stop'));
    expect(stub.told[3]).toMatchObject({ url: '/v1/events/factory?offset=0', transcript: '{"new":1}\n' });
    for (const path of [state(), join(state(), 'sessions')]) expect((await stat(path)).mode & 0o777).toBe(0o700);
    const [marks = ''] = await readdir(join(state(), 'sessions'));
    expect((await stat(join(state(), 'sessions', marks))).mode & 0o777).toBe(0o600);
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
    await expect.poll(leftRunning, { timeout: 2500 }).toEqual([]);
  });

  test('is soon done with a port where nobody listens', async () => {
    environment['LAMINA_URL'] = `http://127.0.0.1:${await freePort()}`;
    await writeFile(transcript, '{"a":1}\n');
    const answer = await hook(eventOf('UserPromptSubmit', { prompt: 'hello' }));
    expect(answer).toMatchObject(silence);
    expect(answer.ms).toBeLessThan(1500);
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
  });

  test('gives up a server that hangs', async () => {
    stub.answer = () => {};
    const answer = await hook(eventOf('SessionStart'));
    expect(answer).toMatchObject(silence);
    expect(answer.ms).toBeLessThan(boundMs);
    await expect.poll(leftRunning, { timeout: 2500 }).toEqual([]);
  });

  test('gives up a server that answers a byte at a time', async () => {
    const timers: NodeJS.Timeout[] = [];
    stub.answer = (response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      timers.push(setInterval(() => response.write(' '), 50));
    };
    const answer = await hook(eventOf('SessionStart'));
    timers.map(clearInterval);
    expect(answer).toMatchObject(silence);
    expect(answer.ms).toBeLessThan(boundMs);
  });

  const json = { 'content-type': 'application/json' };
  const rubbish: Record<string, (response: ServerResponse, event: string) => void> = {
    'a page': (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>{"a":1}</html>'),
    'text that looks like an answer': (response) =>
      response.writeHead(200, { 'content-type': 'text/plain' }).end('{"hookSpecificOutput":{}}'),
    'a problem': (response) =>
      response.writeHead(401, { 'content-type': 'application/problem+json' }).end('{"status":401}'),
    'a problem that says 200': (response) =>
      response.writeHead(200, { 'content-type': 'application/problem+json' }).end('{"hookSpecificOutput":{}}'),
    'an error with an answer’s body': (response) => response.writeHead(500, json).end('{"hookSpecificOutput":{}}'),
    'a redirect': (response) =>
      response.writeHead(302, { ...json, location: '/elsewhere' }).end('{"hookSpecificOutput":{}}'),
    nothing: (response) => response.writeHead(204, json).end(),
    'an array': (response) => response.writeHead(200, json).end('[{"hookSpecificOutput":{}}]'),
    'half an answer': (response) => response.writeHead(200, json).end('{"hookSpecificOutput":{"additionalContext":"x"'),
    'a line that breaks off': (response) => {
      response.writeHead(200, { ...json, 'content-length': '1000' }).write('{"hookSpecificOutput":{}}');
      setTimeout(() => response.destroy(), 50);
    },
    'what is no HTTP': (response) => response.socket?.end('hello\r\n\r\n'),
    'an order to block': (response) => response.writeHead(200, json).end('{"decision":"block","reason":"no"}'),
    ...Object.fromEntries(
      [
        '{"hookSpecificOutput":{"hookEventName":"SessionStart"},"continue":false}',
        '{"hookSpecificOutput": garbage !!}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"x"}} and more',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"x"}}{"decision":"block"}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"x\n"}}',
        '{"a\n":1,"hookSpecificOutput":{},"decision":"block"}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\u001b[2J"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\0"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\\x"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\\u12"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\\"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"\\\\","permissionDecision":"deny"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":"x","permissionDecision":"deny"}}',
        '{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny"}}',
        '{"hookSpecificOutput":{"hookEventName":"PreToolUse","additionalContext":"x"}}',
        '{"hookSpecificOutput":{"hookEventName":"EVENT","additionalContext":7}}',
      ].map((text) => [
        text,
        (response: ServerResponse, event: string) => response.writeHead(200, json).end(text.replace('EVENT', event)),
      ]),
    ),
  };
  test('prints nothing of a server that answers rubbish', async () => {
    for (const [name, answer] of Object.entries(rubbish)) {
      for (const event of ['SessionStart', 'UserPromptSubmit']) {
        stub.answer = (response) => answer(response, event);
        const { ms, ...rest } = await hook(eventOf(event));
        expect([name, rest, ms < boundMs]).toEqual([name, silence, true]);
      }
    }
  });

  test('prints whatever text a server adds, and not another byte', async () => {
    for (const text of ['', 'ä 𝄞\n\t\r\b\f/\\"', '\\"', '"}}', '\\\\', '\u0001\u007f', 'x'.repeat(100_000)]) {
      const hookSpecificOutput = { hookEventName: 'UserPromptSubmit', additionalContext: text };
      const answer = JSON.stringify({ hookSpecificOutput });
      stub.answer = (response) => response.writeHead(200, json).end(answer);
      expect((await hook(eventOf('UserPromptSubmit'))).stdout).toBe(answer);
    }
  });

  test('takes no more than a megabyte of an answer without end', async () => {
    let sizeMax = 0;
    stub.answer = (response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more);
      response.write('{"hookSpecificOutput":{"additionalContext":"');
      more();
    };
    const watching = setInterval(async () => {
      for (const name of await readdir(join(folder, 'tmp'))) {
        const { size } = await stat(join(folder, 'tmp', name, 'answer')).catch(() => ({ size: 0 }));
        sizeMax = Math.max(sizeMax, size);
      }
    }, 5);
    const answer = await hook(eventOf('SessionStart'));
    clearInterval(watching);
    expect(answer).toMatchObject(silence);
    expect(answer.ms).toBeLessThan(boundMs);
    expect(sizeMax).toBeLessThanOrEqual(1_048_576);
    await expect.poll(leftRunning, { timeout: 2500 }).toEqual([]);
  });

  test('does not wait for a standard input that stays open', async () => {
    const told = await hook(eventOf('SessionStart'), { isOpen: true });
    expect(JSON.parse(told.stdout)).toHaveProperty('hookSpecificOutput');
    expect(told).toMatchObject({ code: 0, stderr: '' });
    expect(told.ms).toBeLessThan(boundMs);
    stub.answer = () => {};
    const hung = await hook(eventOf('SessionStart'), { isOpen: true });
    expect(hung).toMatchObject(silence);
    expect(hung.ms).toBeLessThan(boundMs);
    const nothing = await hook(undefined, { isOpen: true });
    expect(nothing).toMatchObject(silence);
    expect(nothing.ms).toBeLessThan(boundMs);
    expect(stub.told).toHaveLength(2);
    await expect.poll(leftRunning, { timeout: 2500 }).toEqual([]);
  });

  test('asks nobody where there is nothing to tell', async () => {
    for (const event of ['', 'hello', '{"hook_event_name":"Stop"', '{"session_id":"x"}', '[]', '{}', '\u0000', '"'])
      expect([event, await hook(event)]).toEqual([event, expect.objectContaining(silence)]);
    for (const closing of ['<&-', '>&-', '2>&-', '<&- >&- 2>&-'])
      expect(
        await hook('', { script: `exec ${closing}; ${shell.name} ${shell.args.join(' ')} '${hookPath}'` }),
      ).toMatchObject(silence);
    expect(stub.told).toEqual([]);
  });

  test('reads the names of the event itself, whatever its contents look like', async () => {
    const secret = join(folder, 'secret.jsonl');
    await writeFile(secret, '{"secret":1}\n');
    await writeFile(transcript, '{"mine":1}\n');
    const fake = `","transcript_path":"${secret}","x":"`;
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }).map((text) => text.replaceAll(/[\ud800-\udfff]/g, '')),
      fc.stringMatching(/^[\\"{}[\]:, \n]{0,12}$/),
      fc.constant(fake),
      fc.constant('transcript_path'),
    );
    const inner = fc.dictionary(fc.constantFrom('transcript_path', 'hook_event_name', 'x'), texts);
    await fc.assert(
      fc.asyncProperty(texts, inner, fc.array(texts), fc.boolean(), async (prompt, input, list, isPretty) => {
        await rm(state(), { recursive: true, force: true });
        const event = {
          tool_input: input,
          prompt,
          a: [[list]],
          ...eventOf('Stop'),
          tool_response: [input],
          end: prompt,
        };
        const before = stub.told.length;
        expect(await hook(isPretty ? JSON.stringify(event, null, 2) : event)).toMatchObject(silence);
        expect(stub.told.length).toBe(before + 1);
        const told = stub.told.at(-1) as Told;
        expect(JSON.parse(told.event)).toEqual(event);
        expect(told.transcript).toBe('{"mine":1}\n');
      }),
      { numRuns: 15 },
    );
  });

  test('has its token on no command line, whatever the shell has to start for it', async () => {
    const bin = join(folder, 'bin');
    await mkdir(bin);
    const seen = join(folder, 'seen');
    for (const name of ['awk', 'cat', 'cksum', 'curl', 'echo', 'git', 'printf', 'sed', 'tr']) {
      await writeFile(join(bin, name), `#!/bin/sh\nPATH=\${PATH#*:}\necho "$0 $*" >>'${seen}'\nexec ${name} "$@"\n`);
      await chmod(join(bin, name), 0o755);
    }
    environment['PATH'] = `${bin}:${environment['PATH']}`;
    environment['LAMINA_TOKEN'] = 'lam_a._~+/B-9=';
    await hook(eventOf('Stop'));
    expect(stub.told[0]?.headers.authorization).toBe('Bearer lam_a._~+/B-9=');
    const lines = await readFile(seen, 'utf8');
    expect(lines).toContain('/curl -q');
    expect(lines).not.toContain('lam_a');
    for (const strange of [
      'lam_"quoted"',
      'lam_\\back',
      'lam_$(exit)',
      'lam_`x`',
      "lam_'",
      'lam_ä',
      'lam_ x',
      'lam_\nx',
    ]) {
      environment['LAMINA_TOKEN'] = strange;
      expect(await hook(eventOf('SessionStart'))).toMatchObject(silence);
    }
    expect(stub.told).toHaveLength(1);
  });

  test('is as soon done with a transcript that is one endless line, and gets past it', async () => {
    await writeFile(transcript, '');
    await truncate(transcript, 20 * 2 ** 30);
    for (let call = 0; call < 2; call++) {
      const answer = await hook(eventOf('Stop'));
      expect(answer).toMatchObject(silence);
      expect(answer.ms).toBeLessThan(boundMs);
    }
    const [first, second] = stub.told.map(({ url }) => Number(url.split('=')[1]));
    expect(first).toBe(0);
    expect(second).toBeGreaterThan(3_145_728);
    await expect.poll(leftRunning, { timeout: 2500 }).toEqual([]);
  });

  test('finds the transcript however its path is written in JSON', async () => {
    const name = 'ü\t\n\u0001 𝄞 \\ "x" \'$(exit)\' `y`.jsonl';
    transcript = join(folder, name);
    await writeFile(transcript, '{"a":1}\n');
    const asciiOf = (text: string) =>
      text.replaceAll(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
    const event = JSON.stringify(eventOf('Stop'));
    const ascii = asciiOf(event.replace('\\t', '\t').replace('\\n', '\n')).replaceAll('/', '\\/');
    expect(JSON.parse(ascii)).toEqual(JSON.parse(event));
    for (const spelled of [event, ascii]) {
      await rm(state(), { recursive: true, force: true });
      await hook(spelled);
      expect(stub.told.at(-1)?.transcript).toBe('{"a":1}\n');
    }
    await hook(eventOf('Stop', { transcript_path: `${transcript}\u0000` }));
    expect(stub.told.at(-1)?.transcript).toBe('');
  });

  test('takes a long transcript in pieces, and no line stops it', async () => {
    const line = (length: number) => `{"text":"${'x'.repeat(length)}"}\n`;
    // Ordinary ones, one longer than a piece, one longer than any request, and an ordinary one again.
    const text = line(100_000).repeat(15) + line(2_000_000) + line(3_500_000) + line(10);
    await writeFile(transcript, text);
    for (let call = 0; call < 12; call++) expect(await hook(eventOf('Stop'))).toMatchObject(silence);
    for (const { body } of stub.told) expect(body.length).toBeLessThan(4 * 1_048_576);
    const whole = stub.told
      .flatMap(({ transcript: piece }) => piece.split('\n').slice(0, -1))
      .map(({ length }) => length + 1);
    expect(new Set(whole)).toEqual(new Set([100_012, 2_000_012, 22]));
    expect(whole.filter((length) => length === 100_012)).toHaveLength(15);
    expect(stub.told.at(-1)?.url).toBe(`/v1/events/factory?offset=${Buffer.byteLength(text)}`);
  });
});

describe('the hook', patience, () => {
  const [shell] = shells as [(typeof shells)[number]];
  const hook = (event: unknown, connection?: string) => runHook({ shell, event, environment, connection });

  test('sends less at a time to a server that is too slow for more, and more again later', async () => {
    await writeFile(transcript, `${'x'.repeat(999)}\n`.repeat(3000));
    stub.answer = (response, told) => (told.transcript.length > 300_000 ? undefined : answerAsLamina(response, told));
    const sizes: number[] = [];
    for (let call = 0; call < 5; call++) {
      await hook(eventOf('Stop'));
      sizes.push(stub.told.at(-1)?.transcript.length ?? 0);
    }
    expect(sizes).toEqual([1_048_576, 524_288, 262_144, 524_288, 262_144]);
    expect(new URL(stub.told[4]?.url ?? '', stub.origin).searchParams.get('offset')).toBe('262000');
  }, 30_000);

  test('leaves a line out that is too long for its time only after it was tried three times', async () => {
    await writeFile(transcript, `${'x'.repeat(1_499_999)}\n{"a":1}\n`);
    let tries = 0;
    stub.answer = (response, told) =>
      told.transcript.length > 1_400_000 && ++tries < 3 ? undefined : answerAsLamina(response, told);
    for (let call = 0; call < 5; call++) await hook(eventOf('Stop'));
    const sent = () => stub.told.map(({ url, transcript: piece }) => [Number(url.split('=')[1]), piece.length]);
    expect(sent()).toEqual([
      [0, 1_048_576],
      [0, 1_500_000],
      [0, 1_500_000],
      [0, 1_500_000],
      [1_500_000, 8],
    ]);
    stub.told.length = 0;
    await rm(state(), { recursive: true });
    tries = Number.NEGATIVE_INFINITY;
    for (let call = 0; call < 5; call++) await hook(eventOf('Stop'));
    expect(sent().at(-1)).toEqual([1_500_000, 8]);
    expect(sent().filter(([, size]) => size === 1_500_000)).toHaveLength(3);
  }, 30_000);

  test('takes nothing that another one tries at the same time for what is known', async () => {
    await writeFile(transcript, `${'x'.repeat(999)}\n`.repeat(3000));
    const held: (() => void)[] = [];
    stub.answer = (response, told) => void held.push(() => answerAsLamina(response, told));
    const first = hook(eventOf('PostToolUse', { tool_name: 'mcp__a__b' }));
    await expect.poll(() => held.length, { timeout: 1500 }).toBe(1);
    stub.answer = answerAsLamina;
    await hook(eventOf('PostToolUse', { tool_name: 'mcp__a__c' }));
    held[0]?.();
    await first;
    await hook(eventOf('Stop'));
    expect(stub.told.map(({ url, transcript: piece }) => [url.split('=')[1], piece.length])).toEqual([
      ['0', 1_048_576],
      ['0', 1_048_576],
      ['1048000', 1_048_576],
    ]);
  });

  test('remembers what was too much also where it is ended before the answer', async () => {
    await writeFile(transcript, `${'x'.repeat(999)}\n`.repeat(3000));
    stub.answer = () => {};
    const script = `exec 5<&0; sh '${hookPath}' <&5 & sleep 0.6; kill $!; wait $!`;
    expect(await runHook({ shell, event: eventOf('Stop'), environment, script })).toMatchObject(silence);
    stub.answer = answerAsLamina;
    await hook(eventOf('Stop'));
    expect(stub.told.map(({ transcript: piece }) => piece.length)).toEqual([1_048_576, 524_288]);
  });

  test('begins anew with a transcript that is another one by now, longer or shorter', async () => {
    const lines = (name: string, count: number) =>
      Array.from({ length: count }, (_, at) => `{"${name}":${at}}\n`).join('');
    for (const [name, count] of [
      ['a', 20],
      ['b', 40],
      ['c', 10],
    ] as const) {
      await writeFile(transcript, lines(name, count));
      await hook(eventOf('Stop'));
      expect(stub.told.at(-1)?.transcript).toBe(lines(name, count));
      await appendFile(transcript, '{"more":1}\n');
      await hook(eventOf('Stop'));
      expect(stub.told.at(-1)?.transcript).toBe('{"more":1}\n');
    }
  });

  test('is not stopped by what its user has set for every shell', async () => {
    const bash = shells.find(({ name }) => name === 'bash');
    if (bash === undefined) return console.warn('No bash found: SHELLOPTS is not tried.');
    environment['SHELLOPTS'] = 'errexit:noclobber:noglob:nounset:pipefail';
    await writeFile(transcript, '{"a":1}\n');
    for (let call = 1; call < 3; call++) {
      const answer = await runHook({ shell: bash, event: eventOf('SessionStart'), environment });
      expect(answer).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('retries are 5') });
      expect(stub.told).toHaveLength(call);
    }
  });

  test('sends less where the server says it was too much, and as much as before where nobody was reached', async () => {
    await writeFile(transcript, `${'x'.repeat(999)}\n`.repeat(3000));
    const sizes = () => stub.told.map(({ transcript: piece }) => piece.length);
    stub.answer = (response) => response.writeHead(413).end();
    await hook(eventOf('Stop'));
    stub.answer = (response) => response.writeHead(500).end();
    await hook(eventOf('Stop'));
    const bin = join(folder, 'bin');
    await mkdir(bin);
    await writeFile(join(bin, 'curl'), "#!/bin/sh\ncat >/dev/null\nprintf '000 0.000000 '\nexit 28\n");
    await chmod(join(bin, 'curl'), 0o755);
    await runHook({
      shell,
      event: eventOf('Stop'),
      environment: { ...environment, PATH: `${bin}:${environment['PATH']}` },
    });
    await hook(eventOf('Stop'));
    expect(sizes()).toEqual([1_048_576, 524_288, 524_288]);
  });

  test('waits for a server that refuses the whole, and sends nothing twice but what was not taken', async () => {
    await writeFile(transcript, '{"a":1}\n');
    stub.answer = (response) => response.writeHead(503).end();
    await hook(eventOf('Stop'));
    stub.answer = answerAsLamina;
    await hook(eventOf('Stop'));
    await hook(eventOf('Stop'));
    expect(stub.told.map(({ transcript: piece }) => piece)).toEqual(['{"a":1}\n', '{"a":1}\n', '']);
  });

  test('goes where the server says the transcript is to go on', async () => {
    await writeFile(transcript, '{"a":1}\n{"b":2}\n');
    await hook(eventOf('Stop'));
    stub.answer = (response) =>
      response.writeHead(200, { 'content-type': 'application/json', 'Transcript-Offset': '8' }).end('{}');
    await hook(eventOf('Stop'));
    for (const wrong of ['-1', '08x', '99999999999999999999', '']) {
      stub.answer = (response) =>
        response.writeHead(200, { 'content-type': 'application/json', 'Transcript-Offset': wrong }).end('{}');
      await hook(eventOf('Stop'));
      expect(stub.told.at(-1)).toMatchObject({ url: '/v1/events/factory?offset=8', transcript: '{"b":2}\n' });
    }
  });

  test('does not take what is in its own state for more than it is', async () => {
    await writeFile(transcript, '{"a":1}\n');
    await hook(eventOf('Stop'));
    const [name = ''] = await readdir(join(state(), 'sessions'));
    for (const rubbish of [
      '',
      'x',
      '08 1 1',
      '1;rm 2 3',
      '-5 5 5',
      '99999999999999999 1 1',
      '8 1048576 0',
      '8 0 0 5',
      '8 99999999 0 -x',
    ]) {
      await writeFile(join(state(), 'sessions', name), rubbish);
      expect(await hook(eventOf('Stop'))).toMatchObject(silence);
      expect(stub.told.at(-1)?.url).toBe('/v1/events/factory?offset=0');
    }
  });

  test('tells the repository’s address without who may read it', async () => {
    const repository = join(folder, 'a "repository" $(exit 7)');
    await mkdir(repository);
    const git = (...args: string[]) => run('git', ['-C', repository, ...args]);
    await git('init', '-q');
    const event = () => eventOf('Stop', { cwd: repository });
    await hook(event());
    expect(stub.told.at(-1)?.headers).not.toHaveProperty('x-lamina-git-remote');
    await git('remote', 'add', 'upstream', 'https://example.com/up.git');
    await git('remote', 'add', 'origin', 'https://ann:s3cret%21@p@example.com:8443/team/näme "x".git?token=y#z');
    for (const [url, wanted] of [
      [undefined, 'https://example.com:8443/team/näme "x".git'],
      ['git@example.com:team/app.git', 'example.com:team/app.git'],
      ['ssh://git@example.com/team/app.git', 'ssh://example.com/team/app.git'],
      ['hg::https://ann:s3cret@example.com/app', 'https://example.com/app'],
      ['codecommit::eu-west-1://s3cret@app', 'eu-west-1://app'],
      ['persistent-https://ann:s3cret@example.com/app', 'persistent-https://example.com/app'],
      ['svn2+ssh://ann:s3cret@example.com/app', 'svn2+ssh://example.com/app'],
      ['https://ann:s3?cr#et@example.com/app?x#y', 'https://example.com/app'],
      ['ann:s3cret@example.com:team/app', undefined],
      ['//ann:s3cret@example.com/app', undefined],
      ['https://ann:s3/cret@example.com/app', undefined],
      ['https://ann:s3@cr/et@example.com/app', undefined],
      ['https://ann:s3/cr?et@example.com/app', undefined],
      [`https://example.com/${'x'.repeat(400)}`, undefined],
    ] as const) {
      if (url !== undefined) await git('remote', 'set-url', 'origin', url);
      await hook(event());
      const sent = stub.told.at(-1)?.headers['x-lamina-git-remote'] as string | undefined;
      expect(sent === undefined ? undefined : decodeURIComponent(sent)).toBe(wanted);
    }
  });

  test('asks whom its connection names, whatever the environment says, and nobody where that is gone', async () => {
    await mkdir(join(state(), 'connections'), { recursive: true });
    const connection = join(state(), 'connections', 'droid');
    await writeFile(connection, `${stub.origin}/\n${token}-own\n`);
    environment['LAMINA_URL'] = 'http://127.0.0.1:9';
    await writeFile(transcript, '{"a":1}\n');
    await hook(eventOf('Stop'), connection);
    expect(stub.told[0]?.headers.authorization).toBe(`Bearer ${token}-own`);
    expect(stub.told[0]?.url).toBe('/v1/events/factory?offset=0');
    // What it remembers is beside its connection, wherever the environment would have it.
    environment['XDG_STATE_HOME'] = join(folder, 'elsewhere');
    await hook(eventOf('Stop'), connection);
    expect(stub.told[1]?.url).toBe('/v1/events/factory?offset=8');
    environment['LAMINA_URL'] = stub.origin;
    expect(await hook(eventOf('SessionStart'), `${connection}-gone`)).toMatchObject(silence);
    expect(stub.told).toHaveLength(2);
    environment['LAMINA_URL'] = `${stub.origin}//`;
    await hook(eventOf('Stop'));
    expect(stub.told[2]).toMatchObject({
      url: '/v1/events/factory?offset=0',
      headers: { authorization: `Bearer ${token}` },
    });
    for (const wrong of ['file:///etc/passwd', 'http://x"y', 'http://']) {
      environment['LAMINA_URL'] = wrong;
      expect(await hook(eventOf('SessionStart'))).toMatchObject(silence);
    }
  });

  test('goes past a proxy to this machine, and past what curl is told in the user’s own file', async () => {
    const proxy = await startStub();
    await writeFile(join(folder, 'home', '.curlrc'), `verbose\ninclude\nproxy = "${proxy.origin}"\n`);
    Object.assign(environment, { http_proxy: proxy.origin, ALL_PROXY: proxy.origin });
    expect(JSON.parse((await hook(eventOf('SessionStart'))).stdout)).toHaveProperty('hookSpecificOutput');
    proxy.close();
    expect([proxy.told.length, stub.told.length]).toEqual([0, 1]);
  });

  test('does nothing without curl, without a home, and where it is told to keep quiet', async () => {
    await writeFile(transcript, '{"a":1}\n');
    environment['LAMINA_CAPTURE'] = 'events';
    await hook(eventOf('Stop'));
    expect(stub.told.map(({ transcript: piece }) => piece)).toEqual(['']);
    environment['LAMINA_CAPTURE'] = 'off';
    expect(await hook(eventOf('SessionStart'))).toMatchObject(silence);
    delete environment['LAMINA_CAPTURE'];
    await hook(eventOf('PostToolUse', { tool_name: 'mcp__lamina__context_put' }));
    expect(stub.told).toHaveLength(1);
    await hook(eventOf('PostToolUse', { tool_name: 'mcp__memory__create_entities' }));
    expect(stub.told).toHaveLength(2);

    const bare = join(folder, 'bare');
    await mkdir(bare);
    for (const name of ['sh', 'mktemp', 'rm', 'cat', 'sleep', 'awk'])
      await symlink((await run('sh', ['-c', `command -v ${name}`])).stdout.trim(), join(bare, name));
    const { PATH = '' } = environment;
    environment['PATH'] = bare;
    expect(await runHook({ shell, event: eventOf('SessionStart'), environment })).toMatchObject(silence);
    environment['PATH'] = PATH;
    const { HOME: _, ...homeless } = environment;
    const answer = await runHook({ shell, event: eventOf('SessionStart'), environment: homeless });
    expect(JSON.parse(answer.stdout)).toHaveProperty('hookSpecificOutput');
    expect(stub.told.at(-1)?.transcript).toBe('{"a":1}\n');
  });

  test('of an event that is too large sends its short parts', async () => {
    const event = eventOf('PostToolUse', {
      tool_name: 'mcp__x__y',
      note: 'a "b"\n',
      tool_response: 'x"\\\n'.repeat(200_000),
    });
    expect(await hook(event)).toMatchObject(silence);
    const { tool_response, ...short } = event as Record<string, unknown>;
    expect(JSON.parse(stub.told[0]?.event ?? '')).toEqual(short);
    expect(tool_response).toBeDefined();
  });

  test('forgets sessions of which nothing was heard for a month, and clears up after hooks that were killed', async () => {
    await writeFile(transcript, '{"a":1}\n');
    await hook(eventOf('Stop'));
    const old = join(state(), 'sessions', 'old-1');
    await writeFile(old, '1 1 0');
    await utimes(old, 0, 0);
    // What a hook that was killed has left, what one that runs has, and what only looks like it.
    const left = ['lamina-hook.killed', 'lamina-hook.runs00', 'lamina-hook.backup', 'other'];
    for (const name of left) await mkdir(join(folder, 'tmp', name));
    for (const name of left.slice(0, 2)) await writeFile(join(folder, 'tmp', name, 'input'), 'x');
    for (const name of [left[0], 'lamina-hook.killed/input', left[2], left[3]])
      await utimes(join(folder, 'tmp', name ?? ''), 0, 0);
    await hook(eventOf('SessionStart'));
    expect(await readdir(join(state(), 'sessions'))).toEqual([expect.stringContaining(session)]);
    expect((await readdir(join(folder, 'tmp'))).sort()).toEqual(['lamina-hook.backup', 'lamina-hook.runs00', 'other']);
  });
});
