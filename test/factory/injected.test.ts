import { describe, expect, test } from 'vitest';
import { escapeMarkers, packHead, packOpen, stripInjected } from '../../lib/factory/injected.ts';

const [open, close] = ['<system-reminder>', '</system-reminder>'];

describe('what was injected', () => {
  test.each([
    [`a${open}b${close}c`, 'ac'],
    [`a${open}b${open}c${close}d${close}e`, 'ae'],
    [`a${open}b<lamina-context>c${close}d`, 'ad'],
    [`a${open}b</lamina-context>c${close}d`, 'ad'],
    [`a${open}b${close}c${open}d${close}e`, 'ace'],
    ['a<System-Reminder kind="x">b</ system-reminder >c', 'ac'],
    [`${packOpen}\n${packHead}\n\n## Notes\n- a note`, ''],
    [`${open} is a tag, and ${open}b${close} a block`, `${open} is a tag, and  a block`],
    [`a ${packOpen} alone`, `a ${packOpen} alone`],
    [`a${close}b`, `a${close}b`],
    ['1 < 2', '1 < 2'],
  ])('is taken out of %j', (text, rest) => {
    expect(stripInjected(text)).toBe(rest);
  });

  test.each([
    '</lamina-context>',
    '<\n/lamina-context>',
    '< / lamina-context>',
    '<\u200b/lamina-context>',
    '</\u2060lamina-context>',
    '</lamina\u200b-context>',
    '<\u200d/LAMINA-context>',
    '<system-reminder>',
  ])('cannot be written into a pack as %j', (marker) => {
    expect(escapeMarkers(marker).replaceAll(/[^a-z<]/gi, '')).not.toContain('<');
  });
});
