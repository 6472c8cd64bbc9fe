import type { JsonText } from '../base/json.ts';

/** Members whose texts are to be kept; those below them are in the same form, `*` stands for any. */
type Places = 'text' | { readonly [key: string]: Places };

const source = { content: 'text' } as const;
/** What of the arguments of tools is kept as it was spelled. */
const argumentsOf: Readonly<Record<string, Places>> = {
  context_put: { content: 'text', metadata: 'text' },
  context_search: { metadata: 'text' },
  context_merge: { sources: { '*': source }, base: source },
};

/**
 * Reads a message, or an array of them, as `JSON.parse` does; but each content in the arguments of a tool is the text that
 * was sent, as {@link JsonText}: numbers keep their spelling, keys their order, and nothing is lost.
 *
 * @throws SyntaxError where it is no JSON.
 */
export function readMessage(text: string): unknown {
  const message: unknown = JSON.parse(text);
  if (!Array.isArray(message)) return keep(message, text, placesOf(message));
  for (const [at, own] of members(text)) {
    message[Number(at)] = keep(message[Number(at)], own, placesOf(message[Number(at)]));
  }
  return message;
}

function placesOf(message: unknown): Places {
  const { method, params } = Object(message) as { method?: unknown; params?: { name?: unknown } };
  const name = String(Object(params).name);
  return method === 'tools/call' && Object.hasOwn(argumentsOf, name)
    ? { params: { arguments: argumentsOf[name] as Places } }
    : {};
}

function keep(value: unknown, text: string, places: Places): unknown {
  if (places === 'text') return { jsonText: text } satisfies JsonText;
  if (typeof value !== 'object' || value === null || Object.keys(places).length === 0) return value;
  const object = value as Record<string, unknown>;
  for (const [key, own] of new Map(members(text))) {
    const place = Object.hasOwn(places, key) ? places[key] : places['*'];
    if (place !== undefined) object[key] = keep(object[key], own, place);
  }
  return object;
}

/** The members of an object, or the elements of an array, as they are spelled; `text` is JSON. */
function* members(text: string): Iterable<readonly [key: string, own: string]> {
  const start = text.search(/\S/);
  const isObject = text[start] === '{';
  let at = skip(text, start + 1);
  for (let index = 0; !isEnd(text, at); index++) {
    let key = String(index);
    if (isObject) {
      const end = endOf(text, at);
      key = JSON.parse(text.slice(at, end)) as string;
      at = skip(text, skip(text, end) + 1);
    }
    const end = endOf(text, at);
    yield [key, text.slice(at, end)];
    at = skip(text, end);
    if (text[at] === ',') at = skip(text, at + 1);
  }
}

const isEnd = (text: string, at: number) => at >= text.length || text[at] === '}' || text[at] === ']';

const space = /[ \t\n\r]*/y;
function skip(text: string, at: number): number {
  space.lastIndex = at;
  space.test(text);
  return space.lastIndex;
}

const mark = /["{}[\]]/g;
const word = /[^ \t\n\r,}\]]*/y;

/** Where the value that begins at `at` ends. */
function endOf(text: string, at: number): number {
  if (text[at] === '"') return endOfString(text, at);
  if (text[at] !== '{' && text[at] !== '[') {
    word.lastIndex = at;
    word.test(text);
    return word.lastIndex;
  }
  let depth = 0;
  let end = at;
  do {
    mark.lastIndex = end;
    const found = mark.exec(text)?.[0];
    end = found === '"' ? endOfString(text, mark.lastIndex - 1) : mark.lastIndex;
    if (found === '{' || found === '[') depth++;
    if (found === '}' || found === ']') depth--;
  } while (depth > 0);
  return end;
}

function endOfString(text: string, at: number): number {
  for (let end = at + 1; ; ) {
    const quote = text.indexOf('"', end);
    let first = quote;
    while (text[first - 1] === '\\') first--;
    end = quote + 1;
    if ((quote - first) % 2 === 0) return end;
  }
}
