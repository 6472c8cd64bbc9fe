import { Problem } from '../base/problem.ts';
import { cutText } from '../base/text.ts';
import { maskAssigned, maskFlags, maskHeaders, maskPairs, maskProse, maskUrls } from './assignments.ts';
import { maskShapes } from './credentials.ts';
import { isReference, looksRandom, type NameOf, readName } from './secret-names.ts';

/**
 * The text with whatever is shaped like a credential replaced by `[masked:<what>]`. What is masked in vain costs a word; what is
 * not is kept for ever.
 */
export function maskText(text: string): string {
  if (text.length < 8) return text;
  let masked = maskShapes(text);
  for (const mask of [maskUrls, maskHeaders, maskFlags, maskPairs, maskAssigned, maskProse]) masked = mask(masked);
  return masked;
}

// So much more than is kept of a text is looked at, so that no credential is cut where its shape is lost.
const overhang = 4096;

/** The beginning of a text, masked, and without what PostgreSQL cannot keep. */
export function maskAndCut(text: string, max: number): string {
  const isCut = text.length > max + overhang;
  const masked = maskText(toStorable(cutText(text, max + overhang)));
  const whole = isCut ? withoutLastRun(masked) : masked;
  return isCut || whole.length > max ? `${cutText(whole, max)} …` : whole;
}

/** What was cut in the middle may be half a credential that nobody knows any more, and what was masked before it makes room for it. */
function withoutLastRun(text: string): string {
  let end = text.length;
  while (end > 0 && text.length - end < overhang && !/\s/.test(text.charAt(end - 1))) end--;
  return cutText(text, end);
}

/** PostgreSQL keeps no U+0000 and no half character. */
export const toStorable = (text: string) => text.replaceAll('\u0000', '').toWellFormed();

/** The beginning of a name or an id, as PostgreSQL can keep it. */
export const nameText = (text: string, max: number) => cutText(toStorable(text), max);

const depthMax = 200;
// An event of Droid has some dozens.
const valuesMax = 20_000;
const masks = '[masked:secret]';
const headerName = /^(?:(?:proxy-)?authorization|(?:set-)?cookie)$/i;
// Names of what a schema says of a secret.
const aboutSecret = /^(?:type|format|title|description|label|placeholder|name|in)$/;

/**
 * A JSON value with every text in it masked, and cut where it is longer than `textMax`. Of more than 20,000 values in it the rest
 * is left out.
 *
 * @throws Problem `unprocessable` where it is nested deeper than 200.
 */
export function maskValue(value: unknown, textMax: number): unknown {
  let left = valuesMax;

  /** @param under what the nearest name that tells something has told. */
  function mask(of: unknown, depth: number, under: NameOf): unknown {
    left--;
    if (typeof of === 'string') return under && isSecret(of, under) ? masks : maskAndCut(of, textMax);
    if (typeof of === 'number') return under === 'password' ? masks : of;
    if (typeof of !== 'object' || of === null) return of;
    if (depth >= depthMax) throw new Problem('unprocessable', `The event is nested deeper than ${depthMax}.`);
    if (Array.isArray(of)) {
      const kept: unknown[] = [];
      for (const one of of) if (left > 0) kept.push(mask(one, depth + 1, under));
      return kept;
    }
    const named = nameIn(of as Record<string, unknown>);
    const kept: [string, unknown][] = [];
    for (const [key, member] of Object.entries(of)) {
      if (left <= 0) break;
      const own =
        key === 'value' ? (named ?? under) : aboutSecret.test(key) ? undefined : (nameOf(key, member) ?? under);
      kept.push([maskAndCut(key, 200), mask(member, depth + 1, own)]);
    }
    return Object.fromEntries(kept);
  }

  return mask(value, 0, undefined);
}

function nameOf(key: string, member: unknown): NameOf {
  if (headerName.test(key)) return 'secret';
  const isAlone = key === 'pass' || key === 'auth';
  return readName(key) ?? (isAlone && typeof member === 'string' && looksRandom(member) ? 'secret' : undefined);
}

/** What a pair such as `{name: 'DB_PASSWORD', value: …}` says of its value. */
function nameIn(of: Readonly<Record<string, unknown>>): NameOf {
  const name = [of['name'], of['key'], of['header']].find((one) => typeof one === 'string');
  return typeof name === 'string' ? nameOf(name.slice(0, 200), undefined) : undefined;
}

/** Figures of tokens are none. */
const isSecret = (value: string, under: NameOf) =>
  value !== '' && !isReference(value) && (under === 'password' || !/^[\d.,\s]{1,16}$/.test(value));
