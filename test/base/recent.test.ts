import { describe, expect, test } from 'vitest';
import { createRecent } from '../../lib/base/recent.ts';

describe('what happened lately', () => {
  test('is known for its time, anew from each time that it happens', () => {
    let nowMs = 5000;
    const recent = createRecent({ clock: () => nowMs, ms: 100 });
    expect(recent.has('a')).toBe(false);
    recent.note('a');
    nowMs += 99;
    expect(recent.has('a')).toBe(true);
    recent.note('a');
    nowMs += 99;
    expect(recent.has('a')).toBe(true);
    nowMs += 1;
    expect(recent.has('a')).toBe(false);
  });

  test('holds no more names than happened in its time, however long it runs', () => {
    let nowMs = 0;
    const recent = createRecent({ clock: () => nowMs, ms: 100 });
    for (let at = 0; at < 10_000; at++) {
      nowMs += 10;
      recent.note(`name-${at}`);
      if (at % 3 === 0) recent.note('often');
      expect(recent.size).toBeLessThanOrEqual(11);
      expect(recent.has('often')).toBe(true);
    }
    for (let back = 0; back < 10; back++) expect(recent.has(`name-${9999 - back}`)).toBe(true);
  });
});
