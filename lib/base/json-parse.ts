import { type Json, type JsonObject, pointer } from './json.ts';
import { invalid, Problem } from './problem.ts';

/** A member kept as it was sent, beside what it says. */
export interface RawJson {
  readonly raw: string;
  readonly value: Json;
}

export const jsonDepthMax = 200;

// Sticky expressions scan at native speed and, tested rather than executed, allocate nothing.
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these inside strings
const plainCharacters = /[^"\\\u0000-\u001f]*/y;
const numberToken = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const space = /[ \t\n\r]*/y;

/**
 * Reads I-JSON (RFC 7493) without losing anything: numbers keep their spelling, keys their order.
 *
 * @throws Problem `invalid_request` where it is not JSON (RFC 8259), naming the position.
 * @throws Problem `unprocessable` for a duplicate key, a lone surrogate, or nesting beyond 200, naming the path.
 */
export function parseJson(text: string): Json {
  return createReader(text, new Set()).document();
}

/**
 * As {@link parseJson}, but each member with one of the `rawKeys`, wherever it first appears on the way down, is put
 * into `raws` as its untouched text beside its value; nesting is counted anew inside it.
 */
export function parseJsonKeeping(
  text: string,
  rawKeys: ReadonlySet<string>,
): { value: Json; raws: Map<JsonObject, Map<string, RawJson>> } {
  const reader = createReader(text, rawKeys);
  return { value: reader.document(), raws: reader.raws };
}

/**
 * Throws where {@link parseJson} would, and keeps nothing of what it reads: a large text costs little more than itself.
 *
 * @throws Problem as {@link parseJson}.
 */
export function checkJson(text: string): void {
  createReader(text, new Set(), false).document();
}

function createReader(text: string, rawKeys: ReadonlySet<string>, isKept = true) {
  const raws = new Map<JsonObject, Map<string, RawJson>>();
  const trail: (string | number)[] = [];
  let at = 0;
  let depth = 0;
  let depthMax = jsonDepthMax;
  let isInsideRaw = false;

  function skipSpace() {
    space.lastIndex = at;
    space.test(text);
    at = space.lastIndex;
  }

  function malformed(): Problem {
    const found = at < text.length ? JSON.stringify(text[at]) : 'the end';
    return invalid(pointer(trail.slice(0, depth)), `not JSON at character ${at}: ${found} was not expected`);
  }

  function refused(why: string): Problem {
    const path = pointer(trail.slice(0, depth));
    return new Problem('unprocessable', `${path || 'The document'}: ${why}.`, { errors: [{ path, message: why }] });
  }

  function expectWord(word: string): void {
    if (!text.startsWith(word, at)) throw malformed();
    at += word.length;
  }

  function readString(): string {
    const start = ++at;
    plainCharacters.lastIndex = start;
    plainCharacters.test(text);
    at = plainCharacters.lastIndex;
    if (text.charCodeAt(at) === 34) return text.slice(start, at++);
    while (text.charCodeAt(at) === 92) {
      at += 2;
      plainCharacters.lastIndex = at;
      plainCharacters.test(text);
      at = plainCharacters.lastIndex;
    }
    if (text.charCodeAt(at) !== 34) throw malformed();
    at++;
    let value: string;
    try {
      value = JSON.parse(text.slice(start - 1, at)) as string;
    } catch {
      at = start;
      throw malformed();
    }
    if (!value.isWellFormed()) throw refused('a lone surrogate is no character');
    return value;
  }

  function readMember(object: JsonObject, key: string): void {
    if (isInsideRaw || !rawKeys.has(key)) {
      const value = readValue();
      object.set(key, isKept ? value : null);
      return;
    }
    isInsideRaw = true;
    depthMax = depth + jsonDepthMax;
    const start = at;
    const value = readValue();
    const own = raws.get(object) ?? new Map<string, RawJson>();
    raws.set(object, own.set(key, { raw: text.slice(start, at), value }));
    object.set(key, value);
    isInsideRaw = false;
    depthMax = jsonDepthMax;
  }

  function readObject(): JsonObject {
    const object: JsonObject = new Map();
    at++;
    depth++;
    skipSpace();
    if (text.charCodeAt(at) === 125) {
      at++;
      depth--;
      return object;
    }
    for (;;) {
      trail[depth - 1] = '';
      if (text.charCodeAt(at) !== 34) throw malformed();
      const key = readString();
      trail[depth - 1] = key;
      if (object.has(key)) throw refused('the key appears twice');
      skipSpace();
      if (text.charCodeAt(at) !== 58) throw malformed();
      at++;
      skipSpace();
      readMember(object, key);
      skipSpace();
      const next = text.charCodeAt(at);
      if (next === 125) break;
      if (next !== 44) throw malformed();
      at++;
      skipSpace();
    }
    at++;
    depth--;
    return object;
  }

  function readArray(): Json[] {
    const items: Json[] = [];
    at++;
    depth++;
    skipSpace();
    if (text.charCodeAt(at) === 93) {
      at++;
      depth--;
      return items;
    }
    for (let index = 0; ; index++) {
      trail[depth - 1] = index;
      const value = readValue();
      if (isKept) items.push(value);
      skipSpace();
      const next = text.charCodeAt(at);
      if (next === 93) break;
      if (next !== 44) throw malformed();
      at++;
      skipSpace();
    }
    at++;
    depth--;
    return items;
  }

  function readValue(): Json {
    switch (text.charCodeAt(at)) {
      case 34:
        return readString();
      case 123:
        if (depth >= depthMax) throw refused(`nesting is at most ${jsonDepthMax}`);
        return readObject();
      case 91:
        if (depth >= depthMax) throw refused(`nesting is at most ${jsonDepthMax}`);
        return readArray();
      case 116:
        expectWord('true');
        return true;
      case 102:
        expectWord('false');
        return false;
      case 110:
        expectWord('null');
        return null;
      default: {
        const start = at;
        numberToken.lastIndex = at;
        if (!numberToken.test(text)) throw malformed();
        at = numberToken.lastIndex;
        return { number: text.slice(start, at) };
      }
    }
  }

  return {
    raws,
    document(): Json {
      skipSpace();
      const value = readValue();
      skipSpace();
      if (at < text.length) throw malformed();
      return value;
    },
  };
}
