import { beforeAll, describe, expect, test } from 'vitest';
import { newId, openStore, type TestStore } from './support/client.ts';
import { engines } from './support/engines.ts';

describe.each(engines)('merging on $name', (engine) => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openStore(engine, { settings: { versions: { retained: 3 } } });
  });
  const put = (id: string, body: unknown, headers = {}, query = '') =>
    store.send('PUT', `/v1/contexts/${id}${query}`, { body, headers });
  const merge = (body: unknown) => store.send('POST', '/v1/merge', { body });
  const base = { 'if-match': '"1"' };

  test('a put on a stale base is merged with the head, and says what happened', async () => {
    const id = newId();
    await put(id, { content: { a: 1, b: 1, list: ['x'] }, metadata: { m: 1, n: 1 } });
    await put(id, { content: { a: 2, b: 1, list: ['x', 'y'] }, metadata: { m: 2, n: 1 }, kind: 'memo' });
    const merged = await put(
      id,
      { content: { a: 1, b: 3, list: ['w', 'x'] }, metadata: { m: 1, n: 9 } },
      base,
      '?onConflict=three-way',
    );
    expect(merged.status).toBe(200);
    expect(merged.json).toMatchObject({
      version: 3,
      content: { a: 2, b: 3, list: ['w', 'x', 'y'] },
      metadata: { m: 2, n: 9 },
      kind: 'memo',
      merge: { strategy: 'three-way', base: 1, head: 2, conflicts: [] },
    });
    const [newest] = (await store.send('GET', `/v1/contexts/${id}/versions`)).json.items;
    expect(newest).toMatchObject({
      operation: 'merge',
      mergedFrom: [
        { id, version: 1 },
        { id, version: 2 },
      ],
    });
  });

  test.each(['latest', 'union', 'intersection', 'three-way'])(
    'what a put on a stale base leaves out keeps the head’s, by %s too',
    async (strategy) => {
      const id = newId();
      await put(id, { content: { v: 1 }, metadata: { m: 1 } });
      await put(id, { content: { v: 2 }, metadata: { m: 2 } });
      const kind = await put(id, { kind: 'memo' }, base, `?onConflict=${strategy}`);
      expect(kind.json).toMatchObject({ version: 3, kind: 'memo', content: { v: 2 }, metadata: { m: 2 } });
      const content = await put(id, { content: { v: 2, w: 1 } }, { 'if-match': '"2"' }, `?onConflict=${strategy}`);
      expect(content.json).toMatchObject({ kind: 'memo', metadata: { m: 2 } });
    },
  );

  test('metadata that collides is told apart from content, both in one answer', async () => {
    const id = newId();
    await put(id, { content: { a: 1 }, metadata: { team: 'x' } });
    await put(id, { content: { a: 2 }, metadata: { team: 'y' } });
    const refused = await put(id, { content: { a: 3 }, metadata: { team: 'z' } }, base, '?onConflict=three-way');
    expect(refused.json.code).toBe('merge_conflict');
    expect(refused.json.conflicts).toEqual([
      { path: '/a', base: 1, ours: 3, theirs: 2 },
      { path: '/metadata/team', base: 'x', ours: 'z', theirs: 'y' },
    ]);
    const tags = (from: number) => ({ tags: Array.from({ length: 64 }, (_, at) => `t${from + at}`) });
    await put(id, { metadata: tags(0) });
    const { version } = (await put(id, { metadata: tags(64) })).json;
    const sent = { metadata: tags(128) };
    const tooMany = await put(id, sent, { 'if-match': `"${version - 1}"` }, '?onConflict=union');
    expect(tooMany.json).toMatchObject({ code: 'invalid_request', errors: [{ path: '/metadata/tags' }] });
  });

  test('a base that never was is an ordinary 412', async () => {
    const id = newId();
    await put(id, { content: 1 });
    const refused = await put(id, { content: 2 }, { 'if-match': '"99"' }, '?onConflict=union');
    expect([refused.json.code, refused.json.currentVersion, 'baseKept' in refused.json]).toEqual([
      'version_conflict',
      1,
      false,
    ]);
  });

  test('merges into one of their own sources at once lose nothing', async () => {
    const id = newId();
    await put(id, { content: {} });
    const adding = Array.from({ length: 5 }, (_, at) =>
      merge({ strategy: 'union', sources: [{ id }, { content: { [`k${at}`]: at } }], target: { id } }),
    );
    for (const answer of await Promise.all(adding)) expect(answer.status).toBe(200);
    const { content } = (await store.send('GET', `/v1/contexts/${id}`)).json;
    expect(Object.keys(content).sort()).toEqual(['k0', 'k1', 'k2', 'k3', 'k4']);
  });

  test('a patch that changes nothing makes no version and leaves every byte', async () => {
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}/content`, { raw: '{ "a": 1.0, "b": "\\u00e9" }' });
    for (const [type, raw] of [
      ['application/merge-patch+json', '{}'],
      ['application/json-patch+json', '[]'],
      ['application/json-patch+json', '[{"op":"replace","path":"/a","value":1}]'],
    ] as const) {
      const patched = await store.send('PATCH', `/v1/contexts/${id}`, { raw, headers: { 'content-type': type } });
      expect(patched.json).toMatchObject({ version: 1, unchanged: true });
    }
    expect((await store.send('GET', `/v1/contexts/${id}/content`)).text).toBe('{ "a": 1.0, "b": "\\u00e9" }');
  });

  test('a put on the head itself is an ordinary write', async () => {
    const id = newId();
    await put(id, { content: 1 });
    const plain = await put(id, { content: 2 }, base, '?onConflict=union');
    expect(plain.json).toMatchObject({ version: 2, content: 2 });
    expect(plain.json).not.toHaveProperty('merge');
  });

  test('what collides is 409 and nothing is written', async () => {
    const id = newId();
    await put(id, { content: { a: 1 } });
    await put(id, { content: { a: 2 } });
    const refused = await put(id, { content: { a: 3 } }, base, '?onConflict=three-way');
    expect(refused.status).toBe(409);
    expect(refused.json).toMatchObject({
      code: 'merge_conflict',
      conflicts: [{ path: '/a', base: 1, ours: 3, theirs: 2 }],
    });
    expect((await store.send('GET', `/v1/contexts/${id}`)).json.version).toBe(2);
  });

  test('the other strategies: latest is what was sent, union has both, intersection what both have', async () => {
    for (const [strategy, content] of [
      ['latest', { a: 3, c: 3 }],
      ['union', { a: 3, c: 3, b: 2 }],
      ['intersection', {}],
    ] as const) {
      const id = newId();
      await put(id, { content: { a: 1 } });
      await put(id, { content: { a: 2, b: 2 } });
      const merged = await put(id, { content: { a: 3, c: 3 } }, base, `?onConflict=${strategy}`);
      expect(merged.json).toMatchObject({ version: 3, content });
    }
  });

  test('a base that retention has taken is 412 and says so; a deleted head is not merged with', async () => {
    const id = newId();
    for (let at = 1; at <= 6; at++) await put(id, { content: { at } });
    expect((await put(id, { content: { at: 9 } }, base, '?onConflict=three-way')).json).toMatchObject({
      code: 'version_conflict',
      baseKept: false,
      currentVersion: 6,
    });
    await store.send('DELETE', `/v1/contexts/${id}`);
    expect((await put(id, { content: { at: 9 } }, { 'if-match': '"5"' }, '?onConflict=three-way')).status).toBe(412);
    expect((await put(id, { content: 1 }, {}, '?onConflict=three-way')).json.code).toBe('invalid_request');
  });

  test('texts are merged by lines', async () => {
    const id = newId();
    const text = (content: string) => ({ content, contentType: 'text/markdown' });
    await put(id, text('one\ntwo\nthree\nfour\nfive\n'));
    await put(id, text('ONE\ntwo\nthree\nfour\nfive\n'));
    const merged = await put(id, text('one\ntwo\nthree\nfour\nFIVE\n'), base, '?onConflict=three-way');
    expect(merged.json.content).toBe('ONE\ntwo\nthree\nfour\nFIVE\n');
  });

  test('POST /v1/merge joins stored versions and contents, and writes where it is told to', async () => {
    const [a, b, target] = [newId(), newId(), newId()];
    await put(a, { content: { x: 1, list: [1] } });
    await put(b, { content: { y: 2, list: [1, 2] } });
    const union = await merge({
      strategy: 'union',
      sources: [{ id: a }, { id: b }, { content: { z: 3 } }],
      target: { id: target },
    });
    expect(union.json).toMatchObject({
      content: { x: 1, y: 2, z: 3, list: [1, 2] },
      conflicts: [],
      written: { id: target, version: 1 },
    });
    expect((await store.send('GET', `/v1/contexts/${target}`)).json.content).toEqual(union.json.content);
    await put(a, { content: { x: 5, list: [1] } });
    const three = await merge({
      strategy: 'three-way',
      base: { id: a, version: 1 },
      sources: [{ id: a }, { content: { x: 1, list: [1, 9] } }],
    });
    expect(three.json.content).toEqual({ x: 5, list: [1, 9] });
    expect(three.json).not.toHaveProperty('written');
    expect((await merge({ strategy: 'latest', sources: [{ id: a }, { id: b }] })).json.content).toEqual({
      x: 5,
      list: [1],
    });
  });

  test('prefer settles collisions, and the target may be guarded', async () => {
    const sides = {
      strategy: 'three-way',
      base: { content: { n: 1.0 } },
      sources: [{ content: { n: 2 } }, { content: { n: 3 } }],
    };
    expect((await merge(sides)).json.code).toBe('merge_conflict');
    expect((await merge({ ...sides, prefer: 'ours' })).json).toMatchObject({
      content: { n: 2 },
      conflicts: [{ path: '/n', chosen: 'ours' }],
    });
    expect((await merge({ ...sides, prefer: 'latest' })).json.content).toEqual({ n: 3 });
    const id = newId();
    await put(id, { content: 1 });
    expect((await merge({ ...sides, prefer: 'ours', target: { id, ifVersion: 7 } })).json.code).toBe(
      'version_conflict',
    );
  });

  test('a merge that cannot be is refused', async () => {
    const id = newId();
    await put(id, { content: 1 });
    await store.send('DELETE', `/v1/contexts/${id}`);
    const content = { content: {} };
    expect((await merge({ strategy: 'three-way', sources: [content, content] })).json.code).toBe('unprocessable');
    expect(
      (await merge({ strategy: 'three-way', base: content, sources: [content, content, content] })).json.code,
    ).toBe('unprocessable');
    expect((await merge({ strategy: 'union', sources: [content] })).json.code).toBe('invalid_request');
    expect((await merge({ strategy: 'union', sources: [content, { id: 'nowhere' }] })).json.code).toBe(
      'context_not_found',
    );
    expect((await merge({ strategy: 'union', sources: [content, { id, version: 9 }] })).json.code).toBe(
      'version_not_found',
    );
    expect((await merge({ strategy: 'union', sources: [content, { id }] })).json.code).toBe('gone');
    expect((await merge({ strategy: 'union', sources: [content, { id, version: 1 }] })).json.content).toEqual({});
    expect((await merge({ strategy: 'intersection', sources: [content, { content: [] }] })).json.code).toBe(
      'unprocessable',
    );
  });

  test('a patch changes JSON in place, keeps what it does not touch, and obeys If-Match', async () => {
    const id = newId();
    await store.send('PUT', `/v1/contexts/${id}`, { raw: '{"content":{"big":12345678901234567890,"a":1.0}}' });
    const patch = (raw: string, kind: 'merge' | 'json', headers = {}) =>
      store.send('PATCH', `/v1/contexts/${id}`, {
        raw,
        headers: { 'content-type': `application/${kind}-patch+json`, ...headers },
      });
    expect((await patch('{"b":2}', 'merge')).text).toContain('"content":{"big":12345678901234567890,"a":1.0,"b":2}');
    expect((await patch('[{"op":"remove","path":"/b"}]', 'json', { 'if-match': '"1"' })).json).toMatchObject({
      code: 'version_conflict',
      currentVersion: 2,
    });
    expect((await patch('[{"op":"remove","path":"/b"}]', 'json', { 'if-match': '"2"' })).status).toBe(200);
    expect((await patch('[{"op":"test","path":"/a","value":2}]', 'json')).json.code).toBe('unprocessable');
    expect((await patch('{}', 'merge')).json).toMatchObject({ unchanged: true, version: 3 });
    await put(id, { content: 'text', contentType: 'text/plain' });
    expect((await patch('{}', 'merge')).json.code).toBe('unprocessable');
    expect(
      (
        await store.send('PATCH', `/v1/contexts/${newId()}`, {
          raw: '{}',
          headers: { 'content-type': 'application/merge-patch+json' },
        })
      ).status,
    ).toBe(404);
    expect((await store.send('PATCH', `/v1/contexts/${id}`, { raw: '{}' })).json.code).toBe('unsupported_media_type');
  });
});
