import { describe, expect, test } from 'vitest';
import { readEvent } from '../../lib/factory/events.ts';
import { factsOfText, factsOfTool, todosIn } from '../../lib/factory/facts.ts';
import { escapeMarkers, stripInjected } from '../../lib/factory/injected.ts';
import { maskText } from '../../lib/factory/masking.ts';
import { memoryCallOf } from '../../lib/factory/memory-calls.ts';
import { noteIn } from '../../lib/factory/notes.ts';
import { readLine } from '../../lib/factory/transcript.ts';

const event = (more: object) => readEvent({ session_id: 's', hook_event_name: 'Stop', ...more });
const call = (tool_name: string) => memoryCallOf({ event: 'PostToolUse', payload: { event: { tool_name } } }, ['x']);
const units = [
  ...['a', ' ', '\n', '/', '-', '=', ':', '"', "'", '`', '(', '<', '@', '.', '\\', '$', '#', '[', '0'],
  ...[
    'a.',
    'a-',
    'a=',
    'a:',
    '\\"',
    '://',
    'a://',
    'a:b@',
    'https://a:',
    '-----BEGIN PRIVATE KEY-----',
    '-----BEGIN A',
    '-----END ',
  ],
  ...[
    'eyJ',
    'eyJ-',
    'eyJaaaaaaaa.',
    'sk-',
    'SG.',
    'ghp_',
    'token=',
    'token="',
    'token=\\"',
    "token='[masked:",
    'password: $',
    'token=/',
  ],
  ...[
    '--token "',
    "--a '",
    'curl -u ',
    'mysql ',
    'redis-cli ',
    'docker login ',
    'login ',
    'machine a ',
    'cookie: a',
    'authorization: ',
  ],
  ...['name: A', 'name=token,value=', 'the token `', 'password (', '&key=', '${', '{{', '<a', 'AT', 'Bearer '],
  ...[
    '<system-reminder>',
    '</system-reminder>',
    '<lamina-context><system-reminder>',
    '</lamina-context>',
    '< ',
    '<\u200b',
  ],
  ...['plan\n', '[x]', '- [ ', '1. ', '. ', 'we decided ', '# ', 'remember: ', '*** Add File: '],
];
// In microseconds of this process, which others on the machine do not lengthen.
const atOnce = 100_000;
const works: Readonly<Record<string, (text: string) => unknown>> = {
  maskText,
  stripInjected,
  escapeMarkers,
  todosIn,
  noteIn,
  'noteIn behind #': (text) => noteIn(`#${text}x\ny`),
  'factsOfText of a user': (text) => factsOfText('user', text),
  'factsOfText of an assistant': (text) => factsOfText('assistant', `${text}b`),
  factsOfTool: (text) => factsOfTool('plan_todo_edit', { plan: text, todos: text, patch: text }),
  readLine: (text) => readLine(JSON.stringify({ type: 'message', message: { role: 'user', content: text } })),
  git_remote: (text) => event({ git_remote: `https://h/a${text}x` }),
  cwd: (text) => event({ cwd: `${text}x` }),
  tool_name: (text) => call(`mcp__${text}1`),
};

describe('what is read of an event', () => {
  // A square makes four times the text take sixteen times as long. What is over at once is none, and its time says nothing.
  test.each(Object.entries(works))('%s takes no more than in proportion to what is sent', (_name, work) => {
    const timed = (text: string) => {
      const times = [1, 2, 3].map(() => {
        const before = process.cpuUsage();
        work(text);
        return process.cpuUsage(before).user;
      });
      return Math.min(...times);
    };
    for (const unit of units) {
      const [text, fourTimes] = [16_000, 64_000].map((length) => unit.repeat(length / unit.length)) as [string, string];
      const took = timed(fourTimes);
      if (took > atOnce) expect(took / timed(text), unit).toBeLessThan(10);
    }
  });
});
