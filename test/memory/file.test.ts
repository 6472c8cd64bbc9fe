import { describe, expect, test } from 'vitest';
import { readGraphFile } from '../../lib/memory/file.ts';

const entity = (name: string, entityType: string, observations: string[] = []) =>
  JSON.stringify({ type: 'entity', name, entityType, observations });
const read = (...lines: (string | Uint8Array)[]) =>
  readGraphFile(Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from('\n')])));

describe('the file of the reference memory server', () => {
  test('a byte order mark is no part of the first line', () => {
    expect(read(`\ufeff${entity('a', 't')}`)).toMatchObject({ entities: [{ name: 'a' }], unreadable: [] });
  });

  test('a line that is no UTF-8, no JSON, or no entity is named, and the others are taken', () => {
    const broken = Buffer.from(entity('ä', 't'), 'latin1');
    const found = read(entity('a', 't'), '', broken, '{"type":"entity","name":"half', entity('\ud800', 't'), '7', '[]');
    expect(found).toMatchObject({ entities: [{ name: 'a' }], relations: [], unreadable: [3, 4, 5, 6, 7] });
  });

  test('an entity may have any number of observations', () => {
    const observations = Array.from({ length: 200_000 }, (_, at) => `${at}`);
    expect(read(entity('a', 't', observations)).entities).toEqual([{ name: 'a', entityType: 't', observations }]);
  });

  test('an entity that has another type than before gives its observations, and is named', () => {
    const found = read(entity('a', 't', ['1']), entity('a', 'other', ['2']), entity('a', 't', ['3']));
    expect(found.entities).toEqual([{ name: 'a', entityType: 't', observations: ['1', '2', '3'] }]);
    expect(found.retyped).toEqual([2]);
  });
});
