import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type BlockOrder, type BlockReport, pullBlocks, pushBlocks } from '../functions/block-sync.ts';
import { type Client, createClient } from '../functions/client.ts';
import { createConsoleTelemetry } from '../functions/console-telemetry.ts';
import { openClient } from '../functions/open-client.ts';
import { home, readEnvironment } from '../functions/runtime.ts';
import {
  appendBlock,
  fillBlock,
  hashBlock,
  isEdited,
  type Made,
  readBlocks,
  toBlockText,
  toContextText,
  unclosedCode,
} from '../lib/factory/blocks.ts';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';
import { startServing, stopServing } from './support/serving.ts';

const run = promisify(execFile);
const fill = (text: string, version = 3) => ({ version, versionText: text, text: toBlockText(text) });
const read = (text: string) => readBlocks(Buffer.from(text));
const begin = (id: string, text = '') => `<!-- lamina:begin id=${id} version=3 hash=${hashBlock(text)} -->`;
const end = '<!-- lamina:end -->';
const take = (made: Made): Buffer => {
  if ('refused' in made) throw new Error(`refused: ${made.refused}`);
  return made.bytes;
};
const append = (...args: Parameters<typeof appendBlock>) => take(appendBlock(...args));
const refill = (...args: Parameters<typeof fillBlock>) => take(fillBlock(...args));

