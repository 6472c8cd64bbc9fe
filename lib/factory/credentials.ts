// How credentials begin, or what they stand in, by what is put in their place. Most are those of gitleaks' default rules
// (https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml, MIT), without their upper bounds: where a scanner
// wants no false alarm, this wants no rest. Nothing that has to follow comes behind a repetition without an end, but where
// only the beginning of a run is tried, so that all of them together look at a text once.
const shapes: Readonly<Record<string, readonly string[]>> = {
  jwt: [String.raw`(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*`],
  aws: [
    '(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])',
    'ABSK[A-Za-z0-9+/]{40,}={0,2}',
    'bedrock-api-key-[A-Za-z0-9+/=]{20,}',
  ],
  github: ['gh[pousr]_[A-Za-z0-9]{20,}', String.raw`github_pat_\w{20,}`],
  gitlab: [String.raw`gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct|oas)-[\w.-]{20,}`],
  slack: [
    'xox[abceoprs]-[A-Za-z0-9-]{10,}',
    String.raw`xapp-\d-[A-Za-z0-9-]{10,}`,
    String.raw`hooks\.slack\.com/(?:services|triggers|workflows)/[A-Za-z0-9/+_-]{20,}`,
  ],
  discord: [String.raw`discord(?:app)?\.com/api/webhooks/\d{5,25}/[\w-]{30,}`],
  telegram: [String.raw`\d{6,12}:AA[\w-]{32,}`],
  stripe: [String.raw`(?:sk|rk|pk|whsec)_(?:live_|test_|prod_)?(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{20,}`],
  'ai-provider': [
    String.raw`sk-(?:ant-|proj-|svcacct-|admin-|or-)?(?=[A-Za-z_-]{0,40}\d)[\w-]{20,}`,
    '(?:pplx|xai)-[A-Za-z0-9]{30,}',
    '(?:gsk|hf|r8)_[A-Za-z0-9]{30,}',
    String.raw`tvly-(?:dev-|prod-)?(?=[A-Za-z-]{0,40}\d)[A-Za-z0-9-]{20,}`,
  ],
  factory: [String.raw`fk-(?=[A-Za-z_-]{0,40}\d)[\w-]{16,}`],
  lamina: ['lam_[a-z0-9-]{1,60}_[A-Za-z0-9]{1,40}_[A-Za-z0-9]{10,}'],
  google: [
    String.raw`AIza[\w-]{35,}`,
    String.raw`ya29\.[\w-]{20,}`,
    String.raw`GOCSPX-[\w-]{20,}`,
    String.raw`1//0[\w-]{30,}`,
  ],
  azure: [String.raw`[\w~.]{3}\dQ~[\w~.-]{31,}`, '(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/%]{30,}={0,2}'],
  atlassian: [String.raw`AT(?:ATT|CTT|BB|OTT)3x[\w=.+/-]{20,}`],
  grafana: [String.raw`glsa_\w{20,}`, 'glc_[A-Za-z0-9+/]{20,}={0,2}'],
  npm: ['npm_[A-Za-z0-9]{36,}'],
  pypi: [String.raw`pypi-[\w-]{50,}`],
  rubygems: ['rubygems_[a-f0-9]{40,}'],
  vault: [String.raw`hv[sbr]\.[\w-]{20,}`],
  tailscale: ['tskey-[a-z]{2,20}-[A-Za-z0-9-]{10,}'],
  supabase: ['sbp_[a-f0-9]{40,}', String.raw`sb_secret_[\w-]{20,}`],
  vercel: [String.raw`vercel_blob_rw_\w{20,}`, 'vc[piark]_[A-Za-z0-9]{20,}'],
  notion: ['ntn_[A-Za-z0-9]{40,}', 'secret_[A-Za-z0-9]{43}(?![A-Za-z0-9])'],
  digitalocean: ['do[oprt]_v1_[a-f0-9]{64}'],
  sendgrid: [String.raw`SG\.[\w-]{16,}\.[\w-]{30,}`],
  '1password': ['ops_eyJ[A-Za-z0-9+/=]{40,}'],
  token: [
    'shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,}',
    String.raw`dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9]{40,}`,
    'lin_(?:api|oauth)_[A-Za-z0-9]{32,}',
    'dapi[a-f0-9]{32}',
    'sntry[su]_[A-Za-z0-9+/=_-]{40,}',
    'AGE-SECRET-KEY-1[A-Z0-9]{50,}',
    'PMAK-[A-Za-z0-9-]{50,}',
    String.raw`dckr_(?:pat|oat)_[\w-]{20,}`,
    String.raw`fig[dou][rh]?_[\w-]{30,}`,
    're_[A-Za-z0-9]{8,12}_[A-Za-z0-9]{20,}',
    String.raw`pscale_(?:pw|tkn|oauth)_[\w=.-]{32,}`,
    String.raw`CFPAT-[\w-]{40,}`,
    'NRAK-[A-Z0-9]{20,}',
    String.raw`HRKU-[\w-]{36,}`,
    'pul-[a-f0-9]{40}',
    'nf[pco]_[A-Za-z0-9]{36,}',
    'fm[12][ar]?_[A-Za-z0-9+/=,_-]{100,}',
    String.raw`(?:EAAA|sq0(?:atp|csp)-)[\w-]{22,}`,
    'bkua_[a-z0-9]{40}',
    'ph[xs]_[A-Za-z0-9]{40,}',
  ],
};

const names = Object.keys(shapes);
const known = new RegExp(
  `(?<![A-Za-z0-9])(?:${Object.values(shapes)
    .map((each) => `(${each.join('|')})`)
    .join('|')})`,
  'g',
);

/** The text with every credential that is known by its shape replaced by `[masked:<whose>]`. */
export function maskShapes(text: string): string {
  return maskPrivateKeys(text).replace(known, (_whole, ...groups: unknown[]) => {
    const at = groups.findIndex((group) => group !== undefined);
    return `[masked:${names[at]}]`;
  });
}

const keyBegins = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----/g;
const keyEnds = '-----END ';

/** Up to where it ends, or all the rest: what was cut in the middle is none the less half of a key. */
function maskPrivateKeys(text: string): string {
  let masked = '';
  let at = 0;
  for (const { 0: begin, index } of text.matchAll(keyBegins)) {
    if (index < at) continue;
    const end = text.indexOf(keyEnds, index + begin.length);
    const close = end < 0 ? -1 : text.indexOf('-----', end + keyEnds.length);
    masked += `${text.slice(at, index)}[masked:private-key]`;
    at = close < 0 ? text.length : close + 5;
  }
  return masked + text.slice(at);
}
