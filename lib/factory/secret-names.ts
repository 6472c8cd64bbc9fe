// What of a name says nothing of what it names: `TOKEN_V2`, `secret_key_base`, `client-key-data`.
const qualifier =
  /^(?:v?\d+|base|value|data|string|str|raw|plain|text|b64|base64|encoded|prod|production|dev|development|staging|test|old|new|current|default|primary|secondary|main|live)$/;
const always =
  /^(?:secrets?|tokens?|credentials?|creds|jwt|bearer)$|(?:secret|token|apikey|accesskey|secretkey|privatekey)$/;
const password = /(?:password|passwort|passwd|passphrase|passcode|pwd)s?$/;
const keyOf =
  /^(?:api|access|private|secret|encryption|decryption|signing|signature|master|account|service|auth|license|jwt|hmac|crypto|cipher|aes|app|client|shared|subscription|write)$/;
const passOf = /^(?:db|database|user|admin|root|smtp|mail|email|mysql|pg|postgres|redis|ftp|ldap|proxy|auth|login)$/;

/** How sure a name is that a secret stands behind it. */
export type NameOf = 'password' | 'secret' | undefined;

/** What a name, in any spelling, says of its value: `DB_PASS`, `secretKey`, `spring.datasource.password`, `_auth`. */
export function readName(name: string): NameOf {
  const words = name
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replaceAll(/([A-Z])([A-Z][a-z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
  while (words.length > 1 && qualifier.test(words.at(-1) ?? '')) words.pop();
  const [before = '', last = ''] = [words.at(-2), words.at(-1)];
  if (password.test(last) || (last === 'pass' && passOf.test(before))) return 'password';
  if (always.test(last) || (last === 'key' && keyOf.test(before))) return 'secret';
  return last === 'auth' && /^_+auth$/.test(name) ? 'secret' : undefined;
}

const nothing =
  /^(?:null|nil|none|undefined|true|false|yes|no|on|off|any|unknown|never|str|string|number|int|integer|bool|boolean|bytes|object|required|optional|include|omit|same-origin|inherit|redacted|hidden|[*x.•…-]{3,})$/i;
const variable = /^(?:\$[A-Z_][A-Z0-9_]*|\$[A-Za-z_]+|\$env:\w+|%[A-Za-z_]\w*%)$/;
const filledIn = /\$\{[^{}]{0,200}\}|\{\{[^{}]{0,200}\}\}|\$\([^()]{0,200}\)|%\([^()]{0,100}\)s|<[^<>]{1,60}>/g;

/** Whether a value is no secret but says where one is, or that there is one: all of it, since `$hunter2…` may be one. */
export function isReference(value: string): boolean {
  if (nothing.test(value) || variable.test(value) || value.startsWith('[masked:') || isPath(value)) return true;
  const rest = value.replaceAll(filledIn, '');
  return rest !== value && rest.length < 8;
}

/** Letters and digits, or upper and lower case, as no word has them. */
export const looksRandom = (value: string) =>
  (/\d/.test(value) && /[A-Za-z]/.test(value)) || (value.length >= 16 && /[a-z][A-Z]/.test(value));

const path = /^(?:(?:~|\.{1,2})?\/|[A-Za-z]:[\\/])(?:[\w.@ -]+[\\/])*[\w.@ -]*$/;
const isPath = (value: string) =>
  value.length <= 1024 &&
  path.test(value) &&
  !value.split(/[\\/]/).some((part) => part.length > 24 && looksRandom(part));

const chain = /^[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*)*$/;
const keyword = /^(?:await|async|new|function|return|typeof|void|yield|lambda|not|self|this)$/;

/**
 * Whether what stands without quotes behind a name is code that comes by a secret: `getPassword()`, `req.body.password`.
 *
 * @param next what comes behind it.
 * @param isSpaced whether there is space before it, as code has it and the shell cannot.
 */
export function isCode(value: string, next: string, isSpaced: boolean): boolean {
  if (!chain.test(value)) return false;
  if (keyword.test(value) || /^[([]/.test(next)) return true;
  const last = value.split('.').at(-1) ?? '';
  return readName(last) !== undefined || (isSpaced && last !== value);
}
