/**
 * JSON that loses nothing: numbers keep their spelling (`1.0`, integers beyond 2^53), objects keep the order of their
 * keys and cannot touch a prototype, because they are Maps.
 */
export type Json = null | boolean | string | JsonNumber | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;
/** A number as it was spelled. */
export interface JsonNumber {
  readonly number: string;
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isJsonNumber(value: Json | undefined): value is JsonNumber {
  return typeof value === 'object' && value !== null && 'number' in value;
}

/** The value as compact JSON text: numbers as they were spelled, keys in their order. */
export function printJson(value: Json): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return printString(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (Array.isArray(value)) {
    let text = '[';
    for (let index = 0; index < value.length; index++) {
      if (index > 0) text += ',';
      text += printJson(value[index] as Json);
    }
    return `${text}]`;
  }
  if (isJsonObject(value)) {
    let text = '';
    for (const [key, member] of value) text += `${text === '' ? '' : ','}${printString(key)}:${printJson(member)}`;
    return `{${text}}`;
  }
  return value.number;
}

// Most strings need no escape, and asking is five times cheaper than letting JSON.stringify find out.
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON asks for exactly these to be escaped
const escaped = /["\\\u0000-\u001f\ud800-\udfff]/;

function printString(text: string): string {
  return escaped.test(text) ? JSON.stringify(text) : `"${text}"`;
}

/** The value as ordinary JavaScript, for what is small and ours; numbers become doubles. */
export function toPlain(value: Json): unknown {
  if (Array.isArray(value)) return value.map(toPlain);
  if (isJsonObject(value)) {
    const plain: Record<string, unknown> = Object.create(null);
    for (const [key, member] of value) plain[key] = toPlain(member);
    return plain;
  }
  return isJsonNumber(value) ? Number(value.number) : value;
}

/**
 * One spelling for all spellings of a decimal value: `1`, `1.0` and `10e-1` give the same. Exponents of any length are
 * handled without expanding them.
 */
export function canonicalNumber(spelling: string): string {
  if (/^-?[1-9]\d{0,14}$/.test(spelling)) return trimZeros(spelling, '0', 0);
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(spelling) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '');
  if (digits === '') return '0';
  return trimZeros(sign + digits, exponent, -fraction.length);
}

function trimZeros(digits: string, exponent: string, shift: number): string {
  let end = digits.length;
  while (digits.charCodeAt(end - 1) === 48) end--;
  return `${digits.slice(0, end)}e${addToInteger(exponent, shift + digits.length - end)}`;
}

// Numerals with a longer exponent than this are equal to nothing but their own spelling; converting a long numeral costs
// the square of its length, and a number like that is beyond every other program anyway.
const exponentDigitsMax = 1000;

function addToInteger(numeral: string, addend: number): string {
  const digits = numeral.replace(/^([+-]?)0+(?=\d)/, '$1');
  if (digits.length <= 15) return String(Number(digits) + addend);
  if (digits.length > exponentDigitsMax) return `${digits.replace(/^\+/, '')}${addend < 0 ? '' : '+'}${addend}`;
  return String(BigInt(digits.replace(/^\+/, '')) + BigInt(addend));
}

export function isSameNumber(left: JsonNumber, right: JsonNumber): boolean {
  return left.number === right.number || canonicalNumber(left.number) === canonicalNumber(right.number);
}

/** Whether two values are equal: numbers by decimal value, objects whatever the order of their keys. */
export function isSameJson(left: Json, right: Json): boolean {
  if (left === right) return true;
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return false;
  if (Array.isArray(left)) {
    if (!Array.isArray(right) || left.length !== right.length) return false;
    for (let index = 0; index < left.length; index++) {
      if (!isSameJson(left[index] as Json, right[index] as Json)) return false;
    }
    return true;
  }
  if (isJsonObject(left)) {
    if (!isJsonObject(right) || left.size !== right.size) return false;
    for (const [key, member] of left) {
      const other = right.get(key);
      if (other === undefined || !isSameJson(member, other)) return false;
    }
    return true;
  }
  return isJsonNumber(right) && isSameNumber(left, right);
}

/** A text that two values share exactly when they are equal by {@link isSameJson}: keys sorted, numbers canonical. */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (isJsonObject(value)) {
    const keys = [...value.keys()].sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonicalJson(value.get(key) as Json)}`).join(',')}}`;
  }
  return isJsonNumber(value) ? canonicalNumber(value.number) : JSON.stringify(value);
}

/** JSON that is text already, to be put into an answer as it stands. */
export interface JsonText {
  readonly jsonText: string;
}

/** Ordinary JavaScript as JSON, each {@link JsonText} in it as it stands; undefined members are left out. */
export function printPlain(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printPlain).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if ('jsonText' in value) return String(value.jsonText);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${printPlain(member)}`).join(',')}}`;
}

/** A JSON Pointer (RFC 6901) from its reference tokens. */
export function pointer(tokens: readonly (string | number)[]): string {
  return tokens.map((token) => `/${String(token).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}
