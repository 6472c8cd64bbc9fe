import { isCode, isReference, looksRandom, readName } from './secret-names.ts';

// What is a credential by where it stands. Each pattern begins where only one of its kind can, or looks at so few characters
// that a text is gone through a fixed number of times.

const [secret, passwords] = ['[masked:secret]', '[masked:password]'];
const flagValue = String.raw`("[^"\n]+"?|'[^'\n]+'?|[^\s"'\`;|&<>]+)`;

/** What stands between a scheme and a host, `user:password` or a token alone, and secrets of a query. */
export function maskUrls(text: string): string {
  const parts = text.split('://');
  let masked = parts[0] ?? '';
  for (const [at, part] of parts.slice(1).entries()) {
    const scheme = /[a-z][a-z0-9+.-]*$/i.exec((parts[at] ?? '').slice(-20))?.[0];
    const end = part.search(/[\s"'`<>\\]/);
    const rest = end < 0 ? part : part.slice(0, end);
    masked += `://${scheme === undefined ? rest : maskUser(rest, /^(?:https?|wss?|ftps?)$/i.test(scheme))}${part.slice(rest.length)}`;
  }
  return masked.replaceAll(
    /([?&;](?:[\w.-]{1,40}[._-])?(?:key|sig|signature|auth|code|pass|sid)=)([^\s&#"'`<>\\]{8,})/gi,
    (whole: string, before: string, value: string) =>
      looksRandom(value) && !isReference(value) ? before + secret : whole,
  );
}

/** @param isWeb whether an `@` may stand in a path, as it does nowhere else. */
function maskUser(rest: string, isWeb: boolean): string {
  const slash = rest.search(/[/?#]/);
  const authority = slash < 0 ? rest : rest.slice(0, slash);
  const colon = authority.indexOf(':');
  const isPort = colon >= 0 && (/^\d{1,5}$/.test(authority.slice(colon + 1)) || authority.startsWith('['));
  const own = authority.lastIndexOf('@');
  // A password may have slashes and at signs in it that nobody has escaped.
  const at = (own < 0 && colon >= 0 && !isPort) || !isWeb ? rest.lastIndexOf('@') : own;
  if (at < 0 || rest.startsWith('[masked:')) return rest;
  const [user, password] =
    colon >= 0 && colon < at ? [rest.slice(0, colon), rest.slice(colon + 1, at)] : [rest.slice(0, at)];
  if (password === undefined) return isWeb && user.length >= 16 ? `[masked:token]${rest.slice(at)}` : rest;
  if (password === '' || password === 'x-oauth-basic')
    return user.length < 8 ? rest : `[masked:token]${rest.slice(at)}`;
  return isReference(password) ? rest : `${user}:${passwords}${rest.slice(at)}`;
}

const authorization =
  /\b((?:proxy-)?authorization\\{0,3}["'`]?\s{0,3}[:=]\s{0,3}\\{0,3}["'`]?)((?:bearer|basic|token|digest|apikey|negotiate)\s{1,3})?([^\s"'`\\,;<>]+)/gi;
const bearer = /\b(bearer\s{1,3})([A-Za-z0-9+/=._~-]{12,})/gi;
const cookies = /\b((?:set-)?cookie\\{0,3}["'`]?\s{0,3}:\s{0,3}\\{0,3}["'`]?)([^\s=;"'`\\]{1,100}=[^\r\n"'`\\]{4,})/gi;

/** `Authorization: …`, `Bearer …` and `Cookie: …`. */
export function maskHeaders(text: string): string {
  return text
    .replaceAll(authorization, (whole: string, before: string, scheme: string | undefined, value: string) => {
      const isSecret = scheme === undefined ? value.length >= 8 && looksRandom(value) : value.length >= 4;
      return isSecret && !isReference(value) ? `${before}${scheme ?? ''}[masked:authorization]` : whole;
    })
    .replaceAll(bearer, (whole: string, before: string, value: string) =>
      looksRandom(value) ? `${before}[masked:authorization]` : whole,
    )
    .replaceAll(cookies, '$1[masked:cookie]');
}

const flag = new RegExp(String.raw`(?<![\w-])(--?([a-z][a-z0-9-]{1,40})(?:\s{1,3}|=))${flagValue}`, 'gi');
const curlUser = new RegExp(String.raw`(\s(?:-u\s{0,2}|--(?:proxy-)?user(?:\s{1,2}|=)))${flagValue}`, 'g');
const curlCookie = new RegExp(String.raw`(\s(?:-b|--cookie)\s{1,2})${flagValue}`, 'g');
const shortFlag = new RegExp(
  String.raw`(\bsshpass\s{1,3}-p\s{0,3}|\bredis-cli\b[^\n|;]{0,120}?\s-a\s{1,3}|\b(?:docker|podman|helm)(?: registry)? login\b[^\n|;]{0,120}?\s-p\s{1,3}|\bmysql(?:dump|admin)?\b[^\n|;]{0,120}?\s-p(?=\S))${flagValue}`,
  'g',
);
const netrc = /\b((?:machine\s{1,9}\S{1,200}|default)\s{1,9}login\s{1,9}\S{1,200}\s{1,9}password\s{1,9})(\S+)/g;
// How prose goes on behind the name of a flag.
const prose =
  /^(?:-.*|is|was|and|or|to|in|for|with|from|as|if|not|the|that|this|when|flag|option|argument|parameter|value|instead|can|must|should|will)$/i;

/** `--password X`, `curl -u user:X`, `sshpass -p X` and their like, and lines of a `.netrc`. */
export function maskFlags(text: string): string {
  const unlessSaid = (whole: string, before: string, value: string) =>
    prose.test(value) || isReference(unquote(value)) ? whole : before + secret;
  let masked = text
    .replaceAll(flag, (whole: string, before: string, name: string, value: string) =>
      readName(name) === undefined && name !== 'pass' ? whole : unlessSaid(whole, before, value),
    )
    .replaceAll(shortFlag, unlessSaid)
    .replaceAll(netrc, unlessSaid);
  if (!/\bcurl\b/.test(masked)) return masked;
  masked = masked.replaceAll(curlUser, (whole: string, before: string, value: string) => {
    const user = unquote(value);
    const password = user.slice(user.indexOf(':') + 1);
    return !user.includes(':') || isReference(password)
      ? whole
      : `${before}${user.slice(0, user.indexOf(':'))}:${passwords}`;
  });
  return masked.replaceAll(curlCookie, (whole: string, before: string, value: string) =>
    value.includes('=') ? `${before}[masked:cookie]` : whole,
  );
}

const quote = String.raw`\\{0,3}["']?`;
const pair = new RegExp(
  String.raw`(\b(?:name|key|header)${quote}\s{0,3}[:=]\s{0,3}${quote})([A-Za-z0-9_.-]{2,64})(${quote}\s{0,3},?\s{0,20}${quote}value${quote}\s{0,3}[:=]\s{0,3}${quote})([^\s"'\\]{3,})`,
  'gi',
);

/** `name: DB_PASSWORD, value: …`, as lists of variables and headers have it. */
export function maskPairs(text: string): string {
  return text.replaceAll(pair, (whole: string, before: string, name: string, between: string, value: string) => {
    const isNamed = readName(name) !== undefined || /^(?:authorization|cookie)$/i.test(name);
    return isNamed && !isReference(value) ? before + name + between + secret : whole;
  });
}

const named =
  /\b(pass(?:word|phrase|code)|secret|token|(?:api|access|private|secret)[ _-]?key|credentials?)((?:\s{1,3}(?:is|was|to))?\s{1,3})(`[^`\n]{3,200}`|\([^()\n]{3,200}\))/gi;

/** "the password is `…`", "the token (…)": of what is no name and no sentence. */
export function maskProse(text: string): string {
  return text.replaceAll(named, (whole: string, name: string, between: string, value: string) => {
    const inner = value.slice(1, -1);
    const isWord = /\s/.test(inner) || /^[A-Za-z]+(?:[_.-][A-Za-z]+)*$/.test(inner) || !/[A-Za-z0-9]{3}/.test(inner);
    return isWord || isReference(inner) || inner.includes('(') ? whole : name + between + secret;
  });
}

const separator = /[:=]=*>?/g;
const nameMax = 64;

/** What is assigned to a name that says what it is, quoted or not, in code, settings and JSON that was escaped. */
export function maskAssigned(text: string): string {
  let masked = '';
  let from = 0;
  for (const { 0: sign, index } of text.matchAll(separator)) {
    if (index < from || (sign === ':' && (text[index + 1] === ':' || text[index - 1] === ':'))) continue;
    const name = nameBefore(text, index);
    const isAlone = /^pass$/i.test(name);
    const sure = readName(name) ?? (isAlone ? 'password' : undefined);
    if (sure === undefined) continue;
    let at = index + sign.length;
    while (at < index + sign.length + 8 && (text[at] === ' ' || text[at] === '\t')) at++;
    const isSpaced = at > index + sign.length;
    const { start, end, isQuoted } = valueAt(text, at);
    const value = text.slice(start, end);
    if (isAlone && !isQuoted && (isSpaced || sign === ':')) continue;
    const isOpen = isQuoted
      ? isReference(value) || value.length < 3
      : isNoSecret(value, text.slice(end, end + 1), isSpaced, sure);
    const isFigure = sure === 'secret' && /^[\d.,]{1,16}$/.test(value);
    if (isOpen || isFigure) continue;
    masked += text.slice(from, start) + secret;
    from = end;
  }
  return masked + text.slice(from);
}

function isNoSecret(value: string, next: string, isSpaced: boolean, sure: 'password' | 'secret'): boolean {
  const text = value.replace(/[.!?]$/, '');
  if (text.length < (sure === 'password' && !isSpaced ? 4 : 6) || isReference(text) || isCode(text, next, isSpaced))
    return true;
  // A word of prose; a password may be one.
  return sure === 'secret' && text.length < 20 && /^[A-Za-z]+$/.test(text);
}

const quoteBefore = /["'`\\\])]/;

function nameBefore(text: string, at: number): string {
  let end = at;
  while (end > at - 4 && (text[end - 1] === ' ' || text[end - 1] === '\t')) end--;
  if (text[end - 1] === '?') end--;
  for (const least = end - 6; end > least && quoteBefore.test(text[end - 1] ?? ''); ) end--;
  let start = end;
  while (start > end - nameMax && /[\w.-]/.test(text[start - 1] ?? '')) start--;
  return text.slice(start, end);
}

/** Where a value begins and ends; without a closing quote, at the end of the line. */
function valueAt(text: string, at: number): { start: number; end: number; isQuoted: boolean } {
  const [open] = /^(?:[rbfu]{1,2}(?=["']))?(\\{0,3}["'`])/i.exec(text.slice(at, at + 8)) ?? [];
  if (open === undefined) {
    unquoted.lastIndex = at;
    return { start: at, end: at + (unquoted.exec(text)?.[0].length ?? 0), isQuoted: false };
  }
  const close = open.replace(/^[a-z]+/i, '');
  const start = at + open.length;
  let end = start;
  for (; end < text.length && text[end] !== '\n'; end++) {
    if (text.startsWith(close, end)) return { start, end, isQuoted: true };
    if (text[end] === '\\') end++;
  }
  return { start, end: Math.min(end, text.length), isQuoted: true };
}

const unquoted = /[^\s"'`,;<>(){}[\]]*/y;

const unquote = (value: string) => value.replaceAll(/^["']|["']$/g, '');
