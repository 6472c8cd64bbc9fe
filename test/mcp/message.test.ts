import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readMessage } from '../../lib/mcp/message.ts';

const spacing = fc.constantFrom(undefined, 1, '\t');
const json = fc.jsonValue();
const id = fc.string();

describe('a message', () => {
  test('that stores nothing is what JSON.parse makes of it', () => {
    fc.assert(
      fc.property(json, json, spacing, (value, args, by) => {
        const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'open_nodes', arguments: args } };
        for (const message of [value, call, [call, value]]) {
          const text = JSON.stringify(message, null, by);
          expect(readMessage(text)).toEqual(JSON.parse(text));
        }
      }),
    );
  });

  test('that stores something has the texts of its contents, and all else as JSON.parse makes it', () => {
    fc.assert(
      fc.property(json, json, id, spacing, (content, metadata, name, by) => {
        const toText = (value: unknown) => ({ jsonText: JSON.stringify(value) });
        const messages = (of: unknown, kept: unknown) => ({
          put: {
            method: 'tools/call',
            params: { _meta: { content }, name: 'context_put', arguments: { id: name, content: of, metadata: kept } },
          },
          merge: {
            method: 'tools/call',
            params: {
              name: 'context_merge',
              arguments: { sources: [{ content: of }, { id: name }], base: { content: of, id: name } },
            },
          },
        });
        const sent = messages(content, metadata);
        const read = messages(toText(content), toText(metadata));
        const plain = (message: unknown) =>
          JSON.parse(JSON.stringify(message), (_, value) =>
            typeof value?.jsonText === 'string' ? { jsonText: JSON.stringify(JSON.parse(value.jsonText)) } : value,
          );
        expect(plain(readMessage(JSON.stringify(sent.put, null, by)))).toEqual(plain(read.put));
        expect(plain(readMessage(JSON.stringify([sent.put, sent.merge], null, by)))).toEqual(
          plain([read.put, read.merge]),
        );
      }),
    );
  });

  test('with a member twice has the last one, as JSON.parse does', () => {
    const args =
      '"base":{"content":1},"base":{"id":"x"},"sources":[{"content":1},{"content":2}],"sources":[{"content": 3}]';
    const text = `{"method":"tools/call","params":{"name":"context_merge","arguments":{${args}}}}`;
    expect(readMessage(text)).toMatchObject({
      params: { arguments: { base: { id: 'x' }, sources: [{ content: { jsonText: '3' } }] } },
    });
    expect((readMessage(text) as { params: { arguments: object } }).params.arguments).not.toHaveProperty(
      'base.content',
    );
  });
});
