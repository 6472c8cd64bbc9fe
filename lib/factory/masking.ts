import { Problem } from '../base/problem.ts';
import { cutText } from '../base/text.ts';

// Shapes of credentials, a name each, which stands in their place. The prefixes are those of gitleaks' default rules
// (https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml, MIT), joined and bounded so that none of them
// ever looks back. What is masked in vain costs a word; what is not is kept for ever.
const shapes: readonly (readonly [name: string, pattern: RegExp])[] = [
  [
    'private-key',
    /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,20000}?(?:-----END [A-Z0-9 ]{0,40}-----|$)/g,
  ],
  ['jwt', /\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,8000}(?:\.[A-Za-z0-9_-]{0,2000})?/g],
  ['aws', /\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b/g],
  ['github', /\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255})/g],
  ['gitlab', /\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_.-]{20,255}/g],
  [
    'slack',
    /\bxox[abeoprs]-[A-Za-z0-9-]{10,255}|\bxapp-\d-[A-Za-z0-9-]{10,255}|hooks\.slack\.com\/services\/[A-Za-z0-9/+]{20,100}/g,
  ],
  ['stripe', /\b(?:sk|rk|pk|whsec)_(?:live|test|prod)?_?[A-Za-z0-9]{20,255}/g],
  [
    'ai-provider',
    /\b(?:sk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_-]{20,255}|pplx-[A-Za-z0-9]{30,100}|gsk_[A-Za-z0-9]{30,100}|xai-[A-Za-z0-9]{30,100})/g,
  ],
  ['factory', /\bfk-[A-Za-z0-9_-]{16,255}/g],
  ['lamina', /\blam_[a-z0-9-]{1,60}_[A-Za-z0-9]{1,40}_[A-Za-z0-9]{10,100}/g],
  ['google', /\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,500}|\bGOCSPX-[A-Za-z0-9_-]{20,60}/g],
  ['npm', /\bnpm_[A-Za-z0-9]{36}/g],
  ['pypi', /\bpypi-[A-Za-z0-9_-]{50,500}/g],
  ['huggingface', /\bhf_[A-Za-z0-9]{30,60}/g],
  ['vault', /\bhv[sb]\.[A-Za-z0-9_-]{20,300}/g],
  ['digitalocean', /\bdo[oprt]_v1_[a-f0-9]{64}/g],
  ['sendgrid', /\bSG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{30,60}/g],
  [
    'other-token',
    /\b(?:shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9]{40,50}|lin_api_[A-Za-z0-9]{32,64}|dapi[a-f0-9]{32}|sntry[su]_[A-Za-z0-9+/=_-]{40,300}|AGE-SECRET-KEY-1[A-Z0-9]{50,60}|PMAK-[A-Za-z0-9-]{50,70}|dckr_pat_[A-Za-z0-9_-]{20,60}|figd_[A-Za-z0-9_-]{30,60}|re_[A-Za-z0-9]{8,12}_[A-Za-z0-9]{20,30})/g,
  ],
  ['azure', /\b(?:AccountKey|SharedAccessKey|sig)=[A-Za-z0-9+/%]{30,120}={0,2}/g],
];

// What stands behind a name that says what it is, or between a scheme and a host.
const inUrl = /(\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s/:@"'<>]{0,100}):[^\s/@"'<>]{1,200}@/gi;
const inHeader =
  /\b((?:proxy-)?authorization["']?\s{0,3}[:=]\s{0,3}["']?(?:bearer|basic|token|digest)?|bearer)\s{1,3}[A-Za-z0-9+/=._~-]{12,2000}/gi;
const assigned =
  /((?:^|[^A-Za-z])[A-Za-z0-9_.-]{0,40}?(?:passwo?r?d|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|client[_-]?secret|credentials?)["']?\s{0,3}(?:=>|:=|=|:)\s{0,3})(?:"[^"\n]{4,500}"|'[^'\n]{4,500}'|[^\s"'`,;<>(){}[\]]{6,500})/gi;
// What is only a reference to a secret, or says that there is one, is none.
const noSecret =
  /^["']?(?:\$|<|\{\{|%\(|process\.env|os\.environ|\[masked|\*{3,}|x{4,}|\.\.\.|null|undefined|true|false|none|string|number|required)/i;

/** The text with whatever is shaped like a credential replaced by `[masked:<what>]`. */
export function maskText(text: string): string {
  if (text.length < 8) return text;
  let masked = text;
  for (const [name, pattern] of shapes) masked = masked.replace(pattern, `[masked:${name}]`);
  masked = masked.replace(inUrl, '$1:[masked:password]@').replace(inHeader, '$1 [masked:authorization]');
  return masked.replace(assigned, (whole: string, before: string) => {
    const value = whole.slice(before.length);
    return noSecret.test(value) ? whole : `${before}[masked:secret]`;
  });
}

// So much more than is kept of a text is looked at, so that no credential is cut where its shape is lost.
const overhang = 4096;

/** The beginning of a text, masked, and without what PostgreSQL cannot keep. */
export function maskAndCut(text: string, max: number): string {
  const masked = maskText(toStorable(cutText(text, max + overhang)));
  return masked.length > max || text.length > max + overhang ? `${cutText(masked, max)} …` : masked;
}

/** PostgreSQL keeps no U+0000 and no half character. */
export const toStorable = (text: string) => text.replaceAll('\u0000', '').toWellFormed();

const secretName =
  /(?:^|[_-]|[a-z0-9](?=[A-Z]))(?:password|passwd|pwd|passphrase|secret|token|apikey|api[_-]?key|authorization|access[_-]?key|private[_-]?key|credentials?)$/i;
const depthMax = 200;

/**
 * A JSON value with every text in it masked, and cut where it is longer than `textMax`.
 *
 * @throws Problem `unprocessable` where it is nested deeper than 200.
 */
export function maskValue(value: unknown, textMax: number, depth = 0): unknown {
  if (typeof value === 'string') return maskAndCut(value, textMax);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= depthMax) throw new Problem('unprocessable', `The event is nested deeper than ${depthMax}.`);
  if (Array.isArray(value)) return value.map((one) => maskValue(one, textMax, depth + 1));
  const masked = Object.entries(value).map(([key, member]) => {
    const isSecret = typeof member === 'string' && member !== '' && secretName.test(key) && !noSecret.test(member);
    return [maskAndCut(key, 200), isSecret ? '[masked:secret]' : maskValue(member, textMax, depth + 1)];
  });
  return Object.fromEntries(masked);
}