describe('the blocks of a file', () => {
  const line = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.replaceAll(/[\n\0]/g, '')),
    fc.constantFrom('', ' ', '# Title', '```', '````', '~~~', '```js', '> quoted', '    code', '- item', '\r', 'x  '),
    fc.constantFrom(`    ${end}`, `text ${begin('a')}`, '<!-- comment -->', `> ${end}`),
  );
  const prose = fc
    .tuple(fc.array(fc.tuple(line, fc.constantFrom('\n', '\r\n'))), line, fc.constantFrom('', '\ufeff'))
    .map(([lines, last, mark]) => mark + lines.map(([text, close]) => text + close).join('') + last);
  const bytes = fc.oneof(
    prose.map((text) => Buffer.from(text)),
    fc.uint8Array({ min: 1 }).map((one) => Buffer.from(one)),
  );
  /** What Lamina may be asked to put there. */
  const text = fc.oneof(prose, fc.string()).map((one) => one.replaceAll('\0', ''));
  const attempt = <Value>(work: () => Value): Value | Error => {
    try {
      return work();
    } catch (error) {
      return error as Error;
    }
  };

  test('no byte outside of the markers is ever changed, and what is written is read again', () => {
    let filled = 0;
    fc.assert(
      fc.property(bytes, text, text, (file, first, second) => {
        const appended = attempt(() => append(file, 'one', fill(first)));
        if (appended instanceof Error) return void expect(appended.message).toMatch(/^(refused: |Line \d+|It is)/);
        expect(appended.subarray(0, file.length)).toEqual(file);
        const tail = Buffer.from('\n\n# after\r\nno end');
        const whole = Buffer.concat([appended, tail]);
        const [block] = readBlocks(whole);
        expect(block).toMatchObject({ id: 'one', version: 3, hash: hashBlock(first), text: toBlockText(first) });
        const changed = attempt(() => refill(whole, 'one', fill(second, 4)));
        if (changed instanceof Error) return void expect(changed.message).toMatch(/^refused: /);
        filled++;
        const [now] = readBlocks(changed);
        expect(now).toMatchObject({ version: 4, hash: hashBlock(second), text: toBlockText(second) });
        expect(changed.subarray(0, block?.marker.start)).toEqual(whole.subarray(0, block?.marker.start));
        expect(changed.subarray(now?.inner.end)).toEqual(whole.subarray(block?.inner.end));
        expect(refill(changed, 'one', fill(second, 4))).toEqual(changed);
      }),
      { numRuns: 2000 },
    );
    expect(filled).toBeGreaterThan(300);
  });

  test('several blocks are filled each by itself', () => {
    const names = ['a', 'b:1', 'c~d.e'];
    fc.assert(
      fc.property(fc.array(fc.tuple(prose, text), { minLength: 3, maxLength: 3 }), text, (parts, other) => {
        let file: Buffer | Error = Buffer.from('');
        for (const [at, [between, content]] of parts.entries()) {
          const before: Buffer = Buffer.concat([file as Buffer, Buffer.from(between)]);
          file = attempt(() => append(before, names[at] ?? '', fill(content)));
          if (file instanceof Error) return;
        }
        const blocks = readBlocks(file);
        expect(blocks.map(({ id, text: now }) => [id, now])).toEqual(
          parts.map(([, content], at) => [names[at], toBlockText(content)]),
        );
        const changed = attempt(() => refill(file as Buffer, 'b:1', fill(other)));
        if (changed instanceof Error) return;
        expect(readBlocks(changed).map(({ text: now }) => now)).toEqual([
          blocks[0]?.text,
          toBlockText(other),
          blocks[2]?.text,
        ]);
      }),
      { numRuns: 1000 },
    );
  });

  test('keep the line ends and the last line end of the text they came from', () => {
    fc.assert(
      fc.property(text, (one) => {
        expect(toContextText(toBlockText(one), one)).toBe(one);
        expect(toBlockText(toContextText(toBlockText(one), one))).toBe(toBlockText(one));
      }),
    );
    fc.assert(
      fc.property(text, text, (one, version) => {
        const made = toContextText(toBlockText(one), version);
        expect(toBlockText(made)).toBe(toBlockText(one));
      }),
    );
    expect(toContextText('a\nb', 'x\r\ny')).toBe('a\r\nb');
    expect(toContextText('a\nb', 'x\r\ny\r\n')).toBe('a\r\nb\r\n');
    expect(toContextText('a\nb', 'x')).toBe('a\nb');
    expect(toContextText('', '\r\n')).toBe('\r\n');
    // Of mixed ones each line that nobody has touched keeps its own.
    expect(toContextText('a\nnew\nb\nc\nlast', 'a\r\nb\nold\nc\r\r\nlast')).toBe('a\r\nnew\nb\nc\r\r\nlast');
    expect(toContextText('a\nb\nmore', 'a\r\nb\r\nc\n')).toBe('a\r\nb\r\nmore\r\n');
    expect(toContextText('a\nb', undefined)).toBe('a\nb\n');
    expect(append(Buffer.from('x\r\n'), 'a', fill('1\n2\n')).toString()).toBe(
      `x\r\n\r\n${begin('a', '1\n2')}\r\n1\r\n2\r\n${end}\r\n`,
    );
  });

  test('in code are none', () => {
    for (const fence of ['```', '~~~', '````md', '   ```'])
      expect(read(`${fence}\n${begin('a')}\n${end}\n${fence.replace('md', '')}\n`)).toEqual([]);
    expect(read(`    ${begin('a')}\n    ${end}\n\`\`\`\n~~~\n${begin('a')}\n`)).toEqual([]);
    expect(read(`\`\`\` no \`fence\`\n${begin('a')}\n${end}\n`)).toHaveLength(1);
    expect(read(`${begin('a')}\n\`\`\`\n${end}\n\`\`\`\n${end}`)).toMatchObject([{ text: `\`\`\`\n${end}\n\`\`\`` }]);
  });

  test('are as the documentation shows one', async () => {
    const [, example = ''] = /```md\n([\s\S]*?)```/.exec(await readFile(join(home, 'docs/droid.md'), 'utf8')) ?? [];
    expect(read(example).map((block) => [block.id, isEdited(block)])).toEqual([['checkout', false]]);
  });

  test('that are broken are named with their line', () => {
    const broken: Record<string, string> = {
      [`x\n${begin('a')}\n`]: 'Line 2: the block does not end.',
      [`${begin('a')}\n\`\`\`\n${end}`]: 'Line 1: the block does not end. The code block of line 2 is not closed.',
      [`${begin('a')}\n${begin('b')}\n${end}\n${end}`]: 'Line 2: a block begins inside that of line 1.',
      [`\n${end}`]: 'Line 2: a block ends that does not begin.',
      [`${begin('a')}\n${end}\n${begin('a')}\n${end}`]: 'Line 3: a has a block in line 1 already.',
      '<!-- lamina:begin id=a version=0 hash=000000000000 -->': 'Line 1: this is no marker',
      '<!-- lamina:begin -->': 'Line 1: this is no marker',
      '<!-- lamina:begin id=a version=1 -->': 'Line 1: this is no marker',
      '<!--lamina:end-->': 'Line 1: this is no marker',
      [`${begin('a')} x`]: 'Line 1: this is no marker',
      'a\0b': 'bytes that are zero',
    };
    for (const [file, message] of Object.entries(broken)) {
      expect(() => read(file)).toThrow(message);
      expect(() => appendBlock(Buffer.from(file), 'z', fill('x'))).toThrow(message);
    }
    expect(() =>
      readBlocks(Buffer.concat([Buffer.from(`${begin('a')}\n`), Buffer.from([0xff]), Buffer.from(`\n${end}`)])),
    ).toThrow('Line 1: what stands in the block is not UTF-8.');
    // As a reader of Markdown sees it a list's code ends there; by its lines alone another one begins.
    const listed = Buffer.from('- ```sh\n  x\n  ```\n');
    for (const file of [Buffer.from('a\nb\n```\nopen'), listed]) {
      expect(unclosedCode(file)).toBe(3);
      expect(appendBlock(file, 'a', fill('x'))).toEqual({ refused: expect.stringContaining('after line 3 is code') });
    }
    for (const content of ['```\nopen', end, `${begin('b')}\n${end}`])
      expect(appendBlock(Buffer.from('x'), 'a', fill(content))).toEqual({
        refused: expect.stringContaining('its text'),
      });
  });
});

describe('pull and push', () => {
  let store: TestStore;
  let client: Client;
  let folder: string;
  let path: string;
  let id: string;
  beforeAll(async () => {
    const [engine] = engines as [(typeof engines)[number]];
    store = await openStore(engine);
    client = createClient({ url: 'http://lamina.test', token: store.token, fetch: (request) => store.fetch(request) });
  });
  afterAll(() => store.manager.close());
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamina-blocks-'));
    path = join(folder, 'AGENTS.md');
    id = newId('block');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const put = async (content: string, more: Record<string, unknown> = {}, query = '') =>
    (
      await store.send('PUT', `/v1/contexts/${id}${query}`, {
        body: { content, contentType: 'text/markdown', ...more },
      })
    ).json;
  const head = async () => (await store.send('GET', `/v1/contexts/${id}`)).json;
  const pull = (more: Partial<BlockOrder> = {}) => pullBlocks(client, { path, ...more });
  const push = (more: Partial<BlockOrder> = {}) => pushBlocks(client, { path, ...more });
  const file = () => readFile(path, 'utf8');
  const edit = async (from: string, to: string) => writeFile(path, (await file()).replace(from, to));
  const ten = Array.from({ length: 10 }, (_, at) => `line ${at}\n`).join('');

  test('bring a context into a file and edits of it back, and write nothing when there is nothing', async () => {
    await put(ten, { kind: 'instructions', metadata: { team: 'x' } });
    await writeFile(path, '# Mine\r\n\r\nno last line end');
    expect(await pull({ id })).toEqual([{ id, text: 'version 1 put at the end', isUnsettled: false }]);
    expect(await file()).toBe(
      `# Mine\r\n\r\nno last line end\r\n\r\n<!-- lamina:begin id=${id} version=1 hash=${hashBlock(ten)} -->\r\n${ten.replaceAll('\n', '\r\n')}${end}\r\n`,
    );
    const { mtimeNs } = await stat(path, { bigint: true });
    expect((await pull())[0]?.text).toContain('as it was');
    expect((await push())[0]?.text).toContain('not edited here');
    expect((await stat(path, { bigint: true })).mtimeNs).toBe(mtimeNs);
    await edit('line 3', 'line three');
    expect((await pull())[0]).toMatchObject({
      text: expect.stringContaining('push takes it there'),
      isUnsettled: false,
    });
    expect(await push()).toEqual([{ id, text: 'version 2', isUnsettled: false }]);
    expect(await head()).toMatchObject({
      version: 2,
      content: ten.replace('line 3', 'line three'),
      contentType: 'text/markdown',
      kind: 'instructions',
      metadata: { team: 'x' },
    });
    expect(await file()).toContain('version=2');
    await put('other\n');
    expect(await pull()).toEqual([{ id, text: 'version 3', isUnsettled: false }]);
    expect(await file()).toMatch(
      /^# Mine\r\n\r\nno last line end\r\n\r\n<!-- lamina:begin .* -->\r\nother\r\n<!-- lamina:end -->\r\n$/,
    );
    await put('', {});
    await pull();
    expect(readBlocks(await readFile(path))[0]).toMatchObject({ text: '', version: 4 });
  });

  test('merge edits on both sides, whichever is asked for first', async () => {
    for (const first of [pull, push]) {
      id = newId('block');
      await put(ten);
      await rm(path, { force: true });
      await pull({ id });
      await edit('line 8', 'line eight, here');
      await put(ten.replace('line 1', 'line one, there'));
      const both = ten.replace('line 1', 'line one, there').replace('line 8', 'line eight, here');
      expect((await first())[0]?.isUnsettled).toBe(false);
      expect(readBlocks(await readFile(path))[0]?.text).toBe(toBlockText(both));
      expect((await push())[0]?.isUnsettled).toBe(false);
      expect(await head()).toMatchObject({ version: 3, content: both });
      expect((await pull())[0]?.text).toBe('version 3, as it was');
    }
  });

  test('of the same lines changed on both sides show both and change neither, until somebody says which', async () => {
    for (const [prefer, wanted] of [
      ['ours', 'here'],
      ['theirs', 'there'],
    ] as const) {
      id = newId('block');
      await put(ten);
      await rm(path, { force: true });
      await pull({ id });
      await edit('line 4', 'line 4 here');
      await edit('line 8', 'line eight');
      await put(ten.replace('line 4', 'line 4 there'));
      const before = await file();
      for (const work of [pull, push]) {
        const [report] = await work();
        expect(report).toMatchObject({
          isUnsettled: true,
          text: expect.stringMatching(/L5[\s\S]*line 4 here[\s\S]*line 4 there[\s\S]*--prefer/),
        });
        expect([await file(), (await head()).version]).toEqual([before, 2]);
      }
      expect((await pull({ prefer }))[0]?.isUnsettled).toBe(false);
      expect((await push())[0]?.isUnsettled).toBe(false);
      expect((await head()).content).toBe(ten.replace('line 4', `line 4 ${wanted}`).replace('line 8', 'line eight'));
    }
  });

  test('take a version for the block’s own only where its text is the one the block was made from', async () => {
    // What another Lamina has called version 1 of the same id.
    const foreign = 'Ann: tabs\n';
    const here = `Bob: spaces\n${ten}`;
    const marker = (version: number) => `<!-- lamina:begin id=${id} version=${version} hash=${hashBlock(foreign)} -->`;
    await put(here);
    for (const [text, works] of [
      [foreign, [pull]],
      ['Ann: tabs, and more\n', [pull, push]],
    ] as const) {
      await writeFile(path, `${marker(1)}\n${text}${end}\n`);
      for (const work of works) {
        const [report] = await work();
        expect(report).toMatchObject({ isUnsettled: true, text: expect.stringContaining('version 1 there is not') });
        expect(report?.text).toContain(`version=1 hash=${hashBlock(here)}`);
      }
      expect(await file()).toBe(`${marker(1)}\n${text}${end}\n`);
    }
    await put(`${here}more\n`);
    for (const work of [pull, push])
      expect((await work())[0]).toMatchObject({
        isUnsettled: true,
        text: expect.stringMatching(/version 1 there is not[\s\S]*version=2 hash=\w{12} /),
      });
    expect(await head()).toMatchObject({ version: 2, content: `${here}more\n` });
    // What it says to do is enough.
    await writeFile(path, `<!-- lamina:begin id=${id} version=2 hash=${hashBlock(`${here}more`)} -->\nours\n${end}\n`);
    expect((await push())[0]).toMatchObject({ isUnsettled: false, text: 'version 3' });
  });

  test('go on past a text that cannot stand in a block, and say where it was written', async () => {
    const [one, two] = [id, newId('block')];
    for (const name of [one, two]) {
      id = name;
      await put(`of ${name}\n${ten}`);
      await pull({ id });
    }
    for (const name of [one, two]) {
      id = name;
      await put(`of ${name}\n${ten}${name === one ? '```\nnever closed\n' : 'more\n'}`);
    }
    const settled = (reports: BlockReport[]) => reports.map(({ id: name, isUnsettled }) => [name, !isUnsettled]);
    const refused = /^it cannot stand in a block of .*AGENTS\.md: its text has markers/;
    const pulled = await pull();
    expect(settled(pulled)).toEqual([
      [one, false],
      [two, true],
    ]);
    expect(pulled[0]?.text).toMatch(refused);
    expect(pulled[0]?.text).toMatch(/Nothing was changed\.$/);
    for (const name of [one, two]) await edit(`of ${name}`, `edited ${name}`);
    for (let time = 0; time < 2; time++) {
      const pushed = await push();
      expect(settled(pushed)).toEqual([
        [one, false],
        [two, true],
      ]);
      expect(pushed[0]?.text).toMatch(refused);
      expect(pushed[0]?.text).toMatch(/Version 3 was written there\.$/);
    }
    id = one;
    expect(await head()).toMatchObject({ version: 3, content: `edited ${one}\n${ten}\`\`\`\nnever closed\n` });
    await rm(path);
    expect(settled(await pull({ id: one }))).toEqual([[one, false]]);
  });

  test('keep the type that the context has by now', async () => {
    await put(ten, { contentType: 'text/plain' });
    await pull({ id });
    await put(ten, { contentType: 'text/markdown' });
    await edit('line 3', 'line three');
    expect((await push())[0]?.isUnsettled).toBe(false);
    expect(await head()).toMatchObject({ contentType: 'text/markdown', content: ten.replace('line 3', 'line three') });
  });

  test('have no conflict in lines that nobody has touched, however they end', async () => {
    const mixed = ten.replaceAll(/([02468])\n/g, '$1\r\n');
    await put(mixed);
    await pull({ id });
    await edit('line 7', 'line seven, here');
    await put(mixed.replace('line 2', 'line two, there'));
    expect((await pull())[0]?.isUnsettled).toBe(false);
    expect((await push())[0]?.isUnsettled).toBe(false);
    const both = mixed.replace('line 2', 'line two, there').replace('line 7', 'line seven, here');
    expect((await head()).content).toBe(both);
  });

  test('say how an edit is discarded that is the only change', async () => {
    await put(ten);
    await pull({ id });
    await edit('line 3', 'line three');
    const edited = await file();
    expect(await pull({ prefer: 'theirs' })).toEqual([
      { id, isUnsettled: false, text: expect.stringContaining('empty the block, take version and hash out') },
    ]);
    expect(await file()).toBe(edited);
    await writeFile(path, `<!-- lamina:begin id=${id} -->\n${end}\n`);
    await pull();
    expect(readBlocks(await readFile(path))[0]?.text).toBe(toBlockText(ten));
  });

  test('quote a path in the commands they advise', async () => {
    path = join(folder, "it's a file.md");
    await put(ten);
    await pull({ id });
    await edit('line 3', 'here');
    await put(ten.replace('line 3', 'there'));
    const [report] = await pull();
    const [, word = ''] = /pull -- (.*) --id/.exec(report?.text ?? '') ?? [];
    expect((await run('sh', ['-c', `printf %s ${word}`])).stdout).toBe(path);
    await writeFile(path, '');
    await expect(push()).rejects.toThrow(`pull -- ${word} --id`);
    await writeFile(path, `- \`\`\`\n  \`\`\`\n<!-- lamina:begin id=${id} -->\n${end}\n`);
    await expect(push()).rejects.toThrow(/it's a file\.md has no block: what comes after line 2 is code/);
  });

  test('of a context that was deleted leave the block and say so; a block taken out deletes nothing', async () => {
    await put(ten);
    await pull({ id });
    await store.send('DELETE', `/v1/contexts/${id}`);
    const before = await file();
    expect(await pull()).toEqual([{ id, isUnsettled: true, text: expect.stringContaining('deleted in Lamina') }]);
    await edit('line 3', 'line three');
    expect(await push()).toEqual([{ id, isUnsettled: true, text: expect.stringContaining('deleted in Lamina') }]);
    expect(await file()).toBe(before.replace('line 3', 'line three'));
    await writeFile(path, (await file()).replace(/ version=\d+ hash=\w+/, ''));
    expect((await push())[0]).toMatchObject({ isUnsettled: false, text: expect.stringContaining('new') });
    expect((await head()).content).toBe(ten.replace('line 3', 'line three'));

    await writeFile(path, '# nothing of Lamina\n');
    await expect(push()).rejects.toThrow(/no block.*stays in Lamina.*DELETE/);
    expect((await head()).version).toBeGreaterThan(1);
    expect(await pull({ id: 'never-there' })).toEqual([
      { id: 'never-there', isUnsettled: true, text: expect.stringContaining('does not have it') },
    ]);
    expect(await file()).toBe('# nothing of Lamina\n');
  });

  test('of a block that somebody wrote by hand make a context, or fill it where it is empty', async () => {
    await writeFile(path, `<!-- lamina:begin id=${id} -->\nby hand\n${end}`);
    expect((await pull())[0]?.isUnsettled).toBe(true);
    expect((await push())[0]).toMatchObject({ text: 'version 1, new', isUnsettled: false });
    expect(await head()).toMatchObject({ content: 'by hand\n', contentType: 'text/markdown', kind: 'note' });
    await writeFile(path, `<!-- lamina:begin id=${id} -->\nby another hand\n${end}`);
    expect([(await push())[0]?.isUnsettled, (await pull())[0]?.isUnsettled]).toEqual([true, true]);
    await writeFile(path, `<!-- lamina:begin id=${id} -->\n${end}`);
    expect((await pull())[0]).toEqual({ id, text: 'version 1', isUnsettled: false });
    expect(await file()).toMatch(/version=1 hash=\w{12} -->\nby hand\n<!-- lamina:end -->$/);
  });

  test('say when the base is no longer kept, and what is no text', async () => {
    await put(ten);
    await pull({ id });
    await edit('line 3', 'line three');
    await writeFile(path, (await file()).replace('version=1', 'version=77'));
    for (const work of [pull, push]) {
      const [report] = await work();
      expect(report).toMatchObject({ isUnsettled: true, text: expect.stringContaining('version 77') });
    }
    await store.send('PUT', `/v1/contexts/${id}`, { body: { content: { a: 1 } } });
    expect((await pull())[0]).toMatchObject({ isUnsettled: true, text: expect.stringContaining('application/json') });
  });

  test('write a file in one step, keep its mode, and what a link leads to; a broken one is left as it is', async () => {
    await put(ten);
    const real = join(folder, 'real.md');
    await writeFile(real, 'x\n');
    await chmod(real, 0o640);
    await symlink(real, path);
    await pull({ id });
    expect((await stat(real)).mode & 0o777).toBe(0o640);
    expect(await readFile(real, 'utf8')).toContain('line 9');
    expect((await readdir(folder)).sort()).toEqual(['AGENTS.md', 'real.md']);
    const broken = `${await file()}${end}\n`;
    await writeFile(path, broken);
    for (const work of [pull, push]) await expect(work()).rejects.toThrow(/Line \d+: a block ends.*left as it is/);
    expect(await file()).toBe(broken);
    await expect(pull({ path: join(folder, 'none.md') })).rejects.toThrow('is not there');
  });

  test('do not write over what an editor saves meanwhile', async () => {
    await put(ten);
    await pull({ id });
    await put('newer\n');
    const meddling: Client = {
      ...client,
      send: async (...args) => {
        await writeFile(path, 'saved by an editor\n');
        return client.send(...args);
      },
    };
    await expect(pullBlocks(meddling, { path })).rejects.toThrow('changed by someone else');
    expect(await readdir(folder)).toEqual(['AGENTS.md']);
    expect(await file()).toBe('saved by an editor\n');
  });

  test('go on with the other blocks where one cannot be settled, and keep what was done when the server fails', async () => {
    const [one, two] = [id, newId('block')];
    for (const name of [one, two]) {
      id = name;
      await put(`of ${name}\n`);
      await pull({ id });
      await put(`newer ${name}\n`);
    }
    await store.send('DELETE', `/v1/contexts/${one}`);
    expect((await pull()).map(({ isUnsettled }) => isUnsettled)).toEqual([true, false]);
    expect(await file()).toContain(`newer ${two}`);
    const others = [newId('block'), newId('block')];
    await rm(path);
    for (const name of others) {
      id = name;
      await put(`of ${name}\n`);
      await pull({ id });
      await edit(`of ${name}`, `edited ${name}`);
    }
    let asked = 0;
    const failing: Client = {
      ...client,
      send: (...args) => (++asked > 2 ? Promise.reject(new Error('away')) : client.send(...args)),
    };
    await expect(pushBlocks(failing, { path })).rejects.toThrow('away');
    expect(readBlocks(await readFile(path)).map(({ version, text }) => [version, text])).toEqual([
      [2, `edited ${others[0]}`],
      [1, `edited ${others[1]}`],
    ]);
  });
});

describe('npm run pull and push', () => {
  afterEach(stopServing);

  test('reach a running server, take paths from where they are called, and end with what there is to do', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lamina-blocks-'));
    const { origin, send } = await startServing({ LAMINA_DATA: 'memory' });
    const command = (name: string, args: string[], variables: Record<string, string> = {}) =>
      run(process.execPath, ['functions/launch.js', `functions/${name}.ts`, ...args], {
        cwd: home,
        env: {
          ...process.env,
          INIT_CWD: folder,
          LAMINA_URL: origin,
          LAMINA_TOKEN: 'lam_test_owner_0123456789',
          ...variables,
        },
      }).then(
        ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
        ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
      );
    await send('PUT', '/v1/contexts/notes', { content: 'one\n', contentType: 'text/markdown' });
    expect(await command('pull', ['AGENTS.md', '--id', 'notes'])).toMatchObject({
      code: 0,
      stdout: 'notes: version 1 put at the end\n',
    });
    const path = join(folder, 'AGENTS.md');
    await writeFile(path, (await readFile(path, 'utf8')).replace('one', 'two'));
    expect(await command('push', ['AGENTS.md'])).toMatchObject({ code: 0, stdout: 'notes: version 2\n' });
    await send('PUT', '/v1/contexts/notes', {
      content: 'there \u001b[2J\u009b\u202e\r\n',
      contentType: 'text/markdown',
    });
    await writeFile(path, (await readFile(path, 'utf8')).replace('two', 'here'));
    const conflict = await command('pull', ['AGENTS.md']);
    expect(conflict).toMatchObject({ code: 3, stdout: expect.stringContaining('there \\u001b[2J\\u009b\\u202e') });
    expect(conflict.stdout).toMatch(/^(?:[^\p{Cc}\u202e]|\n)*$/u);
    await send('DELETE', '/v1/contexts/notes');
    expect(await command('pull', ['AGENTS.md'])).toMatchObject({ code: 3 });
    expect(await command('push', ['AGENTS.md', '--prefer', 'ours'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('npm run push --'),
    });
    expect(await command('pull', ['AGENTS.md', '--url', 'nonsense'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('nonsense is no address of a server'),
    });
    for (const args of [[], ['a', 'b'], ['AGENTS.md', '--prefer', 'mine'], ['AGENTS.md', '--id', '../x'], ['none.md']])
      expect([args, await command('pull', args)]).toEqual([args, expect.objectContaining({ code: 1, stdout: '' })]);
    expect(await command('pull', ['AGENTS.md', '--url', 'http://127.0.0.1:9'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cannot be reached'),
    });
    await rm(folder, { recursive: true });
  });
});

describe('a client of another process', () => {
  test('waits only so long, follows no redirect, and takes nothing for Lamina that is none', async () => {
    let answer: (response: ServerResponse) => void = () => {};
    const server = createServer((_, response) => answer(response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const environment = readEnvironment({ LAMINA_URL: url, LAMINA_TOKEN: 'lam_test_owner_0123456789' });
    const { client } = await openClient(environment, { telemetry: createConsoleTelemetry(), patienceMs: 300 });
    const folder = await mkdtemp(join(tmpdir(), 'lamina-client-'));
    const path = join(folder, 'AGENTS.md');
    const json = { 'content-type': 'application/json' };
    const answers: [(response: ServerResponse) => void, string][] = [
      [() => {}, `${url} cannot be reached`],
      [(response) => response.writeHead(200, json).write('{'), `${url} has broken off its answer`],
      [(response) => response.writeHead(302, { location: '/x' }).end(), `${url} cannot be reached`],
      ...['<html>', '', '[]', 'null', '"x"'].map((text): [(response: ServerResponse) => void, string] => [
        (response) => response.writeHead(200, json).end(text),
        `${url} answers, but is no Lamina.`,
      ]),
      [(response) => response.writeHead(200, json).end('{"status":"ok"}'), 'What answers is no Lamina'],
    ];
    for (const [given, message] of answers) {
      answer = given;
      await expect(pullBlocks(client, { path, id: 'x' })).rejects.toThrow(message);
    }
    expect(await readdir(folder)).toEqual([]);
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  });
});
